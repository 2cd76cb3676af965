"""The calls that every client of the capture matrix makes, in this order, one after the other.

client_matrix_node.mjs and the harness (tests/e2e/capture/bodies.rs) make the same ones.
"""

import json

MODEL = "inferscope-test-model"
# More than any buffer between two programs: a body that is written, and read, in many pieces.
BIG = 1 << 20


def request(prompt, stream=False):
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return body


def requests():
    return [
        request("first"),
        request("second"),
        request("x" * BIG),
        request("fourth", stream=True),
        request("fifth"),
    ]


def bodies():
    return [json.dumps(body).encode() for body in requests()]
