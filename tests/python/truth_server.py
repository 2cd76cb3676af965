"""A server whose own record of every byte is the truth that a capture is compared with (truth.py).

usage: truth_server.py FOLDER [--cert FILE --key FILE] [--http2] [--hold N]
Answers as canned.py says, over HTTP/1.1 or, with --http2 where the client agrees, HTTP/2. Prints `ready PORT`, and then
`opened` and `closed` for each connection and `answered` for each answer. With --hold the end of answer number N is held
back: it prints `held`, and goes on when a line comes on standard input.
"""

import argparse
import itertools
import json
import socket
import ssl
import sys
import threading

import canned
import truth

ARGS = argparse.Namespace()
CHUNKS = 12
# Bytes of the held answer that are sent late.
TAIL = 5
REQUESTS = itertools.count(1)


def say(word):
    # One write, so that lines of two threads do not mix.
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def hold(wire, data):
    """Sends an answer, the held one in two parts."""
    if next(REQUESTS) != ARGS.hold:
        wire.send(data)
        return
    wire.send(data[:-TAIL])
    say("held")
    sys.stdin.readline()
    wire.send(data[-TAIL:])


def parts(body):
    """What is answered: the plan, and the body in the pieces that it is sent in."""
    try:
        plan = canned.Plan("chat", json.loads(body), CHUNKS)
    except canned.Refused as refused:
        return None, 400, [json.dumps(refused.body).encode()]
    if not plan.stream:
        return plan, 200, [json.dumps(plan.whole()).encode()]
    events = [plan.event([plan.opening(0)])]
    events += [plan.event([plan.delta(0, at)]) for at in range(len(plan.pieces))]
    events.append(plan.event([plan.closing(0)]))
    if plan.include_usage:
        events.append(plan.event([], plan.usage))
    events.append("data: [DONE]\n\n")
    return plan, 200, [event.encode() for event in events]


def facts(plan):
    if plan is None:
        return {"id": None, "stream": False, "chunks": None}
    return {"id": plan.id, "stream": plan.stream, "chunks": len(plan.pieces)}


def http1(wire):
    def on_head(fields):
        if fields.get("expect", "").lower() == "100-continue":
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    while True:
        start, fields, body = wire.message(on_head)
        plan, status, pieces = parts(body)
        head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Bad Request'}\r\n"
        closes = fields.get("connection", "").lower() == "close" or start.endswith("HTTP/1.0")
        head += "connection: close\r\n" if closes else ""
        if plan is not None and plan.stream:
            wire.send((head + "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").encode())
            for piece in pieces:
                wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            hold(wire, b"0\r\n\r\n")
        else:
            head += f"content-type: application/json\r\ncontent-length: {len(pieces[0])}\r\n\r\n"
            hold(wire, head.encode() + pieces[0])
        wire.mark(**facts(plan))
        say("answered")
        if closes:
            return


def http2(wire):
    import h2.config
    import h2.connection
    import h2.events

    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    bodies = {}
    while True:
        for event in connection.receive_data(wire.receive()):
            if isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                plan, status, pieces = parts(bodies.pop(event.stream_id, b""))
                kind = "text/event-stream" if plan is not None and plan.stream else "application/json"
                connection.send_headers(event.stream_id, [(":status", str(status)), ("content-type", kind)])
                for piece in pieces:
                    connection.send_data(event.stream_id, piece)
                    wire.send(connection.data_to_send())
                connection.end_stream(event.stream_id)
                hold(wire, connection.data_to_send())
                wire.mark(**facts(plan))
                say("answered")
        wire.send(connection.data_to_send())


def serve(sock, context):
    protocol = None
    if context is not None:
        try:
            sock = context.wrap_socket(sock, server_side=True)
        except (OSError, ssl.SSLError) as error:
            print(f"no handshake: {error}", file=sys.stderr, flush=True)
            return
        protocol = sock.selected_alpn_protocol()
    wire = truth.Wire(sock, ARGS.folder)
    say("opened")
    try:
        (http2 if protocol == "h2" else http1)(wire)
    except (truth.Closed, OSError):
        pass
    finally:
        wire.close()
        say("closed")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--http2", action="store_true")
    parser.add_argument("--hold", type=int)
    parser.parse_args(namespace=ARGS)
    context = None
    if ARGS.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ARGS.cert, ARGS.key)
        context.set_alpn_protocols(["h2", "http/1.1"] if ARGS.http2 else ["http/1.1"])
    listener = socket.create_server(("127.0.0.1", 0))
    say(f"ready {listener.getsockname()[1]}")
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(sock, context), daemon=True).start()


main()
