"""Anthropic: messages."""

import json

from providers_answer import ARGUMENTS, NO_SUCH_MODEL, TEXT, WORDS, document, halves, sse

USAGE = {
    "input_tokens": 31,
    "cache_creation_input_tokens": 17,
    "cache_read_input_tokens": 1900,
    "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 5},
    "output_tokens": 43,
    "service_tier": "standard",
}


def answer(path, body):
    if body["model"] == NO_SUCH_MODEL:
        error = {"type": "not_found_error", "message": f"model: {NO_SUCH_MODEL}"}
        return document({"type": "error", "error": error, "request_id": "req_canned"}, status=404)
    if path.endswith("/messages"):
        return sse(events(body)) if body.get("stream") else document(message(body))
    raise ValueError(f"no such path: {path}")


def message(body):
    if body.get("tools"):
        block = {"type": "tool_use", "id": "toolu_canned", "name": body["tools"][0]["name"], "input": ARGUMENTS}
        stop = "tool_use"
    else:
        block, stop = {"type": "text", "text": TEXT}, "end_turn"
    return {
        "id": "msg_canned",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "claude-of-amazon") + "-2026",
        "content": [block],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
    }


def events(body):
    """Pairs of a name and data. The numbers of the first event are not the last ones."""
    whole = message(body)
    block, stop = whole["content"][0], whole["stop_reason"]
    started = {**whole, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    if block["type"] == "tool_use":
        empty = {**block, "input": {}}
        parts = halves(json.dumps(block["input"]))
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", *parts)]
    else:
        empty = {**block, "text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in WORDS]
    named = [
        ("message_start", {"message": started}),
        ("content_block_start", {"index": 0, "content_block": empty}),
        ("ping", {}),
        *(("content_block_delta", {"index": 0, "delta": delta}) for delta in deltas),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 43}}),
        ("message_stop", {}),
    ]
    return [(name, {"type": name, **data}) for name, data in named]
