"""An MCP client with the official SDK: starts a server and speaks to it over its standard input and output.

    client_mcp.py SCENARIO COMMAND ARG...

Says what it did as JSON, one line for each call: its method, its target, whether it failed.
"""

import asyncio
import json
import sys

import mcp_types as types
from mcp import ClientSession, StdioServerParameters, stdio_client


def say(method, target=None, error=None):
    print(json.dumps({"method": method, "target": target, "error": error}), flush=True)


async def sample(_context, _params):
    content = types.TextContent(type="text", text="canary-of-the-answer")
    return types.CreateMessageResult(role="assistant", model="test-model", content=content)


async def call(session, name, arguments=None):
    error = None
    try:
        result = await session.call_tool(name, arguments or {})
        error = "tool_error" if result.is_error else None
    except Exception as raised:
        error = type(raised).__name__
    say("tools/call", name, error)


async def everything(session):
    await session.list_tools()
    say("tools/list")
    await call(session, "add", {"a": 1, "b": 2})
    # Answered in the other order.
    await asyncio.gather(call(session, "slow", {"milliseconds": 300}), call(session, "add", {"a": 3, "b": 4}))
    await call(session, "fail")
    await call(session, "echo", {"text": "canary-of-the-arguments" * 40_000})
    await call(session, "ask")
    await session.get_prompt("greeting", {"name": "canary-of-the-prompt"})
    say("prompts/get", "greeting")


async def with_session(command, act):
    server = StdioServerParameters(command=command[0], args=command[1:])
    async with stdio_client(server) as (read, write):
        async with ClientSession(read, write, sampling_callback=sample) as session:
            await session.initialize()
            say("initialize")
            await act(session)


async def main(scenario, command):
    match scenario:
        case "everything":
            await with_session(command, everything)
        case "die":
            await with_session(command, lambda session: call(session, "die"))
        case "several":
            # All at once, with the same ids on each.
            add = lambda session: call(session, "add", {"a": 1, "b": 2})
            await asyncio.gather(*(with_session(command, add) for _ in range(4)))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
