"""What a program needs that is alone in a network namespace: the loopback device, a server over TLS, and its prompts.

Shared by claude_alone.py and codex_alone.py, which `unshare --net` starts.
"""

import fcntl
import http.server
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading


def raise_loopback():
    """ip(8) may not be there: SIOCSIFFLAGS with IFF_UP | IFF_LOOPBACK | IFF_RUNNING."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x49))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with event streams, whose end is the connection's."""

    protocol_version = "HTTP/1.1"

    def request_body(self):
        return self.rfile.read(int(self.headers["content-length"]))

    def send_events(self, events):
        """Writes each event by itself; gives all that was written."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        reply = b""
        for event in events:
            piece = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(piece)
            self.wfile.flush()
            reply += piece
        return reply

    def log_message(self, *_):
        pass


def serve(handler, certificate, key):
    """Raises the loopback device and begins to serve on it; gives the port."""
    raise_loopback()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def run_for_each_line(command, environment):
    """For each line on standard input runs the program once with the line as its last argument, and prints what it said as a
    line of JSON."""
    print("ready", flush=True)
    for line in sys.stdin:
        run = subprocess.run(
            [*command, line.strip()], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
        print(json.dumps({"rc": run.returncode, "said": run.stdout.decode(), "err": run.stderr.decode()}), flush=True)
