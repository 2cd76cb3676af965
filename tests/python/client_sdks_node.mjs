// Calls a provider through its own SDK for Node, and says what the SDK saw in the terms of a span.
//
// usage: node client_sdks_node.mjs SDK BASE_URL MODULES
//
// MODULES is the directory that npm installed the SDKs into. Prints what client_sdks.py prints.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [sdk, url, modules] = process.argv.slice(2);
const load = async (name) => import(pathToFileURL(createRequire(`${modules}/`).resolve(name)));

const MODEL = "canned-model";
const NO_SUCH_MODEL = "no-such-model";
const parameters = { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } };
const messages = [{ role: "user", content: "How will the weather be?" }];
const CHOICES = [false, true].flatMap((stream) => [false, true].map((tools) => ({ stream, tools })));

const nameOf = ({ stream, tools }) => `${stream ? "stream" : "plain"}, ${tools ? "tools" : "words"}`;
const print = (call, attributes) => console.log(JSON.stringify({ call, attributes }));

function report(call, stream, { id = null, model, finish = null, tools, ...usage }) {
  print(call, {
    "gen_ai.request.model": MODEL,
    "gen_ai.request.stream": stream || null,
    "gen_ai.response.model": model,
    "gen_ai.response.id": id,
    "gen_ai.response.finish_reasons": finish,
    "http.response.status_code": 200,
    "error.type": null,
    "gen_ai.usage.input_tokens": usage.input,
    "gen_ai.usage.output_tokens": usage.output,
    "gen_ai.usage.cache_read.input_tokens": usage.cacheRead,
    ...(usage.cacheWrite === undefined ? {} : { "gen_ai.usage.cache_write.input_tokens": usage.cacheWrite }),
    ...(usage.reasoning === undefined ? {} : { "gen_ai.usage.reasoning.output_tokens": usage.reasoning }),
    ...(tools ? { "inferscope.tool_calls": tools.length ? tools : null } : {}),
  });
}

async function reportError(call, promise, words) {
  const error = await promise.then(
    () => { throw new Error("the SDK saw no error"); },
    (error) => error,
  );
  print(`${call}, error`, {
    "gen_ai.request.model": NO_SUCH_MODEL,
    "http.response.status_code": error.status,
    "error.type": { any: [...words(error), String(error.status)] },
    "gen_ai.usage.input_tokens": null,
    "gen_ai.usage.output_tokens": null,
  });
}

async function openai() {
  const { default: OpenAI } = await load("openai");
  const client = new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: "sk-none", maxRetries: 0 });
  const tool = { type: "function", function: { name: "forecast", parameters } };
  for (const choice of CHOICES) {
    const options = { model: MODEL, messages, ...(choice.tools ? { tools: [tool] } : {}) };
    const withUsage = { ...options, stream_options: { include_usage: true } };
    const chat = choice.stream
      ? await client.chat.completions.stream(withUsage).finalChatCompletion()
      : await client.chat.completions.create(options);
    const [{ message, finish_reason }] = chat.choices;
    report(`chat, ${nameOf(choice)}`, choice.stream, {
      id: chat.id,
      model: chat.model,
      finish: [finish_reason],
      tools: (message.tool_calls ?? []).map((call) => call.function.name),
      input: chat.usage.prompt_tokens,
      output: chat.usage.completion_tokens,
      cacheRead: chat.usage.prompt_tokens_details.cached_tokens,
      reasoning: chat.usage.completion_tokens_details.reasoning_tokens,
    });
  }
  for (const choice of CHOICES) {
    const tools = choice.tools ? { tools: [{ type: "function", name: "forecast", parameters, strict: false }] } : {};
    const options = { model: MODEL, input: "How will the weather be?", ...tools };
    const response = choice.stream
      ? await client.responses.stream(options).finalResponse()
      : await client.responses.create(options);
    const calls = response.output.filter((item) => item.type === "function_call").map((item) => item.name);
    report(`responses, ${nameOf(choice)}`, choice.stream, {
      id: response.id,
      model: response.model,
      // The status stands for a reason.
      finish: { any: [[response.status], [calls.length ? "tool_calls" : "stop"]] },
      tools: calls,
      input: response.usage.input_tokens,
      output: response.usage.output_tokens,
      cacheRead: response.usage.input_tokens_details.cached_tokens,
      reasoning: response.usage.output_tokens_details.reasoning_tokens,
    });
  }
  const embedding = await client.embeddings.create({ model: MODEL, input: "a text", encoding_format: "float" });
  const usage = { input: embedding.usage.prompt_tokens, output: null, cacheRead: null };
  report("embeddings", false, { model: embedding.model, ...usage });
  const words = (error) => [error.code, error.type];
  await reportError("chat", client.chat.completions.create({ model: NO_SUCH_MODEL, messages }), words);
}

async function anthropic() {
  const { default: Anthropic } = await load("@anthropic-ai/sdk");
  const client = new Anthropic({ baseURL: `${url}/anthropic`, apiKey: "none", maxRetries: 0 });
  const tool = { name: "forecast", input_schema: parameters };
  for (const choice of CHOICES) {
    const options = { model: MODEL, max_tokens: 100, messages, ...(choice.tools ? { tools: [tool] } : {}) };
    const message = choice.stream
      ? await client.messages.stream(options).finalMessage()
      : await client.messages.create(options);
    const { input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens } = message.usage;
    report(`messages, ${nameOf(choice)}`, choice.stream, {
      id: message.id,
      model: message.model,
      finish: [message.stop_reason],
      tools: message.content.filter((block) => block.type === "tool_use").map((block) => block.name),
      // The conventions count what was cached as input.
      input: input_tokens + cache_read_input_tokens + cache_creation_input_tokens,
      output: output_tokens,
      cacheRead: cache_read_input_tokens,
      cacheWrite: cache_creation_input_tokens,
    });
  }
  const refused = client.messages.create({ model: NO_SUCH_MODEL, max_tokens: 1, messages });
  await reportError("messages", refused, (error) => [error.error.error.type]);
}

await { openai, anthropic }[sdk]();
