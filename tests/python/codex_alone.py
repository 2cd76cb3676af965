"""Codex against a server of its own, in a network namespace where nothing else is.

codex_alone.py CODEX CERTIFICATE KEY CA DIRECTORY: for each line on standard input runs the program once with the line as its prompt, and
prints what it said as a line of JSON. Answer number n has the id resp_n, n from 1 on, and 100 + n input tokens.
To be started by `unshare --net`.
"""

import itertools
import json
import os
import pathlib
import sys

import alone

WORDS = ["Hello ", "from ", "next ", "door."]


def events(model, n):
    response = {"id": f"resp_{n}", "object": "response", "model": model, "output": []}
    text = "".join(WORDS)
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": f"msg_{n}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {
        "input_tokens": 100 + n,
        "input_tokens_details": {"cached_tokens": 7},
        "output_tokens": len(WORDS),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 100 + n + len(WORDS),
    }
    yield {"type": "response.created", "response": {**response, "status": "in_progress"}}
    yield {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {**item, "status": "in_progress", "content": []},
    }
    for word in WORDS:
        yield {
            "type": "response.output_text.delta",
            "item_id": item["id"],
            "output_index": 0,
            "content_index": 0,
            "delta": word,
        }
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {
        "type": "response.completed",
        "response": {**response, "status": "completed", "output": [item], "usage": usage},
    }


class Responses(alone.Handler):
    """Answers /v1/responses."""

    numbers = itertools.count(1)

    def do_POST(self):
        body = self.request_body()
        if not self.path.startswith("/v1/responses"):
            self.send_error(404)
            return
        self.send_events(events(json.loads(body)["model"], next(self.numbers)))

    def do_GET(self):
        self.send_error(404)


CONFIG = """
model = "gpt-alone"
model_provider = "alone"
[model_providers.alone]
name = "alone"
base_url = "https://127.0.0.1:{port}/v1"
env_key = "ALONE_KEY"
wire_api = "responses"
"""


def main():
    codex, certificate, key, authority, directory = sys.argv[1:]
    port = alone.serve(Responses, certificate, key)
    home = pathlib.Path(directory) / "home"
    home.mkdir()
    (home / "config.toml").write_text(CONFIG.format(port=port))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CODEX_HOME": str(home),
        "CODEX_CA_CERTIFICATE": authority,
        "SSL_CERT_FILE": authority,
        "ALONE_KEY": "sk-not-a-key",
    }
    alone.run_for_each_line([codex, "exec", "--skip-git-repo-check", "--sandbox", "read-only"], environment)


main()
