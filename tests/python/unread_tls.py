"""Maps libssl and does not use it: moves bytes in the form of TLS records over a connection to itself, then prints `sent`
and waits for the end of standard input.

    unread_tls.py LIBSSL
"""

import ctypes
import socket
import sys

RECORD = b"\x17\x03\x03\x10\x00" + bytes(4096)
RECORDS = 16

library = ctypes.CDLL(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
for _ in range(RECORDS):
    client.sendall(RECORD)
    received = b""
    while len(received) < len(RECORD):
        received += server.recv(len(RECORD) - len(received))
print("sent", flush=True)
sys.stdin.read()
