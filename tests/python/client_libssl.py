"""A client that calls libssl itself, for what proper programs do seldom: load the library late, use one object for two
connections, use one address in two processes, die without freeing anything.

Does what each line of standard input says and prints one JSON object a call:
{"id", "pid", "port", "server", "fd", "object"}; `done` follows when a line is dealt with.

    load PATH               dlopen(3) the library
    call PORT...            a call to each port in turn, each with an object of its own, freed behind it
    clear PORT...           the same with one object, cleared in between
    fork PORT PORT          a child goes on with the connection to the first, while this process uses the object at the
                            same address for one to the second
    same-pid PID N PORT     N processes in turn with this number and one object at one address; none frees it, and the
                            first talks something that looks like TLS inside TLS
    map PATH N              maps a file executable and unmaps it again, N times
"""

import ctypes
import json
import mmap
import os
import re
import socket
import struct
import sys

BODY = b'{"model":"inferscope-test-model","messages":[{"role":"user","content":"Say a few words."}]}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
LIBC = ctypes.CDLL(None, use_errno=True)
SYS_CLONE3 = 435
SIGCHLD = 17

POINTER = ctypes.c_void_p


class Library:
    """The functions that are used, with their types."""

    def __init__(self, path):
        library = ctypes.CDLL(path)
        self.read = self.function(library, "SSL_read", ctypes.c_int, POINTER, ctypes.c_char_p, ctypes.c_int)
        self.write = self.function(library, "SSL_write", ctypes.c_int, POINTER, ctypes.c_char_p, ctypes.c_int)
        self.new = self.function(library, "SSL_new", POINTER, POINTER)
        self.free = self.function(library, "SSL_free", None, POINTER)
        self.clear = self.function(library, "SSL_clear", ctypes.c_int, POINTER)
        self.set_fd = self.function(library, "SSL_set_fd", ctypes.c_int, POINTER, ctypes.c_int)
        self.connect = self.function(library, "SSL_connect", ctypes.c_int, POINTER)
        method = self.function(library, "TLS_client_method", POINTER)
        context = self.function(library, "SSL_CTX_new", POINTER, POINTER)
        self.context = context(method())

    @staticmethod
    def function(library, name, result, *arguments):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
        return function


class Connection:
    """A TLS connection to a port of this machine, with an object that may have served another before."""

    def __init__(self, library, port, ssl=None):
        self.library, self.server = library, port
        self.ssl = ssl or library.new(library.context)
        self.socket = socket.create_connection(("127.0.0.1", port))
        library.set_fd(self.ssl, self.socket.fileno())
        assert library.connect(self.ssl) == 1, "no handshake"

    def send(self, data):
        assert self.library.write(self.ssl, data, len(data)) == len(data), "not written"

    def receive(self):
        received, buffer = b"", ctypes.create_string_buffer(16384)
        while (n := self.library.read(self.ssl, buffer, len(buffer))) > 0:
            received += buffer.raw[:n]
        return received

    def call(self):
        self.send(REQUEST)
        answer = self.receive()
        found = re.search(rb'"id": ?"(chatcmpl-[0-9a-f]+)"', answer)
        assert found, answer
        say(
            id=found[1].decode(),
            pid=os.getpid(),
            port=self.socket.getsockname()[1],
            server=self.server,
            fd=self.socket.fileno(),
            object=self.ssl,
        )

    def close(self):
        self.socket.close()


def say(**what):
    os.write(1, json.dumps(what).encode() + b"\n")


def call(library, ports):
    for port in ports:
        connection = Connection(library, port)
        connection.call()
        library.free(connection.ssl)
        connection.close()


def clear(library, ports):
    ssl = None
    for port in ports:
        connection = Connection(library, port, ssl)
        ssl = connection.ssl
        connection.call()
        connection.close()
        library.clear(ssl)
    library.free(ssl)


def fork(library, first, second):
    connection = Connection(library, first)
    child = os.fork()
    if child == 0:
        connection.call()
        os._exit(0)
    library.clear(connection.ssl)
    connection.close()
    Connection(library, second, connection.ssl).call()
    assert os.waitpid(child, 0)[1] == 0, "the child failed"
    library.free(connection.ssl)


def clone(pid):
    """fork(2) with a number of one's choice: 0 in the child."""
    wanted = (ctypes.c_int * 1)(pid)
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size,
    # cgroup
    arguments = struct.pack("11Q", 0, 0, 0, 0, SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1, 0)
    result = LIBC.syscall(SYS_CLONE3, arguments, len(arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"process {pid} cannot be had")
    return result


def same_pid(library, pid, n, port):
    for turn in range(n):
        child = clone(pid)
        if child == 0:
            connection = Connection(library, port)
            if turn == 0:
                # An application record of TLS 1.2, as far as anybody can tell. The server closes.
                connection.send(b"\x17\x03\x03\x00\x20" + bytes(32))
                connection.receive()
            else:
                connection.call()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, "the child failed"


def map_often(path, n):
    file = os.open(path, os.O_RDONLY)
    for _ in range(n):
        mmap.mmap(file, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    os.close(file)


def main():
    library = None
    for line in sys.stdin:
        command, *words = line.split()
        if command == "load":
            library = Library(words[0])
        elif command == "map":
            map_often(words[0], int(words[1]))
        else:
            work = {"call": lambda *ports: call(library, ports), "clear": lambda *ports: clear(library, ports)}
            work |= {"fork": lambda *ports: fork(library, *ports), "same-pid": lambda *rest: same_pid(library, *rest)}
            work[command](*map(int, words))
        os.write(1, b"done\n")


main()
