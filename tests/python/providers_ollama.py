"""Ollama's own API: chat and generate, a JSON document a line."""

from providers_answer import ARGUMENTS, NO_SUCH_MODEL, TEXT, WORDS, document, lines

END = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 900000000,
    "load_duration": 100000000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 200000000,
    "eval_count": 18,
    "eval_duration": 600000000,
}


def answer(path, body):
    if body["model"] == NO_SUCH_MODEL:
        return document({"error": f"model '{NO_SUCH_MODEL}' not found"}, status=404)
    head = {"model": body["model"], "created_at": "2026-01-02T03:04:05.678901Z"}
    if path.endswith("/api/generate"):
        texts, whole = [{"response": word} for word in WORDS], {"response": TEXT}
        empty = {"response": ""}
    elif path.endswith("/api/chat"):
        texts, whole = [said(content=word) for word in WORDS], said(content=TEXT)
        empty = said(content="")
        if body.get("tools"):
            function = {"name": body["tools"][0]["function"]["name"], "arguments": ARGUMENTS}
            whole = said(content="", tool_calls=[{"function": function}])
            texts = [whole]
    else:
        raise ValueError(f"no such path: {path}")
    # Without a word about it, this API streams.
    if not body.get("stream", True):
        return document({**head, **whole, **END})
    return lines([*({**head, **text, "done": False} for text in texts), {**head, **empty, **END}])


def said(**message):
    return {"message": {"role": "assistant", **message}}
