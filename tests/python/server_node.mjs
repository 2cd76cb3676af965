// A model server on Node's own HTTP server, with the test servers' rules (canned.py) as far as a chat needs them.
// usage: node server_node.mjs [--cert FILE --key FILE] [--chunks N] [--hold-at N]
// Prints `ready PORT`. With --hold-at the first stream stops before content chunk N: it prints `held` and goes on when a
// line comes on standard input. Prints `peer PORT`, the client's, for each request.
import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import readline from "node:readline";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
  options: {
    cert: { type: "string" },
    key: { type: "string" },
    chunks: { type: "string", default: "12" },
    "hold-at": { type: "string" },
  },
});
const chunks = Number(args.chunks);
const input = readline.createInterface({ input: process.stdin });
// Whoever started it is gone.
input.on("close", () => process.exit());
let holdAt = Number(args["hold-at"] ?? -1);

async function answer(request, response) {
  console.log(`peer ${request.socket.remotePort}`);
  let text = "";
  for await (const part of request) text += part;
  const body = JSON.parse(text);
  const id = `chatcmpl-${crypto.randomBytes(12).toString("hex")}`;
  const head = { id, created: 1_700_000_000, model: "inferscope-test-model" };
  const words = body.messages.flatMap((message) => message.content.split(/\s+/)).filter(Boolean).length;
  const usage = { prompt_tokens: words, completion_tokens: chunks, total_tokens: words + chunks };
  if (!body.stream) {
    const message = { role: "assistant", content: "zephyrine ".repeat(chunks) };
    const choices = [{ index: 0, message, finish_reason: "stop" }];
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ ...head, object: "chat.completion", choices, usage }));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const event = (choices, counted = null) => {
    const data = { ...head, object: "chat.completion.chunk", choices, usage: counted };
    response.write(`data: ${JSON.stringify(data)}\n\n`);
    // The next event is a write of its own, as with a model that takes its time.
    return new Promise(setImmediate);
  };
  await event([{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }]);
  for (let at = 0; at < chunks; at += 1) {
    if (at === holdAt) {
      holdAt = -1;
      const line = new Promise((resolve) => input.once("line", resolve));
      console.log("held");
      await line;
    }
    await event([{ index: 0, delta: { content: "zephyrine " }, finish_reason: null }]);
  }
  await event([{ index: 0, delta: {}, finish_reason: "stop" }]);
  await event([], usage);
  response.end("data: [DONE]\n\n");
}

const options = args.cert ? { cert: fs.readFileSync(args.cert), key: fs.readFileSync(args.key) } : {};
const server = (args.cert ? https : http).createServer(options, answer);
server.listen(0, "127.0.0.1", () => console.log(`ready ${server.address().port}`));
