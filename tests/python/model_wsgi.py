"""The test servers' rules (canned.py) as a WSGI application, for servers that fork."""

import json

from canned import Plan, Refused

CHUNKS = 12


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        plan = Plan("chat", json.loads(body), CHUNKS)
    except (Refused, ValueError) as error:
        answer = json.dumps(getattr(error, "body", {"error": str(error)})).encode()
        start_response("400 Bad Request", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]
    if not plan.stream:
        answer = json.dumps(plan.whole()).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    return events(plan)


def events(plan):
    yield plan.event([plan.opening(0)]).encode()
    for at in range(len(plan.pieces)):
        yield plan.event([plan.delta(0, at)]).encode()
    yield plan.event([plan.closing(0)]).encode()
    if plan.include_usage:
        yield plan.event([], plan.usage).encode()
    yield b"data: [DONE]\n\n"
