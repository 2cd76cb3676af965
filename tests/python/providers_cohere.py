"""Cohere: chat, rerank and embed, version 2."""

import json

from providers_answer import ARGUMENTS, NO_SUCH_MODEL, TEXT, WORDS, document, halves, sse

USAGE = {
    "billed_units": {"input_tokens": 23, "output_tokens": 29},
    "tokens": {"input_tokens": 523, "output_tokens": 37},
    "cached_tokens": 448,
}


def answer(path, body):
    if body["model"] == NO_SUCH_MODEL:
        return document({"id": "canned-error", "message": f"model '{NO_SUCH_MODEL}' not found"}, status=404)
    if path.endswith("/v2/chat"):
        return sse(events(body), end="[DONE]") if body.get("stream") else chat(body)
    if path.endswith("/v2/rerank"):
        meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
        return document({"id": "canned-rerank", "results": [{"index": 1, "relevance_score": 0.9}], "meta": meta})
    if path.endswith("/v2/embed"):
        meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 11}}
        embeddings = {"float": [[0.25, -0.5]]}
        whole = {"id": "canned-embed", "embeddings": embeddings, "texts": body["texts"], "meta": meta}
        return document({**whole, "response_type": "embeddings_by_type"})
    raise ValueError(f"no such path: {path}")


def tool_call(body):
    function = {"name": body["tools"][0]["function"]["name"], "arguments": json.dumps(ARGUMENTS)}
    return {"id": "canned-call", "type": "function", "function": function}


def chat(body):
    if body.get("tools"):
        message, finish = {"role": "assistant", "tool_calls": [tool_call(body)], "tool_plan": TEXT}, "TOOL_CALL"
    else:
        message, finish = {"role": "assistant", "content": [{"type": "text", "text": TEXT}]}, "COMPLETE"
    return document({"id": "canned-cohere", "message": message, "finish_reason": finish, "usage": USAGE})


def events(body):
    def of_message(**message):
        return {"message": message}

    named = [("message-start", {"id": "canned-cohere-stream", "delta": of_message(role="assistant", content=[])})]
    if body.get("tools"):
        call = tool_call(body)
        parts = halves(call["function"]["arguments"])
        call["function"] = {**call["function"], "arguments": ""}
        named += [("tool-plan-delta", {"delta": of_message(tool_plan=word)}) for word in WORDS]
        named.append(("tool-call-start", {"index": 0, "delta": of_message(tool_calls=call)}))
        for part in parts:
            delta = of_message(tool_calls={"function": {"arguments": part}})
            named.append(("tool-call-delta", {"index": 0, "delta": delta}))
        named.append(("tool-call-end", {"index": 0}))
        finish = "TOOL_CALL"
    else:
        named.append(("content-start", {"index": 0, "delta": of_message(content={"type": "text", "text": ""})}))
        for word in WORDS:
            named.append(("content-delta", {"index": 0, "delta": of_message(content={"text": word})}))
        named.append(("content-end", {"index": 0}))
        finish = "COMPLETE"
    named.append(("message-end", {"delta": {"finish_reason": finish, "usage": USAGE}}))
    return [(name, {"type": name, **data}) for name, data in named]
