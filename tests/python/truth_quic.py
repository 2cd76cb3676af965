"""A server of HTTP/3 for the capture matrix: says the same words as truth_server.py, and keeps no record, because nothing
of what it carries is captured.

usage: truth_quic.py FOLDER --cert FILE --key FILE [--hold N]
"""

import argparse
import asyncio
import json
import sys

import canned
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated

ARGS = argparse.Namespace()
CHUNKS = 12


def say(word):
    print(word, flush=True)


class Server(QuicConnectionProtocol):
    answered = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = None
        self.bodies = {}

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
            say("opened")
        if isinstance(event, ConnectionTerminated) and self.http:
            say("closed")
        for part in self.http.handle_event(event) if self.http else []:
            if isinstance(part, DataReceived):
                self.bodies[part.stream_id] = self.bodies.get(part.stream_id, b"") + part.data
            if isinstance(part, (DataReceived, HeadersReceived)) and part.stream_ended:
                asyncio.ensure_future(self.answer(part.stream_id, self.bodies.pop(part.stream_id)))

    async def answer(self, stream, body):
        plan = canned.Plan("chat", json.loads(body), CHUNKS)
        self.http.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/json")])
        Server.answered += 1
        if Server.answered == ARGS.hold:
            say("held")
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        self.http.send_data(stream, json.dumps(plan.whole()).encode(), True)
        self.transmit()
        say("answered")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--hold", type=int)
    parser.parse_args(namespace=ARGS)
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(ARGS.cert, ARGS.key)
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Server)
    # Its address is nowhere in what it offers.
    say(f"ready {server._transport.get_extra_info('sockname')[1]}")
    await asyncio.Future()


asyncio.run(main())
