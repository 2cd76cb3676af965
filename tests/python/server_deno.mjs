// An OpenAI-compatible chat endpoint on `Deno.serve` with TLS: what a call says it would be, with an id of its own and the
// port of whoever asked. Prints the port that it listens on.

const [cert, key] = Deno.args.map((path) => Deno.readTextFileSync(path));
const WORDS = ["one", "two", "three", "four", "five"];
let served = 0;

function answer(id, request) {
  const usage = { prompt_tokens: 7, completion_tokens: WORDS.length, total_tokens: 7 + WORDS.length };
  const common = { id, created: 0, model: request.model };
  if (!request.stream) {
    const message = { role: "assistant", content: WORDS.join(" ") };
    const choices = [{ index: 0, message, finish_reason: "stop" }];
    return Response.json({ ...common, object: "chat.completion", choices, usage });
  }
  const delta = (delta, finish_reason) => ({ choices: [{ index: 0, delta, finish_reason }] });
  const events = [delta({ role: "assistant", content: "" }, null), ...WORDS.map((word) => delta({ content: word }, null))];
  events.push(delta({}, "stop"), { choices: [], usage });
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    async pull(controller) {
      const event = events.shift();
      if (!event) {
        controller.enqueue(encoder.encode("data: [DONE]\n\n"));
        controller.close();
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
      const object = { ...common, object: "chat.completion.chunk", ...event };
      controller.enqueue(encoder.encode(`data: ${JSON.stringify(object)}\n\n`));
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

const onListen = ({ port }) => console.log(JSON.stringify({ port }));
Deno.serve({ hostname: "127.0.0.1", port: 0, cert, key, onListen }, async (request, info) => {
  const body = await request.json();
  const id = `chatcmpl-deno-${Deno.pid}-${++served}`;
  console.log(JSON.stringify({ id, peer: info.remoteAddr.port }));
  return answer(id, body);
});
