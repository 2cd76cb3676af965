"""OpenAI: chat completions, responses, embeddings."""

import json

from providers_answer import ARGUMENTS, NO_SUCH_MODEL, TEXT, WORDS, document, halves, sse

CHAT_USAGE = {
    "prompt_tokens": 101,
    "completion_tokens": 57,
    "total_tokens": 158,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 21, "audio_tokens": 0},
}
RESPONSES_USAGE = {
    "input_tokens": 202,
    "input_tokens_details": {"cached_tokens": 128},
    "output_tokens": 68,
    "output_tokens_details": {"reasoning_tokens": 32},
    "total_tokens": 270,
}


def answer(path, body):
    if body["model"] == NO_SUCH_MODEL:
        message = f"The model '{NO_SUCH_MODEL}' does not exist."
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": "model_not_found"}
        return document({"error": error}, status=404)
    if path.endswith("/chat/completions"):
        return chat_stream(body) if body.get("stream") else chat(body)
    if path.endswith("/responses"):
        return responses(body)
    if path.endswith("/embeddings"):
        return embeddings(body)
    raise ValueError(f"no such path: {path}")


def tool_call(body):
    function = {"name": body["tools"][0]["function"]["name"], "arguments": json.dumps(ARGUMENTS)}
    return {"id": "call_canned", "type": "function", "function": function}


def chat(body):
    if body.get("tools"):
        message, finish = {"role": "assistant", "content": None, "tool_calls": [tool_call(body)]}, "tool_calls"
    else:
        message, finish = {"role": "assistant", "content": TEXT, "refusal": None}, "stop"
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
    return document(
        {
            "id": "chatcmpl-canned-plain",
            "object": "chat.completion",
            "created": 1700000000,
            "model": body["model"] + "-2026",
            "choices": choices,
            "usage": CHAT_USAGE,
        }
    )


def chat_stream(body):
    def chunk(choices, usage=None):
        return {
            "id": "chatcmpl-canned-stream",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": body["model"] + "-2026",
            "choices": choices,
            "usage": usage,
        }

    def delta(delta, finish=None):
        return chunk([{"index": 0, "delta": delta, "finish_reason": finish}])

    events = [delta({"role": "assistant", "content": ""})]
    if body.get("tools"):
        call = tool_call(body)
        first, rest = halves(call["function"].pop("arguments"))
        call["function"]["arguments"] = ""
        events.append(delta({"tool_calls": [{"index": 0, **call}]}))
        for part in (first, rest):
            events.append(delta({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
        events.append(delta({}, "tool_calls"))
    else:
        events += [delta({"content": word}) for word in WORDS]
        events.append(delta({}, "stop"))
    if body.get("stream_options", {}).get("include_usage"):
        events.append(chunk([], CHAT_USAGE))
    return sse(events, end="[DONE]")


def responses(body):
    if body.get("tools"):
        item = {
            "type": "function_call",
            "id": "fc_canned",
            "call_id": "call_canned",
            "name": body["tools"][0]["name"],
            "arguments": json.dumps(ARGUMENTS),
            "status": "completed",
        }
    else:
        part = {"type": "output_text", "text": TEXT, "annotations": []}
        item = {"type": "message", "id": "msg_canned", "role": "assistant", "status": "completed", "content": [part]}
    whole = {
        "id": "resp_canned",
        "object": "response",
        "created_at": 1700000000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": body["model"] + "-2026",
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools", []),
        "usage": RESPONSES_USAGE,
    }
    if not body.get("stream"):
        return document(whole)

    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    at = {"item_id": item["id"], "output_index": 0}
    events = [("response.created", {"response": started}), ("response.in_progress", {"response": started})]
    if item["type"] == "function_call":
        empty = {**item, "arguments": "", "status": "in_progress"}
        events.append(("response.output_item.added", {"output_index": 0, "item": empty}))
        for part in halves(item["arguments"]):
            events.append(("response.function_call_arguments.delta", {**at, "delta": part}))
        done = {**at, "name": item["name"], "arguments": item["arguments"]}
        events.append(("response.function_call_arguments.done", done))
    else:
        part, at = item["content"][0], {**at, "content_index": 0}
        empty = {**item, "content": [], "status": "in_progress"}
        events.append(("response.output_item.added", {"output_index": 0, "item": empty}))
        events.append(("response.content_part.added", {**at, "part": {**part, "text": ""}}))
        events += [("response.output_text.delta", {**at, "delta": word, "logprobs": []}) for word in WORDS]
        events.append(("response.output_text.done", {**at, "text": TEXT, "logprobs": []}))
        events.append(("response.content_part.done", {**at, "part": part}))
    events.append(("response.output_item.done", {"output_index": 0, "item": item}))
    events.append(("response.completed", {"response": whole}))
    return sse((name, {"type": name, "sequence_number": n, **data}) for n, (name, data) in enumerate(events))


def embeddings(body):
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
    usage = {"prompt_tokens": 13, "total_tokens": 13}
    return document({"object": "list", "data": data, "model": body["model"] + "-2026", "usage": usage})
