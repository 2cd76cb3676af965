// Calls a server with Node's own HTTP clients and prints one JSON line per call, as client_openai.py does.
// usage: node client_node.mjs --base-url URL --via http|fetch|http2 [--ca FILE] [--stream] [--calls N] [--gate]
// With --stop-first-after N the first call's stream is left after N content chunks.
// fetch takes its certificate authority from NODE_EXTRA_CA_CERTS; the http module takes it from --ca.
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import readline from "node:readline";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
  options: {
    "base-url": { type: "string" },
    via: { type: "string", default: "http" },
    ca: { type: "string" },
    "api-key": { type: "string", default: "sk-test" },
    model: { type: "string", default: "inferscope-test-model" },
    prompt: { type: "string", default: "Say a few words." },
    stream: { type: "boolean", default: false },
    calls: { type: "string", default: "1" },
    "stop-first-after": { type: "string" },
    gate: { type: "boolean", default: false },
  },
});

const url = new URL(args["base-url"].replace(/\/$/, "") + "/chat/completions");
const headers = { "content-type": "application/json", authorization: `Bearer ${args["api-key"]}` };
const secure = url.protocol === "https:";
const agent = new (secure ? https : http).Agent({ keepAlive: true });
const ca = secure && args.ca ? fs.readFileSync(args.ca) : undefined;

function body() {
  const request = { model: args.model, stream: args.stream, messages: [{ role: "user", content: args.prompt }] };
  if (args.stream) request.stream_options = { include_usage: true };
  return JSON.stringify(request);
}

async function* viaHttp() {
  const response = await new Promise((resolve, reject) => {
    const options = { method: "POST", headers, agent, ca };
    (secure ? https : http).request(url, options, resolve).on("error", reject).end(body());
  });
  yield response.statusCode;
  yield* response;
}

async function* viaFetch() {
  const response = await fetch(url, { method: "POST", headers, body: body() });
  yield response.status;
  yield* response.body;
}

let session;

async function* viaHttp2() {
  session ??= http2.connect(url.origin, { ca });
  const stream = session.request({ ":method": "POST", ":path": url.pathname, ...headers });
  stream.end(body());
  const answer = await new Promise((resolve, reject) => stream.on("response", resolve).on("error", reject));
  yield answer[":status"];
  yield* stream;
}

const via = { http: viaHttp, fetch: viaFetch, http2: viaHttp2 }[args.via];

async function call(i) {
  const begin = process.hrtime.bigint();
  const line = {
    i, status: null, id: null, model: null, chunks: args.stream ? 0 : null, usage: null, finish: [], tool_calls: [],
    ttft_ns: null, error: null, end: "broken",
  };
  const take = (data) => {
    line.id ??= data.id ?? null;
    line.model ??= data.model ?? null;
    if (data.error) line.error = data.error.code;
    if (data.usage) {
      const { prompt_tokens, completion_tokens } = data.usage;
      line.usage = { prompt_tokens, completion_tokens };
    }
    for (const choice of data.choices ?? []) {
      if (choice.delta?.content) {
        line.ttft_ns ??= Number(process.hrtime.bigint() - begin);
        line.chunks += 1;
      }
      if (choice.finish_reason) line.finish.push(choice.finish_reason);
    }
  };
  try {
    let text = "";
    const decoder = new TextDecoder();
    for await (const part of via()) {
      if (typeof part === "number") {
        line.status = part;
        continue;
      }
      text += decoder.decode(part, { stream: true });
      if (!args.stream || line.status !== 200) continue;
      let at;
      while ((at = text.indexOf("\n\n")) >= 0) {
        const data = text.slice("data: ".length, at);
        text = text.slice(at + 2);
        if (data === "[DONE]") line.end = "done";
        else take(JSON.parse(data));
        if (i === 0 && line.chunks === Number(args["stop-first-after"])) line.end = "stopped";
      }
      if (line.end === "stopped") {
        text = "";
        break;
      }
    }
    if (line.status !== 200) line.end = "refused";
    else if (!args.stream) line.end = "done";
    if (text) take(JSON.parse(text));
  } catch (error) {
    line.error = error.cause?.code ?? error.code ?? error.name;
  }
  console.log(JSON.stringify(line));
}

const input = readline.createInterface({ input: process.stdin });
for (let i = 0; i < Number(args.calls); i += 1) {
  await call(i);
  if (i === 0 && args.gate) await new Promise((resolve) => input.once("line", resolve));
}
input.close();
agent.destroy();
session?.close();
