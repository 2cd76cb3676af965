// Bun as a server with TLS and as its client, one process each.
//
// bun.mjs serve CERTIFICATE KEY: prints its port.
// bun.mjs call PORT CA: for each line on standard input makes one call, a stream if the line is "stream", and prints the
// id of the answer.

const [role, first, second] = process.argv.slice(2);
let served = 0;

function piece(id, delta, finish_reason = null) {
  const chunk = { id, object: "chat.completion.chunk", model: "bun", choices: [{ index: 0, delta, finish_reason }] };
  return `data: ${JSON.stringify(chunk)}\n\n`;
}

async function answer(request) {
  const { stream } = await request.json();
  const id = `chatcmpl-bun-${served++}`;
  if (!stream) {
    const message = { role: "assistant", content: "word ".repeat(10_000) };
    return Response.json({ id, object: "chat.completion", model: "bun", choices: [{ index: 0, finish_reason: "stop", message }] });
  }
  const body = new ReadableStream({
    async start(controller) {
      for (let n = 0; n < 12; n++) {
        controller.enqueue(piece(id, { content: `word ${n} ` }));
        await Bun.sleep(2);
      }
      controller.enqueue(piece(id, {}, "stop") + "data: [DONE]\n\n");
      controller.close();
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

if (role === "serve") {
  const tls = { cert: Bun.file(first), key: Bun.file(second) };
  console.log(Bun.serve({ port: 0, hostname: "127.0.0.1", tls, fetch: answer }).port);
} else {
  const ca = await Bun.file(second).text();
  for await (const line of console) {
    const stream = line === "stream";
    const body = JSON.stringify({ model: "bun", stream, messages: [{ role: "user", content: "hi ".repeat(20_000) }] });
    const headers = { "content-type": "application/json" };
    const response = await fetch(`https://127.0.0.1:${first}/v1/chat/completions`, { method: "POST", headers, body, tls: { ca } });
    console.log((await response.text()).match(/"id":"([^"]*)"/)[1]);
  }
}
