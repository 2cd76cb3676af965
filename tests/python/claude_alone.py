"""Claude Code against a server of its own, in a network namespace where nothing else is.

claude_alone.py CLAUDE CERTIFICATE KEY CA DIRECTORY: for each line on standard input runs the program once with the line as its prompt, and
prints what it said as a line of JSON. What the server read and wrote last is in DIRECTORY, request.bin and reply.bin.
To be started by `unshare --net`.
"""

import fcntl
import http.server
import json
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import sys
import threading

WORDS = ["Hello ", "from ", "next ", "door."]


def raise_loopback():
    """ip(8) may not be there: SIOCSIFFLAGS with IFF_UP | IFF_LOOPBACK | IFF_RUNNING."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x49))


def events(model):
    usage = {"input_tokens": 10, "output_tokens": 1}
    message = {"id": "msg_alone", "type": "message", "role": "assistant", "model": model, "content": []}
    yield {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for word in WORDS:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": len(WORDS)},
    }
    yield {"type": "message_stop"}


class Messages(http.server.BaseHTTPRequestHandler):
    """Answers /v1/messages with a stream, whose end is the connection's."""

    protocol_version = "HTTP/1.1"
    directory = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
            self.send_error(404)
            return
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        reply = b""
        for event in events(json.loads(body)["model"]):
            piece = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(piece)
            self.wfile.flush()
            reply += piece
        (self.directory / "request.bin").write_bytes(body)
        (self.directory / "reply.bin").write_bytes(reply)

    def log_message(self, *_):
        pass


def main():
    claude, certificate, key, authority, directory = sys.argv[1:]
    raise_loopback()
    Messages.directory = pathlib.Path(directory)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Messages)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = Messages.directory / "home"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": f"https://127.0.0.1:{server.server_port}",
        "ANTHROPIC_API_KEY": "sk-ant-not-a-key",
        "NODE_EXTRA_CA_CERTS": authority,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
    }
    print("ready", flush=True)
    for line in sys.stdin:
        command = [claude, "-p", line.strip()]
        run = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        print(json.dumps({"rc": run.returncode, "said": run.stdout.decode(), "err": run.stderr.decode()}), flush=True)


main()
