"""Many TLS connections from one event loop, over several servers: each sends the same request at the same moment.

Prints one JSON line per call: id (of the response), port (this end's) and server (the other end's port).
"""

import argparse
import asyncio
import json
import ssl
from urllib.parse import urlsplit

ARGS = argparse.Namespace()


def request(netloc):
    """The same bytes for every connection to servers whose ports have as many digits."""
    message = {"role": "user", "content": "Say a few words."}
    body = {"model": ARGS.model, "messages": [message], "stream": ARGS.stream}
    body = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {netloc}\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


async def read_body(reader):
    """The body of one response, chunked or with a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = [line.split(":")[1] for line in head.split("\r\n") if line.startswith("content-length:")]
    if length:
        return await reader.readexactly(int(length[0]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


async def connection(url, together):
    """One connection's calls; the first is sent when all connections are open."""
    context = ssl.create_default_context(cafile=ARGS.ca)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
    await together()
    for _ in range(ARGS.calls):
        writer.write(request(url.netloc))
        body = (await read_body(reader)).decode()
        first = next(line for line in body.removeprefix("data: ").split("\n") if line)
        port = writer.get_extra_info("sockname")[1]
        print(json.dumps({"id": json.loads(first)["id"], "port": port, "server": url.port}), flush=True)
    writer.close()


async def main():
    """Opens all connections, then lets them go."""
    waiting, go = [], asyncio.Event()

    async def together():
        waiting.append(None)
        if len(waiting) == ARGS.connections:
            go.set()
        await go.wait()

    urls = [urlsplit(url) for url in ARGS.base_url]
    await asyncio.gather(*(connection(urls[i % len(urls)], together) for i in range(ARGS.connections)))


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", action="append", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--model", default="inferscope-test-model")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.parse_args(namespace=ARGS)


if __name__ == "__main__":
    parse()
    if ARGS.loop == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
