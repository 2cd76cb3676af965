"""Calls an OpenAI-compatible server through reqwest, the Rust client, whose TLS is rustls with aws-lc.

`--connections` calls at the same moment, spread over the servers, each `--calls` times on a connection of its own. Prints one
line of JSON per call, like the other test clients.
"""

import argparse
import asyncio
import json
import sys

from pyreqwest.client import ClientBuilder

ARGS = argparse.Namespace()


def absorb(said, data):
    """Takes in one JSON object of an answer."""
    said["id"] = said["id"] or data.get("id")
    said["model"] = said["model"] or data.get("model")
    said["usage"] = data.get("usage") or said["usage"]
    for choice in data.get("choices", []):
        if said["chunks"] is not None and (choice.get("delta") or {}).get("content"):
            said["chunks"] += 1
        if choice.get("finish_reason"):
            said["finish"].append(choice["finish_reason"])


async def call(client, url, number):
    """One call."""
    message = {"role": "user", "content": "Say a few words. " * (1 + number % 3)}
    body = {"model": ARGS.model, "messages": [message], "stream": ARGS.stream}
    if ARGS.stream:
        body["stream_options"] = {"include_usage": True}
    request = client.post(f"{url}/chat/completions").body_json(body).build()
    response = await request.send()
    chunks = 0 if ARGS.stream else None
    said = {"status": response.status, "id": None, "model": None, "chunks": chunks, "finish": [], "usage": None}
    for line in (await response.text()).splitlines():
        data = line.removeprefix("data: ").strip()
        if data and data != "[DONE]":
            absorb(said, json.loads(data))
    print(json.dumps({**said, "end": "done"}), flush=True)


async def main():
    """Opens the connections with their first calls; with `--wait`, a line on standard input starts each round."""
    authority = open(ARGS.ca, "rb").read()
    # One client for each: they must not share what they keep open.
    make = lambda: ClientBuilder().add_root_certificate_pem(authority).http1_only().build()  # noqa: E731
    clients = [make() for _ in range(ARGS.connections)]
    for number in range(ARGS.calls):
        if ARGS.wait:
            await asyncio.to_thread(sys.stdin.readline)
        urls = [ARGS.url[at % len(ARGS.url)] for at in range(ARGS.connections)]
        await asyncio.gather(*(call(client, url, number) for client, url in zip(clients, urls)))
    for client in clients:
        await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", action="append", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--model", default="inferscope-test-model")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--wait", action="store_true")
    parser.parse_args(namespace=ARGS)
    asyncio.run(main())
