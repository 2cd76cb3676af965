"""Calls a provider through its own SDK, and says what the SDK saw in the terms of a span.

usage: client_sdks.py SDK BASE_URL [CA_FILE]

Prints a line of JSON for each call, in the order of the calls, one after the other:
  {"call": what was asked for, "attributes": {NAME: VALUE}}
An attribute that is null must be absent from the span, and one that is {"any": VALUES} must be one of them. Numbers of
tokens are the SDK's own; what must be added up for the conventions' meaning of them is added up here.
"""

import json
import os
import sys

URL, CA = sys.argv[2].rstrip("/"), (sys.argv[3:] or [None])[0]
if CA:
    # Most SDKs take the authority from here; boto3 and google-auth have variables of their own.
    os.environ.update(SSL_CERT_FILE=CA, REQUESTS_CA_BUNDLE=CA, AWS_CA_BUNDLE=CA)

MODEL, NO_SUCH_MODEL = "canned-model", "no-such-model"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
FUNCTION = {"name": "forecast", "description": "The weather to come.", "parameters": SCHEMA}
OPENAI_TOOLS = [{"type": "function", "function": FUNCTION}]
MESSAGES = [{"role": "user", "content": "How will the weather be?"}]
# Retries would be calls of their own.
NO_RETRIES = {"max_retries": 0}

USAGE = {
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "cache_read": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_write.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}


def report(call, request_model, *, stream=False, model=None, id=None, finish=None, tools=None, **usage):
    """Prints a call. `tools` are the names of the tools that were called, None where that is not said."""
    attributes = {
        "gen_ai.request.model": request_model,
        "gen_ai.request.stream": True if stream else None,
        "gen_ai.response.model": model,
        "gen_ai.response.id": id,
        "gen_ai.response.finish_reasons": finish,
        "http.response.status_code": 200,
        "error.type": None,
        **{USAGE[name]: value for name, value in usage.items()},
    }
    if tools is not None:
        attributes["inferscope.tool_calls"] = tools or None
    print(json.dumps({"call": call, "attributes": attributes}), flush=True)


def report_error(call, status, *words):
    """Prints a call that failed; `words` are the SDK's for the error."""
    attributes = {
        "gen_ai.request.model": NO_SUCH_MODEL,
        "http.response.status_code": status,
        "error.type": {"any": [*words, str(status)]},
        **dict.fromkeys(USAGE.values()),
    }
    print(json.dumps({"call": f"{call}, error", "attributes": attributes}), flush=True)


def variants():
    """Words and tools, each whole and as a stream."""
    for stream in (False, True):
        for tools in (False, True):
            yield f"{'stream' if stream else 'plain'}, {'tools' if tools else 'words'}", stream, tools


def openai():
    import openai

    client = openai.OpenAI(base_url=f"{URL}/openai/v1", api_key="sk-none", **NO_RETRIES)
    for name, stream, tools in variants():
        options = {"model": MODEL, "messages": MESSAGES, **({"tools": OPENAI_TOOLS} if tools else {})}
        if stream:
            usage = {"include_usage": True}
            chat = openai_stream(client.chat.completions.create(**options, stream=True, stream_options=usage))
        else:
            chat = client.chat.completions.create(**options)
            choice = chat.choices[0]
            calls = [call.function.name for call in choice.message.tool_calls or []]
            chat = chat.id, chat.model, [choice.finish_reason], calls, chat.usage
        id, model, finish, calls, usage = chat
        report(
            f"chat, {name}", MODEL, stream=stream, id=id, model=model, finish=finish, tools=calls,
            input=usage.prompt_tokens, output=usage.completion_tokens,
            cache_read=usage.prompt_tokens_details.cached_tokens, cache_write=None,
            reasoning=usage.completion_tokens_details.reasoning_tokens,
        )  # fmt: skip

    for name, stream, tools in variants():
        options = {"model": MODEL, "input": "How will the weather be?"}
        if tools:
            options["tools"] = [{"type": "function", "strict": False, **FUNCTION}]
        if stream:
            events = list(client.responses.create(**options, stream=True))
            response = events[-1].response
        else:
            response = client.responses.create(**options)
        calls = [item.name for item in response.output if item.type == "function_call"]
        usage = response.usage
        # The status stands for a reason.
        finish = {"any": [[response.status], ["tool_calls" if calls else "stop"]]}
        report(
            f"responses, {name}", MODEL, stream=stream, id=response.id, model=response.model, finish=finish,
            tools=calls,
            input=usage.input_tokens, output=usage.output_tokens,
            cache_read=usage.input_tokens_details.cached_tokens,
            reasoning=usage.output_tokens_details.reasoning_tokens,
        )  # fmt: skip

    embedding = client.embeddings.create(model=MODEL, input="a text")
    report("embeddings", MODEL, model=embedding.model, input=embedding.usage.prompt_tokens, output=None)
    for name, call in {
        "chat": lambda: client.chat.completions.create(model=NO_SUCH_MODEL, messages=MESSAGES),
        "responses": lambda: client.responses.create(model=NO_SUCH_MODEL, input="hello"),
    }.items():
        error = failure(openai.APIStatusError, call)
        report_error(name, error.status_code, error.code, error.type)


def openai_stream(chunks):
    calls, finish, usage = [], [], None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            calls += [call.function.name for call in choice.delta.tool_calls or [] if call.id]
            finish += [choice.finish_reason] if choice.finish_reason else []
    return chunk.id, chunk.model, finish, calls, usage


def anthropic():
    import anthropic

    client = anthropic.Anthropic(base_url=f"{URL}/anthropic", api_key="none", **NO_RETRIES)
    tool = {"name": "forecast", "description": "The weather to come.", "input_schema": SCHEMA}
    for name, stream, tools in variants():
        options = {"model": MODEL, "max_tokens": 100, "messages": MESSAGES, **({"tools": [tool]} if tools else {})}
        if stream:
            with client.messages.stream(**options) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(**options)
        report(f"messages, {name}", MODEL, stream=stream, **of_anthropic(message))
    refused = lambda: client.messages.create(model=NO_SUCH_MODEL, max_tokens=1, messages=MESSAGES)
    error = failure(anthropic.APIStatusError, refused)
    report_error("messages", error.status_code, error.body["error"]["type"])


def of_anthropic(message):
    usage = message.usage
    return {
        "id": message.id,
        "model": message.model,
        "finish": [message.stop_reason],
        "tools": [block.name for block in message.content if block.type == "tool_use"],
        "input": usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_input_tokens,
        "cache_write": usage.cache_creation_input_tokens,
    }


def google():
    from google import genai
    from google.genai import errors, types

    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=f"{URL}/google"))
    tool = types.Tool(function_declarations=[{**FUNCTION, "parameters": None, "parameters_json_schema": SCHEMA}])
    for name, stream, tools in variants():
        config = types.GenerateContentConfig(tools=[tool] if tools else None, temperature=0.5)
        options = {"model": MODEL, "contents": "How will the weather be?", "config": config}
        if stream:
            chunks = list(client.models.generate_content_stream(**options))
        else:
            chunks = [client.models.generate_content(**options)]
        last, usage = chunks[-1], chunks[-1].usage_metadata
        calls = [call.name for chunk in chunks for call in chunk.function_calls or []]
        report(
            f"generateContent, {name}", MODEL, stream=stream, id=last.response_id, model=last.model_version,
            finish=[last.candidates[0].finish_reason.value], tools=calls,
            input=usage.prompt_token_count + usage.tool_use_prompt_token_count,
            output=usage.candidates_token_count + usage.thoughts_token_count,
            cache_read=usage.cached_content_token_count, reasoning=usage.thoughts_token_count,
        )  # fmt: skip
    error = failure(errors.APIError, lambda: client.models.generate_content(model=NO_SUCH_MODEL, contents="hello"))
    report_error("generateContent", error.code, error.status)


def mistral():
    from mistralai.client import Mistral, errors

    client = Mistral(server_url=f"{URL}/mistral", api_key="none")
    for name, stream, tools in variants():
        options = {"model": MODEL, "messages": MESSAGES, **({"tools": OPENAI_TOOLS} if tools else {})}
        if stream:
            chunks = [event.data for event in client.chat.stream(**options)]
            chat, choices = chunks[-1], [chunk.choices[0] for chunk in chunks]
            said = [choice.delta for choice in choices]
        else:
            chat = client.chat.complete(**options)
            choices = chat.choices
            said = [choice.message for choice in choices]
        calls = [call.function.name for each in said for call in each.tool_calls or []]
        usage = chat.usage
        report(
            f"chat, {name}", MODEL, stream=stream, id=chat.id, model=chat.model, tools=calls,
            finish=[choice.finish_reason for choice in choices if choice.finish_reason],
            input=usage.prompt_tokens, output=usage.completion_tokens, cache_read=usage.num_cached_tokens,
        )  # fmt: skip
    error = failure(errors.MistralError, lambda: client.chat.complete(model=NO_SUCH_MODEL, messages=MESSAGES))
    body = json.loads(error.body)
    report_error("chat", error.status_code, body["code"], body["type"])


def cohere():
    import cohere
    from cohere.core import ApiError

    client = cohere.ClientV2(base_url=f"{URL}/cohere", api_key="none")
    for name, stream, tools in variants():
        options = {"model": MODEL, "messages": MESSAGES, **({"tools": OPENAI_TOOLS} if tools else {})}
        if stream:
            events = list(client.chat_stream(**options))
            of = lambda kind: [event for event in events if event.type == kind]
            end = of("message-end")[0].delta
            id, finish, usage = of("message-start")[0].id, end.finish_reason, end.usage
            calls = [event.delta.message.tool_calls.function.name for event in of("tool-call-start")]
        else:
            chat = client.chat(**options)
            id, finish, usage = chat.id, chat.finish_reason, chat.usage
            calls = [call.function.name for call in chat.message.tool_calls or []]
        billed = usage.billed_units
        report(
            f"chat, {name}", MODEL, stream=stream, id=id, finish=[finish], tools=calls,
            input=int(billed.input_tokens), output=int(billed.output_tokens),
        )  # fmt: skip
    rerank = client.rerank(model=MODEL, query="weather", documents=["sun", "rain"])
    report("rerank", MODEL, id=rerank.id, input=None, output=None)
    embed = client.embed(model=MODEL, texts=["a text"], input_type="search_query", embedding_types=["float"])
    report("embed", MODEL, id=embed.id, input=int(embed.meta.billed_units.input_tokens), output=None)
    error = failure(ApiError, lambda: client.chat(model=NO_SUCH_MODEL, messages=MESSAGES))
    report_error("chat", error.status_code)


def bedrock():
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=f"{URL}/amazon",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )
    # A colon, which the path holds encoded.
    model = "vendor.canned-v1:0"
    messages = [{"role": "user", "content": [{"text": "How will the weather be?"}]}]
    tools_of = {"tools": [{"toolSpec": {"name": "forecast", "inputSchema": {"json": SCHEMA}}}]}
    for name, stream, tools in variants():
        options = {"modelId": model, "messages": messages, **({"toolConfig": tools_of} if tools else {})}
        if stream:
            events = list(client.converse_stream(**options)["stream"])
            of = lambda kind: [event[kind] for event in events if kind in event]
            usage, finish = of("metadata")[0]["usage"], of("messageStop")[0]["stopReason"]
            calls = [each["start"]["toolUse"]["name"] for each in of("contentBlockStart")]
        else:
            answer = client.converse(**options)
            usage, finish = answer["usage"], answer["stopReason"]
            content = answer["output"]["message"]["content"]
            calls = [part["toolUse"]["name"] for part in content if "toolUse" in part]
        cached = usage["cacheReadInputTokens"], usage["cacheWriteInputTokens"]
        report(
            f"converse, {name}", model, stream=stream, finish=[finish], tools=calls,
            input=usage["inputTokens"] + sum(cached), output=usage["outputTokens"],
            cache_read=cached[0], cache_write=cached[1],
        )  # fmt: skip

    model = "anthropic.canned-v1:0"
    tool = {"name": "forecast", "input_schema": SCHEMA}
    for name, stream, tools in variants():
        body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": MESSAGES}
        options = {"modelId": model, "body": json.dumps({**body, **({"tools": [tool]} if tools else {})})}
        if stream:
            packed = client.invoke_model_with_response_stream(**options)["body"]
            message = of_events([json.loads(event["chunk"]["bytes"]) for event in packed])
        else:
            message = json.loads(client.invoke_model(**options)["body"].read())
        usage = message["usage"]
        cached = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
        report(
            f"invoke, {name}", model, stream=stream, id=message["id"], model=message["model"],
            finish=[message["stop_reason"]],
            tools=[block["name"] for block in message["content"] if block["type"] == "tool_use"],
            input=usage["input_tokens"] + sum(cached), output=usage["output_tokens"],
            cache_read=cached[0], cache_write=cached[1],
        )  # fmt: skip
    error = failure(ClientError, lambda: client.converse(modelId=NO_SUCH_MODEL, messages=messages)).response
    report_error("converse", error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"])


def of_events(events):
    """An Anthropic message from the events of its stream."""
    message = {}
    for event in events:
        if event["type"] == "message_start":
            message = event["message"]
        elif event["type"] == "content_block_start":
            message["content"].append(event["content_block"])
        elif event["type"] == "message_delta":
            message.update(event["delta"])
            message["usage"].update(event["usage"])
    return message


def ollama():
    import ollama

    client = ollama.Client(host=f"{URL}/ollama")
    for name, stream, tools in variants():
        options = {"model": MODEL, "messages": MESSAGES, "stream": stream, "tools": OPENAI_TOOLS if tools else None}
        chunks = list(client.chat(**options)) if stream else [client.chat(**options)]
        calls = [call.function.name for chunk in chunks for call in chunk.message.tool_calls or []]
        report(f"chat, {name}", MODEL, stream=stream, tools=calls, **of_ollama(chunks[-1]))
    for stream in (False, True):
        options = {"model": MODEL, "prompt": "How will the weather be?", "stream": stream}
        chunks = list(client.generate(**options)) if stream else [client.generate(**options)]
        report(f"generate, {'stream' if stream else 'plain'}", MODEL, stream=stream, **of_ollama(chunks[-1]))
    error = failure(ollama.ResponseError, lambda: client.chat(model=NO_SUCH_MODEL, messages=MESSAGES))
    report_error("chat", error.status_code)


def of_ollama(last):
    return {
        "model": last.model,
        "finish": [last.done_reason],
        "input": last.prompt_eval_count,
        "output": last.eval_count,
    }


def failure(kind, call):
    """The error of a call that must fail."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError("the SDK saw no error")


SDKS = {each.__name__: each for each in (openai, anthropic, google, mistral, cohere, bedrock, ollama)}
SDKS[sys.argv[1]]()
