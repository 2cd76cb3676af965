"""Calls a vLLM with the `openai` package and prints what the server and its own clock say of each call, a JSON line each.

usage: client_vllm.py URL levels LEVEL... [--calls N]   N calls at each level of concurrency, every second one a stream
       client_vllm.py URL hold N TOKENS                 N streams of so many tokens, all at once

A line of a call has id, stream, level, tokens (asked for), usage and metrics (as the server sent them), end: "done",
"broken" (the server went away) or "refused" (an error, in the answer or as an event), and error. With `hold`, `begun` is
printed once every stream has had a token, and a line on standard input makes one short call beside them.
"""

import argparse
import asyncio
import json
import sys

import openai

WORDS = "the quick brown fox jumps over the lazy dog while nobody in the whole wide world looks".split()


def prompt(number):
    """Of another length and another beginning for each call, so that nothing is cached."""
    count = 8 + number * 7 % 40
    return " ".join([f"call {number}:"] + [WORDS[(number + at) % len(WORDS)] for at in range(count)])


class Caller:
    def __init__(self, url):
        # A retry would be a call that the test knows nothing of.
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
        self.made = 0

    async def call(self, stream, level, tokens, begun=None):
        number, self.made = self.made, self.made + 1
        line = {"id": None, "stream": stream, "level": level, "tokens": tokens, "usage": None, "metrics": None}
        line |= {"end": "broken", "error": None}
        ask = {
            "model": "tiny",
            "messages": [{"role": "user", "content": prompt(number)}],
            "max_tokens": tokens,
            "temperature": 1,
            # Else a call would end at random.
            "extra_body": {"ignore_eos": True},
        }
        if stream:
            ask["stream_options"] = {"include_usage": True}
        try:
            answer = await self.client.chat.completions.create(stream=stream, **ask)
            if stream:
                async for chunk in answer:
                    self.take(line, chunk)
                    if begun and any(choice.delta.content for choice in chunk.choices):
                        begun.set()
            else:
                self.take(line, answer)
            line["end"] = "done"
        except openai.APIConnectionError as error:
            line["error"] = repr(error)
        except openai.APIError as error:
            line["end"], line["error"] = "refused", repr(error)
        except Exception as error:  # What a connection that is cut raises is the HTTP client's business.
            line["error"] = repr(error)
        print(json.dumps(line), flush=True)

    def take(self, line, part):
        line["id"] = part.id
        if part.usage:
            line["usage"] = {
                "prompt_tokens": part.usage.prompt_tokens,
                "completion_tokens": part.usage.completion_tokens,
            }
        line["metrics"] = (part.model_extra or {}).get("metrics") or line["metrics"]

    async def levels(self, levels, calls):
        for level in levels:
            left = iter(range(calls))

            async def one_after_the_other():
                for number in left:
                    await self.call(number % 2 == 0, level, 16 + number % 3 * 16)

            await asyncio.gather(*(one_after_the_other() for _ in range(level)))

    async def hold(self, count, tokens):
        marks = [asyncio.Event() for _ in range(count)]
        streams = [asyncio.create_task(self.call(True, count, tokens, mark)) for mark in marks]
        for mark, stream in zip(marks, streams):
            mark_set = asyncio.create_task(mark.wait())
            await asyncio.wait([mark_set, stream], return_when=asyncio.FIRST_COMPLETED)
            mark_set.cancel()
        print("begun", flush=True)
        if await asyncio.to_thread(sys.stdin.readline):
            await self.call(True, count, 4)
        await asyncio.gather(*streams)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    kinds = parser.add_subparsers(dest="kind", required=True)
    levels = kinds.add_parser("levels")
    levels.add_argument("levels", type=int, nargs="+")
    levels.add_argument("--calls", type=int, default=20)
    hold = kinds.add_parser("hold")
    hold.add_argument("count", type=int)
    hold.add_argument("tokens", type=int)
    args = parser.parse_args()

    async def run():
        caller = Caller(args.url)
        if args.kind == "levels":
            await caller.levels(args.levels, args.calls)
        else:
            await caller.hold(args.count, args.tokens)

    asyncio.run(run())


main()
