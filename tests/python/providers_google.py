"""Google: Gemini's generateContent and streamGenerateContent."""

from providers_answer import ARGUMENTS, NO_SUCH_MODEL, TEXT, WORDS, document, sse

USAGE = {
    "promptTokenCount": 210,
    "cachedContentTokenCount": 150,
    "toolUsePromptTokenCount": 9,
    "candidatesTokenCount": 14,
    "thoughtsTokenCount": 77,
    "totalTokenCount": 310,
}


def answer(path, body):
    model, _, method = path.partition("?")[0].rpartition("/")[2].partition(":")
    if model == NO_SUCH_MODEL:
        error = {"code": 404, "message": f"models/{NO_SUCH_MODEL} is not found", "status": "NOT_FOUND"}
        return document({"error": error}, status=404)
    if method == "generateContent":
        return document(chunk(model, [part(body)], USAGE, "STOP"))
    if method == "streamGenerateContent" and "alt=sse" in path:
        parts = [part(body)] if body.get("tools") else [{"text": word} for word in WORDS]
        early = {"promptTokenCount": 210, "candidatesTokenCount": 1, "totalTokenCount": 211}
        chunks = [chunk(model, [each], early) for each in parts[:-1]]
        whole = sse([*chunks, chunk(model, parts[-1:], USAGE, "STOP")])
        # This API ends its lines with CRLF.
        whole.pieces = [piece.replace(b"\n", b"\r\n") for piece in whole.pieces]
        return whole
    raise ValueError(f"no such path: {path}")


def part(body):
    if body.get("tools"):
        name = body["tools"][0]["functionDeclarations"][0]["name"]
        return {"functionCall": {"name": name, "args": ARGUMENTS}}
    return {"text": TEXT}


def chunk(model, parts, usage, finish=None):
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": f"{model}-2026",
        "responseId": "canned-gemini",
    }
