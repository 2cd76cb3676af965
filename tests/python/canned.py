"""The rules of the test servers: what they answer and what they count.

The Rust server (tests/src/model/) follows the same rules, so one set of expectations fits both:

* every chunk is one canned word; completion_tokens is the number of chunks that carry content, times n;
* prompt_tokens is the number of whitespace-separated words in the messages (or the prompt);
* max_tokens below the configured number of chunks cuts the answer and finishes with "length";
* a request that offers tools, and whose last message is not a tool's result, gets one call of the first tool, in
  chunks that are counted like content;
* a stream begins with a chunk that only carries the role, at once, so the first token is never the first event.
"""

import itertools
import json
import secrets

MODEL = "inferscope-test-model"
FINGERPRINT = "not a language model: it streams canned words at a steady pace"
UNKNOWN_MODEL = "no-such-model"
# "zephyrine" is in no other text of this project: the privacy tests look for it in what the agent writes.
WORDS = ["zephyrine", "words", "from", "a", "tin,", "served", "at", "a", "steady", "pace;"]
TOOL_ARGUMENTS = json.dumps({"place": "zephyrine bay", "unit": "celsius"})
TOOL_FRAGMENT = 8


class Refused(Exception):
    """An OpenAI-shaped error."""

    def __init__(self, status, code, message, param=None):
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        }


def words_in(value):
    """Words of a prompt, a message's content or a list of either."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(words_in(item) for item in value)
    if isinstance(value, dict):
        return words_in(value.get("content")) + (words_in(value["text"]) if "text" in value else 0)
    return 0


class Plan:
    """What will be answered to one request."""

    def __init__(self, api, body, chunks):
        field = "messages" if api == "chat" else "prompt"
        if not isinstance(body, dict) or not body.get(field):
            raise Refused(400, "missing_required_parameter", f"Missing required parameter: '{field}'.", field)
        if body.get("model") == UNKNOWN_MODEL:
            raise Refused(404, "model_not_found", f"The model '{UNKNOWN_MODEL}' does not exist.", "model")
        self.api = api
        self.model = MODEL
        self.id = ("chatcmpl-" if api == "chat" else "cmpl-") + secrets.token_hex(12)
        self.stream = bool(body.get("stream"))
        self.include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self.n = int(body.get("n") or 1)
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or chunks
        tools = body.get("tools") if api == "chat" and body.get("tool_choice") != "none" else None
        self.tool = None
        if tools and body["messages"][-1].get("role") != "tool":
            self.tool = tools[0]["function"]["name"]
            cuts = range(0, len(TOOL_ARGUMENTS), TOOL_FRAGMENT)
            self.pieces = [""] + [TOOL_ARGUMENTS[at : at + TOOL_FRAGMENT] for at in cuts]
            self.finish = "tool_calls"
        else:
            self.pieces = [word + " " for word in itertools.islice(itertools.cycle(WORDS), min(chunks, limit))]
            self.finish = "length" if limit < chunks else "stop"
        prompt = words_in(body[field])
        completion = len(self.pieces) * self.n
        self.usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def head(self, streamed):
        kind = "chat.completion" if self.api == "chat" else "text_completion"
        if streamed and self.api == "chat":
            kind += ".chunk"
        return {
            "id": self.id,
            "object": kind,
            "created": 1_700_000_000,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    def event(self, choices, usage=None):
        """One server-sent event."""
        data = self.head(True) | {"choices": choices}
        if self.include_usage:
            data["usage"] = usage
        return f"data: {json.dumps(data)}\n\n"

    def delta(self, index, at):
        """The choice of a content chunk: piece `at` of choice `index`."""
        piece = self.pieces[at]
        if self.api != "chat":
            return {"index": index, "text": piece, "logprobs": None, "finish_reason": None}
        if self.tool is None:
            delta = {"content": piece}
        elif at == 0:
            function = {"name": self.tool, "arguments": piece}
            delta = {"tool_calls": [{"index": 0, "id": f"call_{index}", "type": "function", "function": function}]}
        else:
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        return {"index": index, "delta": delta, "finish_reason": None}

    def opening(self, index):
        """The choice of the role-only chunk."""
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}

    def closing(self, index):
        """The choice of the chunk that carries the finish reason."""
        if self.api != "chat":
            return {"index": index, "text": "", "logprobs": None, "finish_reason": self.finish}
        return {"index": index, "delta": {}, "finish_reason": self.finish}

    def whole(self):
        """The answer to a request that wanted no stream."""
        text = "".join(self.pieces)
        choices = []
        for index in range(self.n):
            choice = {"index": index, "logprobs": None, "finish_reason": self.finish}
            if self.api != "chat":
                choice["text"] = text
            elif self.tool is None:
                choice["message"] = {"role": "assistant", "content": text}
            else:
                function = {"name": self.tool, "arguments": text}
                call = {"id": f"call_{index}", "type": "function", "function": function}
                choice["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
            choices.append(choice)
        return self.head(False) | {"choices": choices, "usage": self.usage}
