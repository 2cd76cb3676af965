"""Amazon Bedrock: converse and invoke of an Anthropic model, whole and as an event stream."""

import base64
import json
import struct
import urllib.parse
import zlib

import providers_anthropic
from providers_answer import ARGUMENTS, NO_SUCH_MODEL, TEXT, WORDS, Answer, document, halves

EVENT_STREAM = "application/vnd.amazon.eventstream"
USAGE = {
    "inputTokens": 33,
    "outputTokens": 41,
    "totalTokens": 1097,
    "cacheReadInputTokens": 1000,
    "cacheReadInputTokenCount": 1000,
    "cacheWriteInputTokens": 23,
    "cacheWriteInputTokenCount": 23,
}
COUNTS = {
    "x_amzn_bedrock_input_token_count": "31",
    "x_amzn_bedrock_output_token_count": "43",
    "x_amzn_bedrock_cache_read_input_token_count": "1900",
    "x_amzn_bedrock_cache_write_input_token_count": "17",
    "x_amzn_bedrock_invocation_latency": "250",
    "x_amzn_requestid": "canned-request",
}


def answer(path, body):
    _, _, model, operation = path.split("/")
    if urllib.parse.unquote(model) == NO_SUCH_MODEL:
        message = {"message": "The provided model identifier is invalid."}
        return document(message, status=400, x_amzn_errortype="ValidationException:http://internal/")
    if operation == "converse":
        return document(converse(body))
    if operation == "converse-stream":
        return frames(converse_events(body))
    if operation == "invoke":
        return document(providers_anthropic.message(body), **COUNTS)
    if operation == "invoke-with-response-stream":
        return frames(invoke_events(body))
    raise ValueError(f"no such path: {path}")


def converse(body):
    if body.get("toolConfig"):
        name = body["toolConfig"]["tools"][0]["toolSpec"]["name"]
        content, stop = {"toolUse": {"toolUseId": "tooluse_canned", "name": name, "input": ARGUMENTS}}, "tool_use"
    else:
        content, stop = {"text": TEXT}, "end_turn"
    message = {"role": "assistant", "content": [content]}
    return {"output": {"message": message}, "stopReason": stop, "usage": USAGE, "metrics": {"latencyMs": 250}}


def converse_events(body):
    whole = converse(body)
    content = whole["output"]["message"]["content"][0]
    yield "messageStart", {"role": "assistant"}
    if "toolUse" in content:
        tool = content["toolUse"]
        start = {"toolUse": {"toolUseId": tool["toolUseId"], "name": tool["name"]}}
        yield "contentBlockStart", {"contentBlockIndex": 0, "start": start}
        deltas = [{"toolUse": {"input": part}} for part in halves(json.dumps(tool["input"]))]
    else:
        deltas = [{"text": word} for word in WORDS]
    for delta in deltas:
        yield "contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}
    yield "contentBlockStop", {"contentBlockIndex": 0}
    yield "messageStop", {"stopReason": whole["stopReason"]}
    yield "metadata", {"usage": whole["usage"], "metrics": whole["metrics"]}


def invoke_events(body):
    """The model's own events, packed; the last one also holds what Amazon measured, which may count otherwise."""
    events = providers_anthropic.events(body)
    measured = {"inputTokenCount": 31, "outputTokenCount": 40, "invocationLatency": 250, "firstByteLatency": 90}
    events[-1][1]["amazon-bedrock-invocationMetrics"] = measured
    for _, event in events:
        yield "chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode()}


def frames(events):
    # Padding hides the length of words; each frame has another one.
    pieces = [frame(name, {**data, "p": "abcdefghijklmnop"[:n]}) for n, (name, data) in enumerate(events)]
    return Answer(pieces, kind=EVENT_STREAM, headers={"x-amzn-requestid": "canned-request"}, streams=True)


def frame(event, payload):
    """Lengths, their CRC-32, headers, payload, and the CRC-32 of all of it."""
    string = 7
    headers = b""
    for name, value in {":event-type": event, ":content-type": "application/json", ":message-type": "event"}.items():
        headers += struct.pack(">B", len(name)) + name.encode()
        headers += struct.pack(">BH", string, len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return head + struct.pack(">I", zlib.crc32(head))
