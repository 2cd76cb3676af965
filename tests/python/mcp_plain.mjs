// MCP over standard input and output without any SDK: a client that starts its own server with child_process, which makes
// UNIX socket pairs for its pipes.
//
//     mcp_plain.mjs client COMMAND ARG...     starts the server and calls it
//     mcp_plain.mjs server                    is one
//
// With a FIFO in WRITTEN the client reads nothing before the server has written its first answer.
//
// The client says what it did as JSON, one line for each call.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [role, ...command] = process.argv.slice(2);
const written = process.env.WRITTEN;
const write = (stream, message) => stream.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");

async function server() {
  console.log("plain server is ready");
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, method, params } = JSON.parse(line);
    if (method === "initialize") {
      write(process.stdout, { id, result: { protocolVersion: params.protocolVersion, capabilities: {} } });
      if (written) writeFileSync(written, "");
    } else if (method === "tools/call" && params.name === "echo") {
      write(process.stdout, { id, result: { content: [{ type: "text", text: params.arguments.text }] } });
    } else if (method === "tools/call") {
      write(process.stdout, { id, error: { code: -32602, message: "canary-of-the-error" } });
    }
  }
}

async function client() {
  const child = spawn(command[0], command.slice(1), { stdio: ["pipe", "pipe", "inherit"] });
  const waiting = new Map();
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.startsWith("{")) {
      const message = JSON.parse(line);
      waiting.get(message.id)?.(message);
    }
  });
  let last = 0;
  const call = async (method, params, target = null) => {
    const id = ++last;
    const answered = new Promise((resolve) => waiting.set(id, resolve));
    write(child.stdin, { id, method, params });
    // Blocks the one thread until the other end has opened and closed it.
    if (written && id === 1) readFileSync(written);
    const { error } = await answered;
    console.log(JSON.stringify({ method, target, error: error ? String(error.code) : null }));
  };
  const tool = (name, args) => call("tools/call", { name, arguments: args }, name);
  await call("initialize", { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "plain" } });
  write(child.stdin, { method: "notifications/initialized" });
  await tool("echo", { text: "canary-of-the-arguments" });
  await Promise.all([tool("echo", { text: "x".repeat(1 << 20) }), tool("echo", { text: "y" })]);
  await tool("missing", {});
  child.stdin.end();
}

await (role === "server" ? server() : client());
