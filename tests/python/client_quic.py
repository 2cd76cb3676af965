"""A client of the capture matrix over HTTP/3: makes the calls of plan.py on one QUIC connection.

usage: client_quic.py BASE_URL CA
"""

import asyncio
import sys
from urllib.parse import urlsplit

import plan
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.over = {}

    def quic_event_received(self, event):
        for part in self.http.handle_event(event):
            if isinstance(part, (DataReceived, HeadersReceived)) and part.stream_ended:
                self.over[part.stream_id].set_result(None)

    async def post(self, where, body):
        stream = self._quic.get_next_available_stream_id()
        self.over[stream] = asyncio.get_running_loop().create_future()
        fields = {":method": "POST", ":scheme": "https", ":authority": where.netloc, ":path": where.path}
        fields["content-type"] = "application/json"
        self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in fields.items()])
        self.http.send_data(stream, body, True)
        self.transmit()
        await self.over[stream]


async def main():
    where = urlsplit(f"{sys.argv[1]}/chat/completions")
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, cafile=sys.argv[2])
    async with connect(where.hostname, where.port, configuration=configuration, create_protocol=Client) as client:
        for body in plan.bodies():
            await client.post(where, body)


asyncio.run(main())
