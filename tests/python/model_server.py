"""An OpenAI-compatible server that is no language model: FastAPI on uvicorn or, for HTTP/2, on hypercorn, answering with
canned words.

Prints "ready PORT" once it listens. Writes one JSON line per request to --log when the request is over: id, peer
port, when the application got the request (start_ns), when the first content chunk was about to be yielded
(first_ns), how many content chunks were yielded, usage and how it ended. Times are CLOCK_MONOTONIC.
"""

import argparse
import asyncio
import gc
import json
import socket
import sys
import threading
import time

import uvicorn
from canned import FINGERPRINT, MODEL, Plan, Refused
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

PACE = argparse.Namespace(chunks=20, interval_ms=10.0, first_token_ms=20.0)
app = FastAPI()


class Log:
    """Appends one line per request, whole lines only."""

    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8") if path else None
        self.lock = threading.Lock()

    def write(self, **fields):
        if self.file:
            with self.lock:
                self.file.write(json.dumps(fields) + "\n")
                self.file.flush()


LOG = Log(None)


def stamped(inner):
    """Stamps each request as early as an application can: before routing and before the body is read."""

    async def outer(scope, receive, send):
        if scope["type"] == "http":
            scope["start_ns"] = time.monotonic_ns()
        await inner(scope, receive, send)

    return outer


async def events(plan, note):
    """The stream of one answer. `note` is logged when it ends, whichever way."""
    end = "cancelled"
    try:
        if plan.api == "chat":
            for index in range(plan.n):
                yield plan.event([plan.opening(index)])
        await asyncio.sleep(PACE.first_token_ms / 1000)
        for at in range(len(plan.pieces)):
            if at:
                await asyncio.sleep(PACE.interval_ms / 1000)
            if at == PACE.hold_at:
                await hold()
            for index in range(plan.n):
                event = plan.event([plan.delta(index, at)])
                note["chunks"] += 1
                if note["first_ns"] is None:
                    note["first_ns"] = time.monotonic_ns()
                yield event
        for index in range(plan.n):
            yield plan.event([plan.closing(index)])
        if plan.include_usage:
            yield plan.event([], plan.usage)
        yield "data: [DONE]\n\n"
        end = "done"
    finally:
        LOG.write(**note, end=end)


async def hold():
    """Stops the first stream that comes here until a line comes on standard input."""
    PACE.hold_at = None
    print("held", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def answer(api, request):
    try:
        body = await request.json()
    except ValueError:
        body = None
    note = {
        "api": api,
        "peer_port": request.client.port if request.client else None,
        "start_ns": request.scope["start_ns"],
        "first_ns": None,
        "chunks": 0,
    }
    try:
        plan = Plan(api, body, PACE.chunks)
    except Refused as refused:
        LOG.write(**note, id=None, stream=None, usage=None, end="refused")
        return JSONResponse(refused.body, refused.status)
    note |= {"id": plan.id, "stream": plan.stream, "usage": plan.usage}
    if plan.stream:
        return StreamingResponse(events(plan, note), media_type="text/event-stream")
    await asyncio.sleep((PACE.first_token_ms + PACE.interval_ms * (len(plan.pieces) - 1)) / 1000)
    LOG.write(**note, end="done")
    return plan.whole()


@app.post("/v1/chat/completions")
async def chat(request: Request):
    return await answer("chat", request)


@app.post("/v1/completions")
async def completions(request: Request):
    return await answer("completions", request)


@app.get("/v1/models")
async def models():
    model = {"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "inferscope-tests"}
    return {"object": "list", "data": [model]}


@app.get("/health")
async def health():
    return {"status": "ok", "note": FINGERPRINT}


class Announcing(uvicorn.Server):
    """Says when it listens, and where."""

    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        if self.started:
            name = sockets[0].getsockname()
            print("ready", name if isinstance(name, str) else name[1], flush=True)


async def hypercorn(listener, args):
    """Serves HTTP/2, by agreement in TLS, by prior knowledge and by upgrade, and HTTP/1.1."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    listener.listen(1024)
    config.bind = [f"fd://{listener.fileno()}"]
    config.certfile, config.keyfile = args.cert, args.key
    config.loglevel = "WARNING"
    config.graceful_timeout = 1
    # A connection stays open while an agent starts, however slow the machine is.
    config.keep_alive_timeout = 120
    print("ready", listener.getsockname()[1], flush=True)
    await serve(stamped(app), config)


def main():
    global LOG
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--uds", help="path of a UNIX socket to listen on instead")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--http", choices=["httptools", "h11", "h2"], default="httptools", help="h2: with hypercorn")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--log")
    parser.add_argument("--tokenizer", help="not read: for who reads command lines, where engines name theirs")
    parser.add_argument("--chunks", type=int, default=PACE.chunks)
    parser.add_argument("--interval-ms", type=float, default=PACE.interval_ms)
    parser.add_argument("--hold-at", type=int)
    parser.add_argument("--first-token-ms", type=float, default=PACE.first_token_ms)
    args = parser.parse_args(namespace=PACE)
    LOG = Log(args.log)
    listener = socket.socket(socket.AF_UNIX) if args.uds else socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(args.uds or ("127.0.0.1", args.port))
    # A full collection walks every object of the imported frameworks, which stops all streams for tens of
    # milliseconds, in the middle of what this server logs as its own times.
    gc.freeze()
    if args.http == "h2":
        asyncio.run(hypercorn(listener, args))
        return
    config = uvicorn.Config(
        stamped(app),
        loop=args.loop,
        http=args.http,
        ssl_certfile=args.cert,
        ssl_keyfile=args.key,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        backlog=1024,
    )
    Announcing(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
