"""An MCP server on its standard input and output, with the official SDK.

Prints a line that is no message before it begins, as careless servers do.
"""

import asyncio
import os

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("inferscope-test")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
async def slow(milliseconds: int) -> str:
    """Answer late, so that a later request is answered first."""
    await asyncio.sleep(milliseconds / 1000)
    return "late"


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("canary-of-the-tool")


@server.tool()
def echo(text: str) -> str:
    """Give back what came."""
    return text


@server.tool()
async def ask(context: Context) -> str:
    """Ask the client's model: a request the other way."""
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="canary-of-the-sample"))
    answer = await context.session.create_message(messages=[message], max_tokens=10)
    return str(answer.model)


@server.tool()
def die() -> str:
    """End without an answer."""
    os._exit(3)


@server.prompt()
def greeting(name: str) -> str:
    """A prompt."""
    return f"Greet {name}."


if __name__ == "__main__":
    print("Server is starting", flush=True)
    server.run("stdio")
