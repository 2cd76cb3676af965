"""A server that speaks OpenAI's Realtime API and the Responses API's WebSocket mode and is no language model.

Built on the `websockets` package. Prints "ready PORT" once it listens. A response has four content chunks and tokens that
its number tells, so that clients know what to expect; one that is asked for with "leave" in its instructions is broken
off by the server in its middle. Speech that is committed is transcribed and answered without being asked for. Any other
path is a chat, which says everything back.
"""

import argparse
import asyncio
import itertools
import json
import os
import ssl

from websockets.asyncio.server import serve

PIECES = ["one ", "two ", "three ", "four"]
NUMBERS = itertools.count(1)
INTERVAL = 0.01


async def say(socket, kind, **members):
    await socket.send(json.dumps({"type": kind, "event_id": "event_1", **members}))


def usage(n):
    return {
        "total_tokens": 120 + n,
        "input_tokens": 100,
        "output_tokens": 20 + n,
        "input_token_details": {
            "text_tokens": 60,
            "audio_tokens": 40,
            "cached_tokens": 32,
            "cached_tokens_details": {"text_tokens": 20, "audio_tokens": 12},
        },
        "output_token_details": {"text_tokens": 5, "audio_tokens": 15 + n},
    }


async def answer(socket, ask):
    """One response of the Realtime API."""
    n = next(NUMBERS)
    # The process's number keeps the ids of several servers apart.
    id = f"resp_{os.getpid()}_{n}"

    def response(status, output, counts):
        return {
            "object": "realtime.response",
            "id": id,
            "status": status,
            "status_details": None,
            "output": output,
            "conversation_id": "conv_1",
            "usage": counts,
        }

    place = {"response_id": id, "item_id": f"item_{n}", "output_index": 0, "content_index": 0}
    await say(socket, "response.created", response=response("in_progress", [], None))
    for at, piece in enumerate(PIECES):
        await asyncio.sleep(INTERVAL)
        await say(socket, "response.output_audio_transcript.delta", **place, delta=piece)
        if at == 1 and "leave" in ask.get("response", {}).get("instructions", ""):
            await socket.close(1011)
            return
    item = {
        "id": f"item_{n}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_audio", "transcript": "".join(PIECES)}],
    }
    await say(socket, "response.done", response=response("completed", [item], usage(n)))


async def realtime(socket, model):
    session = {
        "id": "sess_1",
        "object": "realtime.session",
        "type": "realtime",
        "model": f"{model}-1",
        "instructions": "be brief",
        "output_modalities": ["audio"],
        "audio": {"input": {"transcription": {"model": "whisper-2"}}},
    }
    await say(socket, "session.created", session=session)
    async for message in socket:
        event = json.loads(message)
        match event["type"]:
            case "session.update":
                await say(socket, "session.updated", session=session | event["session"])
            case "conversation.item.create":
                await say(socket, "conversation.item.added", item={"id": "item_u", **event["item"]})
            case "input_audio_buffer.commit":
                await say(socket, "input_audio_buffer.committed", item_id="item_s")
                counts = {"type": "tokens", "total_tokens": 22, "input_tokens": 13, "output_tokens": 9}
                kind = "conversation.item.input_audio_transcription.completed"
                await say(socket, kind, item_id="item_s", content_index=0, transcript="good day", usage=counts)
                await answer(socket, {})
            case "response.create":
                await answer(socket, event)


async def responses(socket):
    async for message in socket:
        event = json.loads(message)
        n = next(NUMBERS)
        response = {"id": f"resp_{os.getpid()}_{n}", "object": "response", "model": f"{event['model']}-1", "output": []}
        begun = response | {"status": "in_progress"}
        await say(socket, "response.created", response=begun, sequence_number=0)
        for at, piece in enumerate(PIECES):
            await asyncio.sleep(INTERVAL)
            place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "sequence_number": at + 1}
            await say(socket, "response.output_text.delta", **place, delta=piece)
        counts = {"input_tokens": 100, "output_tokens": 20 + n, "total_tokens": 120 + n}
        over = response | {"status": "completed", "usage": counts}
        await say(socket, "response.completed", response=over, sequence_number=9)


async def serve_one(socket):
    path, _, query = socket.request.path.partition("?")
    if path.endswith("/realtime"):
        model = dict(member.split("=", 1) for member in query.split("&"))["model"]
        await realtime(socket, model)
    elif path.endswith("/responses"):
        await responses(socket)
    else:
        async for message in socket:
            await socket.send(message)


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    args = parser.parse_args()
    context = None
    if args.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(args.cert, args.key)
    async with serve(serve_one, "127.0.0.1", 0, ssl=context) as server:
        print("ready", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
