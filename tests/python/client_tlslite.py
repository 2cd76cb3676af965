"""A client whose TLS is pure Python (tlslite-ng): no library for a probe to find, as with Java or a stripped binary.

Makes --calls chat calls on one connection and prints one JSON line for each: what it wrote and read as plaintext, in
bytes, and on the monotonic clock when it wrote the request and when it read each piece.
"""

import argparse
import json
import socket
import time
from urllib.parse import urlsplit

from tlslite.api import HandshakeSettings, TLSConnection


def request(url, stream, prompt, key):
    body = {"model": "inferscope-test-model", "messages": [{"role": "user", "content": prompt}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(body).encode()
    head = (
        f"POST {url.path}/chat/completions HTTP/1.1\r\nhost: {url.netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def is_whole(answer):
    """Whether a response is over, whichever way its end is said."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if lengths:
        return len(body) >= int(lengths[0].split(b":")[1])
    return body.endswith(b"0\r\n\r\n")


def call(connection, message):
    start = time.monotonic_ns()
    connection.sendall(message)
    answer, pieces = b"", []
    while not is_whole(answer):
        piece = connection.recv(65536)
        if not piece:
            break
        answer += piece
        pieces.append(time.monotonic_ns())
    return {
        "start_ns": start,
        "written": len(message),
        "read": len(answer),
        "pieces_ns": pieces,
        "status": int(answer.split(b" ", 2)[1]),
        "end": "done" if is_whole(answer) else "broken",
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--server-name")
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--prompt", default="Say a few words.")
    parser.add_argument("--api-key", default="sk-test")
    parser.add_argument("--tls", choices=["1.2", "1.3"], default="1.3")
    args = parser.parse_args()
    url = urlsplit(args.base_url)
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = (3, 4) if args.tls == "1.3" else (3, 3)
    raw = socket.create_connection((url.hostname, url.port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = TLSConnection(raw)
    connection.handshakeClientCert(settings=settings, serverName=args.server_name, alpn=[bytearray(b"http/1.1")])
    for _ in range(args.calls):
        print(json.dumps(call(connection, request(url, args.stream, args.prompt, args.api_key))), flush=True)
    connection.close()


if __name__ == "__main__":
    main()
