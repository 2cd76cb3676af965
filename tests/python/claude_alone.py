"""Claude Code against a server of its own, in a network namespace where nothing else is.

claude_alone.py CLAUDE CERTIFICATE KEY CA DIRECTORY: for each line on standard input runs the program once with the line as its prompt, and
prints what it said as a line of JSON. What the server read and wrote last is in DIRECTORY, request.bin and reply.bin.
To be started by `unshare --net`.
"""

import json
import os
import pathlib
import sys

import alone

WORDS = ["Hello ", "from ", "next ", "door."]


def events(model):
    usage = {"input_tokens": 10, "output_tokens": 1}
    message = {"id": "msg_alone", "type": "message", "role": "assistant", "model": model, "content": []}
    yield {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for word in WORDS:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": len(WORDS)},
    }
    yield {"type": "message_stop"}


class Messages(alone.Handler):
    """Answers /v1/messages."""

    directory = None

    def do_POST(self):
        body = self.request_body()
        if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
            self.send_error(404)
            return
        reply = self.send_events(events(json.loads(body)["model"]))
        (self.directory / "request.bin").write_bytes(body)
        (self.directory / "reply.bin").write_bytes(reply)


def main():
    claude, certificate, key, authority, directory = sys.argv[1:]
    Messages.directory = pathlib.Path(directory)
    port = alone.serve(Messages, certificate, key)
    home = Messages.directory / "home"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": f"https://127.0.0.1:{port}",
        "ANTHROPIC_API_KEY": "sk-ant-not-a-key",
        "NODE_EXTRA_CA_CERTS": authority,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
    }
    alone.run_for_each_line([claude, "-p"], environment)


main()
