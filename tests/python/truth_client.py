"""A client whose own record of every byte is the truth that a capture is compared with (truth.py).

usage: truth_client.py FOLDER PORT [--ca FILE] [--gate N] [--close]
Makes the calls of plan.py on one connection, or with --close each on its own. With --gate it prints `held` once N of
them are over, and goes on when a line comes on standard input.
"""

import argparse
import json
import socket
import ssl
import sys

import plan
import truth


def connect(args):
    sock = socket.create_connection(("127.0.0.1", args.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if args.ca:
        context = ssl.create_default_context(cafile=args.ca)
        sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
    return truth.Wire(sock, args.folder)


def facts(body):
    """What the answer was, from what it said."""
    if not body.startswith(b"data: "):
        return {"id": json.loads(body)["id"], "stream": False, "chunks": None}
    lines = [line[6:] for line in body.decode().split("\n\n") if line.startswith("data: {")]
    events = [json.loads(line) for line in lines]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    return {"id": events[0]["id"], "stream": True, "chunks": sum(1 for delta in deltas if delta.get("content"))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("port", type=int)
    parser.add_argument("--ca")
    parser.add_argument("--gate", type=int)
    parser.add_argument("--close", action="store_true")
    args = parser.parse_args()
    wire = None
    for n, body in enumerate(plan.bodies()):
        if n == args.gate:
            print("held", flush=True)
            sys.stdin.readline()
        wire = wire or connect(args)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{args.port}\r\n"
        head += "connection: close\r\n" if args.close else ""
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        wire.send(head.encode() + body)
        start, _, answer = wire.message()
        if " 200 " not in start:
            sys.exit(f"call {n}: {start}\n{answer[:500]}")
        wire.mark(**facts(answer))
        if args.close:
            wire.close()
            wire = None
    if wire:
        wire.close()


main()
