"""Calls a server with the `openai` package and prints one JSON line per call: what the client itself saw.

A line has i, status, id, model, chunks (content or tool-call chunks; null when not streamed), usage, finish (one
per choice), tool_calls (names), ttft_ns, error (the code) and end: "done", "stopped" (this client closed the
stream), "broken" (the server went away) or "refused" (an HTTP error).
"""

import argparse
import asyncio
import copy
import json
import ssl
import sys
import time

import openai

ARGS = argparse.Namespace()
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up_weather",
        "description": "Current weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "unit": {"type": "string"}}},
    },
}


class Report:
    """What was seen of one call so far."""

    def __init__(self, i):
        self.begin = time.monotonic_ns()
        self.line = {
            "i": i,
            "status": None,
            "id": None,
            "model": None,
            "chunks": 0 if ARGS.stream else None,
            "usage": None,
            "finish": [],
            "tool_calls": [],
            "ttft_ns": None,
            "error": None,
            "end": "broken",
        }

    def head(self, answer):
        self.line["status"] = 200
        self.line["id"] = answer.id
        self.line["model"] = answer.model
        if answer.usage:
            usage = answer.usage
            self.line["usage"] = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}

    def chunk(self, chunk):
        """Takes one event in; True once --stop-after content chunks were seen."""
        self.head(chunk)
        for choice in chunk.choices:
            calls = [] if ARGS.api == "completions" else choice.delta.tool_calls or []
            text = choice.text if ARGS.api == "completions" else choice.delta.content
            for call in calls:
                if call.function.name:
                    self.line["tool_calls"].append(call.function.name)
            if text or calls:
                if self.line["ttft_ns"] is None:
                    self.line["ttft_ns"] = time.monotonic_ns() - self.begin
                    if ARGS.announce_first:
                        print(json.dumps({"event": "first", "i": self.line["i"]}), flush=True)
                self.line["chunks"] += 1
            if choice.finish_reason:
                self.line["finish"].append(choice.finish_reason)
        return ARGS.stop_after and self.line["chunks"] >= ARGS.stop_after

    def whole(self, answer):
        self.head(answer)
        for choice in answer.choices:
            self.line["finish"].append(choice.finish_reason)
            calls = [] if ARGS.api == "completions" else choice.message.tool_calls or []
            self.line["tool_calls"] += [call.function.name for call in calls]

    def failed(self, error):
        if isinstance(error, openai.APIStatusError):
            self.line |= {"status": error.status_code, "error": error.code, "end": "refused"}
        else:
            self.line |= {"error": type(error).__name__}

    def print(self):
        print(json.dumps(self.line), flush=True)


def request():
    fields = {"model": ARGS.model, "stream": ARGS.stream}
    if ARGS.api == "chat":
        fields["messages"] = [
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": ARGS.prompt},
        ]
        if ARGS.tools:
            fields["tools"] = [TOOL]
    else:
        fields["prompt"] = ARGS.prompt
    if ARGS.max_tokens:
        fields["max_tokens"] = ARGS.max_tokens
    if ARGS.n > 1:
        fields["n"] = ARGS.n
    if ARGS.stream and not ARGS.no_usage:
        fields["stream_options"] = {"include_usage": True}
    return fields


def endpoint(client):
    return client.chat.completions if ARGS.api == "chat" else client.completions


def call(client, i):
    report = Report(i)
    try:
        answer = endpoint(client).create(**request())
        if not ARGS.stream:
            report.whole(answer)
            report.line["end"] = "done"
        else:
            with answer:
                for chunk in answer:
                    if report.chunk(chunk):
                        report.line["end"] = "stopped"
                        break
                else:
                    report.line["end"] = "done"
    except Exception as error:  # whatever the library raises is part of the report
        report.failed(error)
    report.print()


async def call_async(client, i):
    report = Report(i)
    try:
        answer = await endpoint(client).create(**request())
        if not ARGS.stream:
            report.whole(answer)
            report.line["end"] = "done"
        else:
            async with answer:
                async for chunk in answer:
                    if report.chunk(chunk):
                        report.line["end"] = "stopped"
                        break
                else:
                    report.line["end"] = "done"
    except Exception as error:  # whatever the library raises is part of the report
        report.failed(error)
    report.print()


def gate():
    """Stops until the test says to go on, with the connection left open."""
    if ARGS.gate:
        sys.stdin.readline()


async def main_async(options):
    async with openai.AsyncOpenAI(http_client=openai.DefaultAsyncHttpxClient(**transport()), **options) as client:
        first = 0
        if ARGS.gate:
            await call_async(client, 0)
            await asyncio.to_thread(gate)
            first = 1
        numbers = iter(range(first, ARGS.calls))

        async def worker(lane):
            # Lanes that start apart do not meet in the server's event loop again and again.
            await asyncio.sleep(lane * ARGS.stagger_ms / 1000)
            for i in numbers:
                await call_async(client, i)

        await asyncio.gather(*(worker(lane) for lane in range(ARGS.concurrency)))


def main_sync(options):
    with openai.OpenAI(http_client=openai.DefaultHttpxClient(**transport()), **options) as client:
        for i in range(ARGS.calls):
            call(client, i)
            if i == 0:
                gate()


def transport():
    options = {"verify": ssl.create_default_context(cafile=ARGS.ca)} if ARGS.ca else {}
    if ARGS.http2:
        # A connection stays open while an agent starts, however slow the machine is.
        limits = copy.copy(openai.DEFAULT_CONNECTION_LIMITS)
        limits.keepalive_expiry = None
        options |= {"http1": False, "http2": True, "limits": limits}
    return options


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--ca")
    parser.add_argument("--http2", action="store_true", help="nothing but HTTP/2, also without TLS")
    parser.add_argument("--api-key", default="sk-test")
    parser.add_argument("--mode", choices=["sync", "async"], default="sync")
    parser.add_argument("--api", choices=["chat", "completions"], default="chat")
    parser.add_argument("--model", default="inferscope-test-model")
    parser.add_argument("--prompt", default="Say a few words.")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--no-usage", action="store_true", help="ask for no usage chunk")
    parser.add_argument("--tools", action="store_true")
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--n", type=int, default=1)
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=1, help="async only")
    parser.add_argument("--stagger-ms", type=float, default=0, help="async only: start of one lane after another")
    parser.add_argument("--gate", action="store_true", help="wait for a line on stdin after the first call")
    parser.add_argument("--announce-first", action="store_true", help="print a line at each first content chunk")
    parser.add_argument("--stop-after", type=int, help="close the stream after so many content chunks")
    parser.parse_args(namespace=ARGS)
    # A retry would be a call that the test does not know of.
    options = {"base_url": ARGS.base_url, "api_key": ARGS.api_key, "max_retries": 0, "timeout": 60}
    if ARGS.mode == "async":
        asyncio.run(main_async(options))
    else:
        main_sync(options)


if __name__ == "__main__":
    main()
