// A client of the capture matrix: makes the calls of plan.py with Node's own clients.
// usage: node client_matrix_node.mjs https|fetch|http2 BASE_URL [CA]
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";

const [via, base, caFile] = process.argv.slice(2);
const url = new URL(`${base}/chat/completions`);
const ca = caFile ? fs.readFileSync(caFile) : undefined;
const headers = { "content-type": "application/json" };

function request(prompt, stream = false) {
  const body = { model: "inferscope-test-model", messages: [{ role: "user", content: prompt }], stream };
  if (stream) body.stream_options = { include_usage: true };
  return JSON.stringify(body);
}

const bodies = [
  request("first"),
  request("second"),
  request("x".repeat(1 << 20)),
  request("fourth", true),
  request("fifth"),
];

async function drain(stream) {
  for await (const _ of stream);
}

async function viaHttps() {
  const secure = url.protocol === "https:";
  const agent = new (secure ? https : http).Agent({ keepAlive: true });
  for (const body of bodies) {
    const answer = await new Promise((resolve, reject) => {
      const length = { "content-length": Buffer.byteLength(body) };
      const options = { method: "POST", headers: { ...headers, ...length }, agent, ca };
      (secure ? https : http).request(url, options, resolve).on("error", reject).end(body);
    });
    if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
    await drain(answer);
  }
  agent.destroy();
}

// fetch takes its certificate authority from NODE_EXTRA_CA_CERTS.
async function viaFetch() {
  for (const body of bodies) {
    const answer = await fetch(url, { method: "POST", headers, body });
    if (answer.status !== 200) throw new Error(`status ${answer.status}`);
    await drain(answer.body);
  }
}

async function viaHttp2() {
  const session = http2.connect(url.origin, { ca });
  for (const body of bodies) {
    const stream = session.request({ ":method": "POST", ":path": url.pathname, ...headers });
    const status = new Promise((resolve, reject) => {
      stream.on("response", (fields) => resolve(fields[":status"]));
      stream.on("error", reject);
    });
    stream.end(body);
    if ((await status) !== 200) throw new Error(`status ${await status}`);
    await drain(stream);
  }
  session.close();
}

await { https: viaHttps, fetch: viaFetch, http2: viaHttp2 }[via]();
