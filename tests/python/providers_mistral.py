"""Mistral: chat completions, which are OpenAI's but for details."""

import json

from providers_answer import ARGUMENTS, NO_SUCH_MODEL, TEXT, WORDS, document, sse

USAGE = {"prompt_tokens": 47, "completion_tokens": 19, "total_tokens": 66, "num_cached_tokens": 32}


def answer(path, body):
    if body["model"] == NO_SUCH_MODEL:
        error = {
            "object": "error",
            "message": f"Invalid model: {NO_SUCH_MODEL}",
            "type": "invalid_model",
            "code": "1500",
            "raw_status_code": 400,
        }
        return document(error, status=400)
    if not path.endswith("/chat/completions"):
        raise ValueError(f"no such path: {path}")
    calls = None
    if body.get("tools"):
        # A tool call comes whole, also in a stream.
        function = {"name": body["tools"][0]["function"]["name"], "arguments": json.dumps(ARGUMENTS)}
        calls = [{"id": "canned123", "index": 0, "function": function}]
    finish = "tool_calls" if calls else "stop"
    whole = {"id": "canned-mistral", "created": 1700000000, "model": body["model"]}
    if not body.get("stream"):
        message = {"role": "assistant", "content": "" if calls else TEXT, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return document({**whole, "object": "chat.completion", "choices": [choice], "usage": USAGE})

    def chunk(delta, finish=None, **usage):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**whole, "object": "chat.completion.chunk", "choices": [choice], **usage}

    deltas = [{"content": "", "tool_calls": calls}] if calls else [{"content": word} for word in WORDS]
    middle = [chunk(delta) for delta in deltas[:-1]]
    last = chunk(deltas[-1], finish, usage=USAGE)
    return sse([chunk({"role": "assistant", "content": ""}), *middle, last], end="[DONE]")
