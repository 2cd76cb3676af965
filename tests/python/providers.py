"""A server that answers as each provider's API does, for the providers' own SDKs.

usage: providers.py [--cert FILE --key FILE]

Prints `ready PORT`. The first part of a path names the provider, the rest is the path of its API. The answers are
canned, in the form that each API's public reference documents, and so are their numbers of tokens: each number is
another one, so that none can be taken for another. A request with tools gets a call of the first one. The model
`no-such-model` gets the provider's error. A stream comes in pieces, each flushed.

To add a provider: a module `providers_NAME.py` with a function `answer(path, body)` that gives an `Answer`, and its
line in `PROVIDERS`; its client in `client_sdks.py`.
"""

import argparse
import http.server
import json
import ssl

import providers_amazon
import providers_anthropic
import providers_cohere
import providers_google
import providers_mistral
import providers_ollama
import providers_openai

PROVIDERS = {
    "amazon": providers_amazon.answer,
    "anthropic": providers_anthropic.answer,
    "cohere": providers_cohere.answer,
    "google": providers_google.answer,
    "mistral": providers_mistral.answer,
    "ollama": providers_ollama.answer,
    "openai": providers_openai.answer,
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A piece must not wait for the next one.
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        provider, _, path = self.path.lstrip("/").partition("/")
        answer = PROVIDERS[provider](f"/{path}", json.loads(body))
        self.send_response(answer.status)
        for name, value in {"content-type": answer.kind, **answer.headers}.items():
            self.send_header(name, value)
        if not answer.streams:
            whole = b"".join(answer.pieces)
            self.send_header("content-length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in answer.pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        """Standard error is for what goes wrong."""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cert")
    parser.add_argument("--key")
    args = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if args.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(args.cert, args.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"ready {server.server_address[1]}", flush=True)
    server.serve_forever()


main()
