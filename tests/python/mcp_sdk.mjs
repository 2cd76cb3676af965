// MCP over standard input and output with the official SDK for Node.
//
//     mcp_sdk.mjs NODE_MODULES client COMMAND ARG...     starts a server and calls it
//     mcp_sdk.mjs NODE_MODULES server                    is one
//
// The client says what it did as JSON, one line for each call.

import { pathToFileURL } from "node:url";

const [modules, role, ...command] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/sdk/dist/esm/${path}`));

async function server() {
  const { McpServer } = await load("server/mcp.js");
  const { StdioServerTransport } = await load("server/stdio.js");
  const server = new McpServer({ name: "inferscope-test", version: "1" });
  server.registerTool("add", { description: "Add" }, async () => ({ content: [{ type: "text", text: "3" }] }));
  server.registerTool("fail", { description: "Fail" }, async () => {
    throw new Error("canary-of-the-tool");
  });
  await server.connect(new StdioServerTransport());
}

async function client() {
  const { Client } = await load("client/index.js");
  const { StdioClientTransport } = await load("client/stdio.js");
  const say = (method, target = null, error = null) => console.log(JSON.stringify({ method, target, error }));
  const client = new Client({ name: "inferscope-test", version: "1" });
  await client.connect(new StdioClientTransport({ command: command[0], args: command.slice(1) }));
  say("initialize");
  await client.listTools();
  say("tools/list");
  for (const name of ["add", "fail"]) {
    const { isError } = await client.callTool({ name, arguments: name === "add" ? { a: 1, b: 2 } : {} });
    say("tools/call", name, isError ? "tool_error" : null);
  }
  await client.close();
}

await (role === "server" ? server() : client());
