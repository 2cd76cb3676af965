// Calls an OpenAI-compatible server with Deno's `fetch`: `--connections` at the same moment, spread over the servers, each
// `--calls` times on its own connection. Prints one line of JSON per call, like the other test clients, with the server's
// port. With `--wait`, a line on standard input starts each call.

const args = { url: [], model: "inferscope-test-model", connections: 1, calls: 1, stream: false, wait: false, ca: null };
for (let at = 0; at < Deno.args.length; at++) {
  const name = Deno.args[at].slice(2);
  if (name === "stream" || name === "wait") args[name] = true;
  else if (name === "url") args.url.push(Deno.args[++at]);
  else args[name] = Deno.args[++at];
}

const authorities = args.ca ? [Deno.readTextFileSync(args.ca)] : [];
const decoder = new TextDecoder();

async function* lines(response) {
  let rest = "";
  for await (const bytes of response.body) {
    const parts = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

async function call(url, client, number) {
  const message = { role: "user", content: "Say a few words. ".repeat(1 + number % 3) };
  const body = { model: args.model, messages: [message], stream: args.stream };
  if (args.stream) body.stream_options = { include_usage: true };
  const headers = { "content-type": "application/json", authorization: "Bearer sk-test" };
  const response = await fetch(`${url}/chat/completions`, { client, method: "POST", headers, body: JSON.stringify(body) });
  const said = { status: response.status, id: null, model: null, finish: [], usage: null, end: "broken" };
  let chunks = 0;
  const absorb = (object) => {
    said.id ??= object.id;
    said.model ??= object.model;
    said.usage = object.usage ?? said.usage;
    for (const choice of object.choices ?? []) {
      if (choice.delta?.content) chunks++;
      if (choice.finish_reason) said.finish.push(choice.finish_reason);
    }
  };
  if (args.stream) {
    for await (const line of lines(response)) {
      const data = line.replace(/^data: /, "").trim();
      if (data === "[DONE]") said.end = "done";
      else if (data) absorb(JSON.parse(data));
    }
    said.chunks = chunks;
  } else {
    absorb(await response.json());
    said.end = "done";
  }
  console.log(JSON.stringify({ ...said, server: Number(new URL(url).port) }));
}

// One client for each connection: they must not share what they keep open.
const clients = Array.from({ length: Number(args.connections) }, () => Deno.createHttpClient({ caCerts: authorities, http2: false }));
const input = args.wait ? Deno.stdin.readable.getReader() : null;
for (let number = 0; number < Number(args.calls); number++) {
  if (input) await input.read();
  await Promise.all(clients.map((client, at) => call(args.url[at % args.url.length], client, number)));
}
Deno.exit(0);
