"""What a test's own end of a connection saw: every byte that it read and wrote, in files, as it happened.

Connection N of a directory is `N.read` and `N.written`, seen from here, and `N.marks`: a JSON line for each exchange
that is over, with `n` (the number of the exchange among all), the positions `read` and `written` behind it, and what the
answer was: `id`, `stream`, `chunks`.
"""

import itertools
import json
import pathlib
import ssl
import threading

MARKS = itertools.count()
CONNECTIONS = itertools.count()
LOCK = threading.Lock()


class Closed(Exception):
    """The other end is gone, between two messages."""


class Wire:
    """One connection, TLS or not, whose plaintext is kept."""

    def __init__(self, sock, folder):
        self.sock = sock
        base = pathlib.Path(folder) / str(next(CONNECTIONS))
        self.files = {name: open(f"{base}.{name}", "wb", buffering=0) for name in ("read", "written", "marks")}
        self.positions = {"read": 0, "written": 0}
        self.buffer = b""

    def keep(self, direction, data):
        self.files[direction].write(data)
        self.positions[direction] += len(data)

    def send(self, data):
        # Kept first: whoever has read it may ask what it was.
        self.keep("written", data)
        self.sock.sendall(data)

    def receive(self):
        try:
            data = self.sock.recv(65536)
        except (ssl.SSLEOFError, ConnectionResetError):
            data = b""
        if not data:
            raise Closed
        self.keep("read", data)
        return data

    def fill(self):
        self.buffer += self.receive()

    def take(self, n):
        while len(self.buffer) < n:
            self.fill()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def take_until(self, end):
        while end not in self.buffer:
            self.fill()
        data, _, self.buffer = self.buffer.partition(end)
        return data

    def mark(self, **answer):
        """An exchange is over. What is in the buffer belongs to the next."""
        with LOCK:
            line = {"n": next(MARKS), "read": self.positions["read"] - len(self.buffer), **answer}
            line["written"] = self.positions["written"]
            self.files["marks"].write(json.dumps(line).encode() + b"\n")

    def message(self, on_head=lambda fields: None):
        """The start line, the header fields and the body of the next HTTP/1.1 message."""
        # Empty lines before a message are passed over (RFC 9112 section 2.2).
        while not (head := self.take_until(b"\r\n\r\n").lstrip(b"\r\n")):
            pass
        start, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        on_head(fields)
        if fields.get("transfer-encoding") != "chunked":
            return start, fields, self.take(int(fields.get("content-length", 0)))
        body = b""
        while size := int(self.take_until(b"\r\n").partition(b";")[0], 16):
            body += self.take(size)
            self.take(2)
        self.take(2)
        return start, fields, body

    def close(self):
        self.sock.close()
        for file in self.files.values():
            file.close()
