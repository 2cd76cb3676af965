"""MCP over two pipes without any SDK: a client, and a server that is a shell script and so reads byte by byte.

    mcp_plain.py [--wait]

With --wait it reads a line from its own standard input before it goes on from `initialize`. Says what it did as JSON, one
line for each call.
"""

import json
import subprocess
import sys

SERVER = r"""
echo "a shell is ready"
while read -r line; do
    id=${line##*\"id\": }
    id=${id%%[,\}]*}
    case $line in
        *'"name": "die"'*) exit 3 ;;
        *'"id": '*) printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\n' "$id" ;;
    esac
done
"""

server = subprocess.Popen(["sh", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
last = 0


def send(message):
    server.stdin.write((json.dumps({"jsonrpc": "2.0", **message}) + "\n").encode())


def call(method, params, target=None):
    global last
    last += 1
    send({"method": method, "params": params, "id": last})
    error = "connection_reset"
    for line in server.stdout:
        if line.startswith(b"{") and json.loads(line)["id"] == last:
            error = None
            break
    print(json.dumps({"method": method, "target": target, "error": error}), flush=True)


call("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}})
if "--wait" in sys.argv:
    sys.stdin.readline()
send({"method": "notifications/initialized"})
call("tools/list", {})
call("tools/call", {"name": "add", "arguments": {"text": "canary-of-the-arguments"}}, "add")
call("tools/call", {"name": "die", "arguments": {}}, "die")
server.wait()
