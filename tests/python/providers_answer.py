"""What a provider's module gives: an answer, and the pieces that most of them are made of."""

import dataclasses
import json

JSON = "application/json"
NO_SUCH_MODEL = "no-such-model"
WORDS = ["Canned ", "words ", "from a tin."]
TEXT = "".join(WORDS)
ARGUMENTS = {"city": "Köln", "days": 2}


@dataclasses.dataclass
class Answer:
    """A status, headers and a body in pieces; `streams` when its length is not told."""

    pieces: list
    kind: str = JSON
    status: int = 200
    headers: dict = dataclasses.field(default_factory=dict)
    streams: bool = False


def document(body, status=200, **headers):
    """A JSON body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer([json.dumps(body, ensure_ascii=False).encode()], status=status, headers=named)


def sse(events, end=""):
    """Server-Sent Events; those that are a pair have a name."""
    pieces = []
    for event in events:
        name, data = event if isinstance(event, tuple) else (None, event)
        line = f"event: {name}\n" if name else ""
        pieces.append(f"{line}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode())
    if end:
        pieces.append(f"data: {end}\n\n".encode())
    return Answer(pieces, kind="text/event-stream", streams=True)


def lines(documents):
    """A JSON document a line."""
    pieces = [json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in documents]
    return Answer(pieces, kind="application/x-ndjson", streams=True)


def halves(text):
    """A text in two pieces."""
    return text[: len(text) // 2], text[len(text) // 2 :]
