"""Two ends of a TLS connection that is none: real record headers with noise inside, cut into calls in many ways.

Programs cut records as they like, and what the agent makes of a conversation must not depend on it. Prints one line for
each way, with the client's port; the conversation is always the same: SIZES.
"""

import random
import socket
import struct
import threading
import time

NAME = b"api.openai.com"
REQUEST = [300, 1200]
PIECES = [[170, 240], [250], [250, 1, 2], [260], [16384, 300], [250]]
OVERHEAD = 24  # TLS 1.2 with AES-GCM
PAUSE = 0.02


def record(kind, fragment):
    return struct.pack(">BHH", kind, 0x0303, len(fragment)) + fragment


def client_hello():
    name = struct.pack(">HBH", len(NAME) + 3, 0, len(NAME)) + NAME
    extensions = struct.pack(">HH", 51, 1300) + bytes(1300) + struct.pack(">HH", 0, len(name)) + name
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\xc0\x2f" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    return record(22, b"\1" + len(body).to_bytes(3, "big") + body)


def server_hello():
    body = b"\3\3" + bytes(32) + b"\0" + b"\xc0\x2f\0"
    return record(22, b"\2" + len(body).to_bytes(3, "big") + body)


def data(sizes):
    return b"".join(record(23, random.randbytes(size + OVERHEAD)) for size in sizes)


def whole(sock, message):
    sock.sendall(message)


def head_first(sock, message):
    """Five bytes and then the rest, record by record, each with a call of its own."""
    while message:
        length = 5 + struct.unpack(">H", message[3:5])[0]
        sock.sendall(message[:5])
        sock.sendall(message[5:length])
        message = message[length:]


def torn(sock, message):
    """In the middle of headers and of records, after a first piece that shows what it is."""
    sizes = iter([7, 1, 2, 3, 1, 1, 700, 4])
    while message:
        size = next(sizes, 333)
        sock.sendall(message[:size])
        message = message[size:]


def gathered(sock, message):
    """One call with several buffers, of which one is empty and others end inside a header."""
    cuts = [0, 6, 6, 8, 300, 326, 327, len(message)]
    buffers = [message[a:b] for a, b in zip(cuts, cuts[1:])]
    sent = sock.sendmsg(buffers)
    sock.sendall(message[sent:])


def read_by(size):
    def read(sock, count):
        while count:
            got = len(sock.recv(min(size, count)))
            assert got
            count -= got

    return read


def read_records(sock, count):
    while count:
        header = b""
        while len(header) < 5:
            header += sock.recv(5 - len(header))
        left = struct.unpack(">H", header[3:5])[0]
        count -= 5 + left
        while left:
            left -= len(sock.recv(left))


WAYS = {
    "whole": (whole, read_by(65536)),
    "head_first": (head_first, read_records),
    "torn": (torn, read_by(1000)),
    "gathered": (gathered, read_by(61)),
}


def serve(listener, messages):
    sock, _ = listener.accept()
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello, request, pieces = messages
        read_by(65536)(sock, len(hello))
        sock.sendall(server_hello())
        read_by(65536)(sock, len(request))
        for piece in pieces:
            time.sleep(PAUSE)
            sock.sendall(piece)
        sock.recv(1)


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    for way, (write, read) in WAYS.items():
        messages = client_hello(), data(REQUEST), [data(piece) for piece in PIECES]
        server = threading.Thread(target=serve, args=(listener, messages))
        server.start()
        with socket.create_connection(listener.getsockname()) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(messages[0])
            read(sock, len(server_hello()))
            write(sock, messages[1])
            for piece in messages[2]:
                read(sock, len(piece))
            print(way, sock.getsockname()[1], flush=True)
        server.join()


if __name__ == "__main__":
    main()
