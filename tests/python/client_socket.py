"""Speaks to a model, or chats, over WebSockets. Prints one JSON line per response: what the client itself saw.

A line has id, model, chunks, input and output tokens, and end: "done", "stopped" (this client closed the socket) or
"broken" (the server did). --by chooses the program below: the `websockets` package, whose messages are compressed, or the
`openai` package.
"""

import argparse
import asyncio
import json
import ssl
import sys

import openai
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

ARGS = argparse.Namespace()
MODEL = "gpt-realtime"


class Report:
    def __init__(self):
        self.line = {"id": None, "chunks": 0, "input_tokens": None, "output_tokens": None, "end": "broken"}

    def take(self, event):
        """Takes one event in; True once the response is over."""
        kind = event["type"]
        if kind == "response.created":
            self.line["id"] = event["response"]["id"]
        elif kind.endswith(".delta"):
            self.line["chunks"] += 1
        elif kind in ("response.done", "response.completed"):
            usage = event["response"]["usage"]
            self.line |= {"input_tokens": usage["input_tokens"], "output_tokens": usage["output_tokens"], "end": "done"}
            return True
        return False

    def print(self):
        print(json.dumps(self.line), flush=True)


def asks():
    """What is sent for each response, and whether this client leaves in its middle."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    if ARGS.path == "responses":
        create = {"type": "response.create", "model": MODEL, "store": False, "input": [item]}
        return [([create], False), ([create], False)]
    update = {"type": "session.update", "session": {"type": "realtime", "instructions": "be quick"}}
    create = {"type": "response.create"}
    leave = {"type": "response.create", "response": {"instructions": "leave"}}
    return [
        ([update, {"type": "conversation.item.create", "item": item}, create], False),
        ([{"type": "input_audio_buffer.append", "audio": "UklG" * 20_000}, {"type": "input_audio_buffer.commit"}], False),
        ([create if ARGS.stop else leave], ARGS.stop),
    ]


async def one(send, receive, close, messages, stops):
    report = Report()
    try:
        for message in messages:
            await send(message)
        while not report.take(await receive()):
            if stops and report.line["chunks"] == 2:
                report.line["end"] = "stopped"
                await close()
                break
    except ConnectionClosed:
        pass
    report.print()


async def by_websockets():
    context = ssl.create_default_context(cafile=ARGS.ca) if ARGS.ca else None
    url = ARGS.url.replace("http", "ws", 1) + f"/{ARGS.path}?model={MODEL}"
    headers = {"Authorization": "Bearer sk-canary-key"}
    async with connect(url, ssl=context, additional_headers=headers, proxy=None) as socket:

        async def send(message):
            await socket.send(json.dumps(message))

        async def receive():
            return json.loads(await socket.recv())

        for n, (messages, stops) in enumerate(asks()):
            if n and ARGS.gate:
                await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            await one(send, receive, socket.close, messages, stops)


async def by_openai():
    client = openai.AsyncOpenAI(base_url=ARGS.url, api_key="sk-canary-key", max_retries=0)
    options = {"ssl": ssl.create_default_context(cafile=ARGS.ca)} if ARGS.ca else {}
    if ARGS.path == "responses":
        manager = client.responses.connect(websocket_connection_options=options)
    else:
        manager = client.realtime.connect(model=MODEL, websocket_connection_options=options)
    async with manager as socket:

        async def receive():
            return json.loads(await socket.recv_bytes())

        for messages, stops in asks():
            await one(socket.send, receive, socket.close, messages, stops)


async def chat():
    """Many messages on a socket that is none of a model's."""
    async with connect(ARGS.url.replace("http", "ws", 1) + "/chat", compression=None, proxy=None) as socket:
        for n in range(ARGS.chat):
            await socket.send(json.dumps({"type": "response.create", "n": n, "text": "x" * 500}))
            await socket.recv()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--url", required=True)
parser.add_argument("--ca")
parser.add_argument("--by", choices=["websockets", "openai"], default="websockets")
parser.add_argument("--path", choices=["realtime", "responses"], default="realtime")
parser.add_argument("--stop", action="store_true", help="leave in the middle of the last response")
parser.add_argument("--gate", action="store_true", help="wait for a line before each response but the first")
parser.add_argument("--chat", type=int, default=0, metavar="N", help="only chat, N messages each way")
parser.parse_args(namespace=ARGS)
asyncio.run(chat() if ARGS.chat else by_websockets() if ARGS.by == "websockets" else by_openai())
