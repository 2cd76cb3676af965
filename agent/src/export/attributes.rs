//! Every attribute name that leaves inferscope, in one table.
//!
//! Owns the spelling, nothing else: what an attribute holds is decided in `from_call`. The names are those of the
//! OpenTelemetry GenAI conventions v1.41.1 with the merged change that renamed `cache_creation` to `cache_write`,
//! and `inferscope.*` for what the conventions have no name for. Changing a line here changes the data contract.
//!
//! To add an attribute: one line here, one `push` in `from_call`, one line in the contract.

macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: &str = $name;)*

        /// All names, in the order of this file.
        pub const ALL: &[&str] = &[$($constant),*];
    };
}

names! {
    /// What was asked for: `chat`, `text_completion`, `embeddings`, ...
    GEN_AI_OPERATION_NAME = "gen_ai.operation.name";
    /// Who serves the model.
    GEN_AI_PROVIDER_NAME = "gen_ai.provider.name";
    /// Model that the request named.
    GEN_AI_REQUEST_MODEL = "gen_ai.request.model";
    /// Present, and true, only when a stream was asked for.
    GEN_AI_REQUEST_STREAM = "gen_ai.request.stream";
    /// Token limit of the request.
    GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens";
    /// Sampling temperature.
    GEN_AI_REQUEST_TEMPERATURE = "gen_ai.request.temperature";
    /// Nucleus sampling share.
    GEN_AI_REQUEST_TOP_P = "gen_ai.request.top_p";
    /// Frequency penalty.
    GEN_AI_REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty";
    /// Presence penalty.
    GEN_AI_REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty";
    /// Sampling seed.
    GEN_AI_REQUEST_SEED = "gen_ai.request.seed";
    /// Number of choices asked for; absent when it is one.
    GEN_AI_REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count";
    /// Top-k sampling.
    GEN_AI_REQUEST_TOP_K = "gen_ai.request.top_k";
    /// Texts that end the answer.
    GEN_AI_REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences";
    /// Encodings asked for, of embeddings.
    GEN_AI_REQUEST_ENCODING_FORMATS = "gen_ai.request.encoding_formats";
    /// Dimensions asked for, of embeddings.
    GEN_AI_EMBEDDINGS_DIMENSION_COUNT = "gen_ai.embeddings.dimension.count";
    /// What kind of output was asked for: `text`, `json`, `image`, `speech`.
    GEN_AI_OUTPUT_TYPE = "gen_ai.output.type";
    /// The provider's own id of the conversation.
    GEN_AI_CONVERSATION_ID = "gen_ai.conversation.id";
    /// Model that answered.
    GEN_AI_RESPONSE_MODEL = "gen_ai.response.model";
    /// The provider's id of the response.
    GEN_AI_RESPONSE_ID = "gen_ai.response.id";
    /// Why each choice ended.
    GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons";
    /// Seconds to the first event of a stream, whatever it holds.
    GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk";
    /// Input tokens, cached ones included.
    GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens";
    /// Output tokens, reasoning included.
    GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens";
    /// Input tokens read from the provider's cache.
    GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens";
    /// Input tokens written to the provider's cache.
    GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS = "gen_ai.usage.cache_write.input_tokens";
    /// Output tokens spent on reasoning.
    GEN_AI_USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens";
    /// Part of the input tokens that is text.
    GEN_AI_USAGE_TEXT_INPUT_TOKENS = "gen_ai.usage.text.input_tokens";
    /// Part of the output tokens that is text.
    GEN_AI_USAGE_TEXT_OUTPUT_TOKENS = "gen_ai.usage.text.output_tokens";
    /// Part of the tokens read from the cache that is text.
    GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.text.cache_read.input_tokens";
    /// Part of the input tokens that is pictures.
    GEN_AI_USAGE_IMAGE_INPUT_TOKENS = "gen_ai.usage.image.input_tokens";
    /// Part of the output tokens that is pictures.
    GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS = "gen_ai.usage.image.output_tokens";
    /// Part of the tokens read from the cache that is pictures.
    GEN_AI_USAGE_IMAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.image.cache_read.input_tokens";
    /// Part of the input tokens that is audio.
    GEN_AI_USAGE_AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens";
    /// Part of the output tokens that is audio.
    GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens";
    /// Part of the tokens read from the cache that is audio.
    GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.audio.cache_read.input_tokens";
    /// Id by which the model asked for it.
    GEN_AI_TOOL_CALL_ID = "gen_ai.tool.call.id";
    /// Messages of the request, JSON; only with content capture on.
    GEN_AI_INPUT_MESSAGES = "gen_ai.input.messages";
    /// Messages of the response, JSON; only with content capture on.
    GEN_AI_OUTPUT_MESSAGES = "gen_ai.output.messages";
    /// Instructions given apart from the messages, JSON; only with content capture on.
    GEN_AI_SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions";
    /// Tools that the request offered, JSON; only with content capture on.
    GEN_AI_TOOL_DEFINITIONS = "gen_ai.tool.definitions";

    /// Collection, index, namespace or class that was searched.
    GEN_AI_DATA_SOURCE_ID = "gen_ai.data_source.id";
    /// Tool that is called.
    GEN_AI_TOOL_NAME = "gen_ai.tool.name";
    /// Prompt that is asked for.
    GEN_AI_PROMPT_NAME = "gen_ai.prompt.name";
    /// Method of the Model Context Protocol.
    MCP_METHOD_NAME = "mcp.method.name";
    /// Version of the Model Context Protocol.
    MCP_PROTOCOL_VERSION = "mcp.protocol.version";
    /// Resource that is read.
    MCP_RESOURCE_URI = "mcp.resource.uri";
    /// Id of a JSON-RPC request, as it is written.
    JSONRPC_REQUEST_ID = "jsonrpc.request.id";
    /// Method of a remote procedure call; MCP's has its own name.
    RPC_METHOD = "rpc.method";
    /// Code of the error that a remote procedure call was answered with.
    RPC_RESPONSE_STATUS_CODE = "rpc.response.status_code";

    /// Backend configuration that served the response.
    OPENAI_RESPONSE_SYSTEM_FINGERPRINT = "openai.response.system_fingerprint";
    /// Service tier that was asked for.
    OPENAI_REQUEST_SERVICE_TIER = "openai.request.service_tier";
    /// Service tier that served the response.
    OPENAI_RESPONSE_SERVICE_TIER = "openai.response.service_tier";

    /// Request method; only for plain HTTP calls.
    HTTP_REQUEST_METHOD = "http.request.method";
    /// Request path without the query; only for plain HTTP calls.
    URL_PATH = "url.path";
    /// HTTP status.
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code";
    /// What kind of error ended the call.
    ERROR_TYPE = "error.type";
    /// Name or address of the server; of a UNIX socket the name that it is bound to.
    SERVER_ADDRESS = "server.address";
    /// Port of the server.
    SERVER_PORT = "server.port";
    /// `unix` for a call over a UNIX socket, `pipe` over a program's standard input and output; absent for TCP, which is
    /// the conventions' default.
    NETWORK_TRANSPORT = "network.transport";
    /// Address of the other end: IP address, or name of a UNIX socket.
    NETWORK_PEER_ADDRESS = "network.peer.address";
    /// Port of the other end of the socket.
    NETWORK_PEER_PORT = "network.peer.port";
    /// Process id in the initial pid namespace.
    PROCESS_PID = "process.pid";
    /// Base name of the executable.
    PROCESS_EXECUTABLE_NAME = "process.executable.name";
    /// Real user id of the process.
    PROCESS_REAL_USER_ID = "process.real_user.id";
    /// Container that the process runs in.
    CONTAINER_ID = "container.id";
    /// Resource: what sends the telemetry.
    SERVICE_NAME = "service.name";
    /// Resource: the host.
    HOST_NAME = "host.name";

    /// Wire API, `openai.chat` for example.
    INFERSCOPE_API = "inferscope.api";
    /// Seconds to the first chunk with content, reasoning or a tool call.
    INFERSCOPE_TIME_TO_FIRST_TOKEN = "inferscope.time_to_first_token";
    /// Mean seconds between output tokens.
    INFERSCOPE_TIME_PER_OUTPUT_TOKEN = "inferscope.time_per_output_token";
    /// Chunks with content, reasoning or a tool call.
    INFERSCOPE_CHUNK_COUNT = "inferscope.chunk.count";
    /// Median gap between them, seconds.
    INFERSCOPE_CHUNK_GAP_P50 = "inferscope.chunk.gap.p50";
    /// 99th percentile gap, seconds.
    INFERSCOPE_CHUNK_GAP_P99 = "inferscope.chunk.gap.p99";
    /// Largest gap, seconds.
    INFERSCOPE_CHUNK_GAP_MAX = "inferscope.chunk.gap.max";
    /// How the call ended.
    INFERSCOPE_COMPLETION = "inferscope.completion";
    /// How much of the call was seen.
    INFERSCOPE_CAPTURE = "inferscope.capture";
    /// Where the plaintext was read.
    INFERSCOPE_CAPTURE_SOURCE = "inferscope.capture.source";
    /// How the socket of a TLS stream was found: `nested` in a call of the library, or by the lengths of `records`.
    INFERSCOPE_CAPTURE_BINDING = "inferscope.capture.binding";
    /// Whether token counts were reported or estimated.
    INFERSCOPE_USAGE_SOURCE = "inferscope.usage.source";
    /// Reported tokens that are in the total and in no other count.
    INFERSCOPE_USAGE_UNATTRIBUTED_TOKENS = "inferscope.usage.unattributed_tokens";
    /// Part of the tokens written to the cache that is kept for five minutes.
    INFERSCOPE_USAGE_CACHE_WRITE_5M = "inferscope.usage.cache_write_5m.input_tokens";
    /// Part of the tokens written to the cache that is kept for an hour.
    INFERSCOPE_USAGE_CACHE_WRITE_1H = "inferscope.usage.cache_write_1h.input_tokens";
    /// Input tokens that the model read, where `gen_ai.usage.input_tokens` is what is billed.
    INFERSCOPE_USAGE_PROCESSED_INPUT_TOKENS = "inferscope.usage.processed.input_tokens";
    /// Output tokens that the model wrote, where `gen_ai.usage.output_tokens` is what is billed.
    INFERSCOPE_USAGE_PROCESSED_OUTPUT_TOKENS = "inferscope.usage.processed.output_tokens";
    /// Web searches that the provider made for the call.
    INFERSCOPE_USAGE_WEB_SEARCHES = "inferscope.usage.web_searches";
    /// Units that a search model is billed by.
    INFERSCOPE_USAGE_SEARCH_UNITS = "inferscope.usage.search_units";
    /// Seconds of audio that are billed.
    INFERSCOPE_USAGE_AUDIO_SECONDS = "inferscope.usage.audio_seconds";
    /// The answer to a call that only counts a prompt's tokens.
    INFERSCOPE_COUNTED_TOKENS = "inferscope.counted_tokens";
    /// What the provider says that the call cost, in US dollars.
    INFERSCOPE_COST_REPORTED_USD = "inferscope.cost.reported_usd";
    /// Who answered behind a gateway, as the gateway names them.
    INFERSCOPE_UPSTREAM_PROVIDER = "inferscope.upstream.provider";
    /// The finish reason of the model behind a gateway, where the gateway translates it.
    INFERSCOPE_NATIVE_FINISH_REASON = "inferscope.response.native_finish_reason";
    /// The response that this one was to continue.
    INFERSCOPE_PREVIOUS_RESPONSE_ID = "inferscope.request.previous_response_id";
    /// Input tokens, estimated, where none were reported and the configuration asks for it.
    INFERSCOPE_USAGE_ESTIMATED_INPUT_TOKENS = "inferscope.usage.estimated.input_tokens";
    /// Output tokens, estimated likewise.
    INFERSCOPE_USAGE_ESTIMATED_OUTPUT_TOKENS = "inferscope.usage.estimated.output_tokens";
    /// How they were: `tokenizer` (the served model's own), `o200k_base` (OpenAI's, times what the model's family takes more),
    /// `chunks` (each chunk of the stream for a token).
    INFERSCOPE_USAGE_ESTIMATED_METHOD = "inferscope.usage.estimated.method";
    /// Names of the tools that the model called.
    INFERSCOPE_TOOL_CALLS = "inferscope.tool_calls";
    /// Messages in the request.
    INFERSCOPE_REQUEST_MESSAGE_COUNT = "inferscope.request.message_count";
    /// Tools that the request offered.
    INFERSCOPE_REQUEST_TOOL_COUNT = "inferscope.request.tool_count";
    /// Present, and true, only when captured content was cut.
    INFERSCOPE_CONTENT_TRUNCATED = "inferscope.content.truncated";

    /// Share of the traces that were kept, 0 to 1, of a span that is there because chance kept its trace: it stands for one
    /// divided by so many. Absent of spans that are always kept, and where all are.
    INFERSCOPE_SAMPLING_RATE = "inferscope.sampling.rate";

    /// What the call cost, US dollars.
    INFERSCOPE_COST_USD = "inferscope.cost.usd";
    /// Where its price comes from: `reported`, `config` or `table`.
    INFERSCOPE_COST_SOURCE = "inferscope.cost.source";
    /// Day of the latest price in the table, when the price is from there.
    INFERSCOPE_COST_PRICE_DATE = "inferscope.cost.price_date";

    /// Calls of the conversation up to this one, as far as they were seen.
    INFERSCOPE_CONVERSATION_TURN = "inferscope.conversation.turn";
    /// Earlier tries of the same request.
    INFERSCOPE_RETRY_COUNT = "inferscope.retry.count";
    /// Span id of the first try.
    INFERSCOPE_RETRY_OF = "inferscope.retry.of";
    /// Present, and true, only when the same history was answered before.
    INFERSCOPE_REGENERATION = "inferscope.regeneration";

    /// Present, and true, only when the model refused to answer.
    INFERSCOPE_QUALITY_REFUSAL = "inferscope.quality.refusal";
    /// Present, and true, only when a filter of the provider's stopped the prompt or the answer.
    INFERSCOPE_QUALITY_CONTENT_FILTER = "inferscope.quality.content_filter";
    /// Present, and true, only when an answer ended at a token limit.
    INFERSCOPE_QUALITY_LENGTH = "inferscope.quality.length";
    /// Present, and true, only when an answer ended normally with neither content nor a tool call.
    INFERSCOPE_QUALITY_EMPTY = "inferscope.quality.empty";
    /// Present, and true, only when an answer goes round in circles.
    INFERSCOPE_QUALITY_REPETITION = "inferscope.quality.repetition";
    /// Tool calls whose arguments are no JSON.
    INFERSCOPE_QUALITY_MALFORMED_TOOL_ARGUMENTS = "inferscope.quality.malformed_tool_arguments";
    /// Tool calls whose arguments are not what the tool declared.
    INFERSCOPE_QUALITY_MISMATCHED_TOOL_ARGUMENTS = "inferscope.quality.mismatched_tool_arguments";
    /// Mean natural logarithm of the answer's token probabilities, when the server returned them.
    INFERSCOPE_QUALITY_LOGPROB_MEAN = "inferscope.quality.logprob.mean";
    /// Smallest natural logarithm of a token probability in the answer.
    INFERSCOPE_QUALITY_LOGPROB_MIN = "inferscope.quality.logprob.min";
    /// Present, and true, only when the mean is below the configured threshold.
    INFERSCOPE_QUALITY_LOW_CONFIDENCE = "inferscope.quality.low_confidence";

    /// Present, and true, only when the call was inferred from TLS records' sizes and times; what is inferred has this
    /// prefix.
    INFERSCOPE_INFERRED = "inferscope.inferred";
    /// Seconds to the response's first record.
    INFERSCOPE_INFERRED_FIRST_RECORD = "inferscope.inferred.time_to_first_record";
    /// Seconds to the response's second piece, where it came like a stream: the first token, if the head went before.
    INFERSCOPE_INFERRED_FIRST_TOKEN = "inferscope.inferred.time_to_first_token";
    /// Bytes of the request, HTTP's own included.
    INFERSCOPE_INFERRED_REQUEST_BYTES = "inferscope.inferred.request.bytes";
    /// Bytes of the response, HTTP's own included.
    INFERSCOPE_INFERRED_RESPONSE_BYTES = "inferscope.inferred.response.bytes";
    /// What these bytes are: `plaintext`, computed for the cipher, or `ciphertext` where it is not known.
    INFERSCOPE_INFERRED_SIZES = "inferscope.inferred.sizes";
    /// TLS records of the response.
    INFERSCOPE_INFERRED_RECORD_COUNT = "inferscope.inferred.record.count";
    /// Pieces of the response: records that came at one time.
    INFERSCOPE_INFERRED_PIECE_COUNT = "inferscope.inferred.piece.count";
    /// Median gap between a stream's pieces, seconds.
    INFERSCOPE_INFERRED_GAP_P50 = "inferscope.inferred.gap.p50";
    /// 99th percentile gap, seconds.
    INFERSCOPE_INFERRED_GAP_P99 = "inferscope.inferred.gap.p99";
    /// Largest gap, seconds.
    INFERSCOPE_INFERRED_GAP_MAX = "inferscope.inferred.gap.max";
    /// Present, and true, only when the client offered HTTP/2: several calls at one time would look like one.
    INFERSCOPE_INFERRED_MAYBE_SEVERAL = "inferscope.inferred.maybe_several";

    /// What the vector store calls the operation.
    INFERSCOPE_RETRIEVAL_OPERATION = "inferscope.retrieval.operation";
    /// Most results that were asked for, of each query.
    INFERSCOPE_RETRIEVAL_TOP_K = "inferscope.retrieval.top_k";
    /// Results that came, of all queries together.
    INFERSCOPE_RETRIEVAL_RESULT_COUNT = "inferscope.retrieval.result_count";
    /// Version of the Agent2Agent protocol.
    INFERSCOPE_A2A_PROTOCOL_VERSION = "inferscope.a2a.protocol.version";
    /// State of the agent's task, the last that was told.
    INFERSCOPE_A2A_TASK_STATE = "inferscope.a2a.task.state";

    /// Seconds that the server says the request waited to be scheduled. What the server reports has this prefix: it is its
    /// clock's word, beside what was measured from outside.
    INFERSCOPE_SERVER_TIMING_QUEUE = "inferscope.server.timing.queue";
    /// Seconds that the server says it read the prompt.
    INFERSCOPE_SERVER_TIMING_PROMPT = "inferscope.server.timing.prompt";
    /// Seconds that the server says passed to the first token; vLLM counts without the queue.
    INFERSCOPE_SERVER_TIMING_TIME_TO_FIRST_TOKEN = "inferscope.server.timing.time_to_first_token";
    /// Seconds that the server says it generated.
    INFERSCOPE_SERVER_TIMING_GENERATION = "inferscope.server.timing.generation";
    /// Mean seconds that the server says lay between two output tokens.
    INFERSCOPE_SERVER_TIMING_INTER_TOKEN = "inferscope.server.timing.inter_token";
    /// Seconds that the server says it loaded the model.
    INFERSCOPE_SERVER_TIMING_LOAD = "inferscope.server.timing.load";
    /// Seconds that the server says the whole request took.
    INFERSCOPE_SERVER_TIMING_TOTAL = "inferscope.server.timing.total";
    /// Seconds that a gateway says the server behind it took.
    INFERSCOPE_SERVER_TIMING_UPSTREAM = "inferscope.server.timing.upstream";

    /// Between two servers of this host: `runner` within one engine, `proxy` where the first passes requests on. The tokens
    /// of such a call are those of the first server's.
    INFERSCOPE_HOP = "inferscope.hop";
    /// Names the processes that serve one model together, as long as they live.
    INFERSCOPE_ENGINE_ID = "inferscope.engine.id";
    /// What software it is, where it was recognised: `vllm`, `ollama`, ...
    INFERSCOPE_ENGINE_NAME = "inferscope.engine.name";
    /// Its version, where it could be seen.
    INFERSCOPE_ENGINE_VERSION = "inferscope.engine.version";
    /// Processes of it.
    INFERSCOPE_ENGINE_PROCESS_COUNT = "inferscope.engine.process.count";
    /// How sure it is that they belong together, 0 to 1.
    INFERSCOPE_ENGINE_CONFIDENCE = "inferscope.engine.confidence";
    /// Other calls of the engine that were under way when this one came.
    INFERSCOPE_IN_FLIGHT_AT_START = "inferscope.in_flight_at_start";
    /// The engine's GPUs, by NVML's ids.
    INFERSCOPE_GPU_IDS = "inferscope.gpu.ids";
    /// Mean share of the call's time with a kernel running, 0 to 1, over the devices.
    INFERSCOPE_GPU_UTILIZATION_MEAN = "inferscope.gpu.utilization.mean";
    /// The largest that was sampled, of any device.
    INFERSCOPE_GPU_UTILIZATION_MAX = "inferscope.gpu.utilization.max";
    /// GPU memory of the engine's processes at the call's start, bytes. What one request has is not observable.
    INFERSCOPE_GPU_MEMORY_START = "inferscope.gpu.memory.start";
    /// The most of it during the call.
    INFERSCOPE_GPU_MEMORY_PEAK = "inferscope.gpu.memory.peak";
    /// At its end.
    INFERSCOPE_GPU_MEMORY_END = "inferscope.gpu.memory.end";
    /// Mean power of the devices together, watts.
    INFERSCOPE_GPU_POWER_WATTS = "inferscope.gpu.power.watts";
    /// The call's share of the board energy that was measured: not marginal energy, not wall power.
    INFERSCOPE_GPU_ENERGY_JOULES = "inferscope.gpu.energy.joules";
    /// How the share was found.
    INFERSCOPE_GPU_ENERGY_METHOD = "inferscope.gpu.energy.method";
    /// Length of the windows that energy is split in, milliseconds.
    INFERSCOPE_GPU_ENERGY_WINDOW_MS = "inferscope.gpu.energy.window_ms";
    /// Mean number of calls that shared a window, this one included.
    INFERSCOPE_GPU_ENERGY_CONCURRENCY = "inferscope.gpu.energy.concurrency";
    /// Share of the GPU's busy time that captured calls explain, 0 to 1.
    INFERSCOPE_GPU_ENERGY_COVERAGE = "inferscope.gpu.energy.coverage";
    /// Error that nine in ten calls stay below in the simulation, as a share.
    INFERSCOPE_GPU_ENERGY_UNCERTAINTY = "inferscope.gpu.energy.uncertainty";
    /// Steps of the engine while the call was served; absent unless the step clock is on.
    INFERSCOPE_GPU_STEP_COUNT = "inferscope.gpu.step.count";
    /// How long a step took from its first launch to the end of the wait for it, seconds: the median.
    INFERSCOPE_GPU_STEP_DURATION_P50 = "inferscope.gpu.step.duration.p50";
    /// The longest.
    INFERSCOPE_GPU_STEP_DURATION_MAX = "inferscope.gpu.step.duration.max";
    /// Share of the steps' time, with the gaps between them, in which the host waited for the GPU, 0 to 1.
    INFERSCOPE_GPU_STEP_WAIT_RATIO = "inferscope.gpu.step.wait_ratio";
    /// Share of it between two steps, in which nothing was launched, 0 to 1.
    INFERSCOPE_GPU_STEP_HOST_GAP_RATIO = "inferscope.gpu.step.host_gap_ratio";
    /// What took longer than it does as a rule: `time_to_first_token`, `time_per_output_token`, `chunk_gap`.
    INFERSCOPE_SLOW = "inferscope.slow";
    /// Why, the likeliest first; each has an event with its evidence. Absent where nothing speaks for one.
    INFERSCOPE_CAUSE_KINDS = "inferscope.cause.kinds";
    /// Seconds for which the server went on after its client had gone.
    INFERSCOPE_WASTE_SECONDS = "inferscope.waste.seconds";
    /// Chunks that it wrote meanwhile.
    INFERSCOPE_WASTE_CHUNKS = "inferscope.waste.chunks";
    /// The call's share of energy meanwhile, joules.
    INFERSCOPE_WASTE_JOULES = "inferscope.waste.joules";

    /// Longest time for which nothing came, seconds, where it was beyond the configured one.
    INFERSCOPE_STALL_SECONDS = "inferscope.stall.seconds";
    /// Mean utilisation of the engine's GPUs meanwhile, 0 to 1: whether they worked.
    INFERSCOPE_STALL_GPU_UTILIZATION = "inferscope.stall.gpu.utilization";

    /// Model that was loaded, as a command line names it.
    INFERSCOPE_LOAD_MODEL = "inferscope.load.model";
    /// First file with weights that was opened.
    INFERSCOPE_LOAD_PATH = "inferscope.load.path";
    /// Processes that opened some.
    INFERSCOPE_LOAD_PROCESS_COUNT = "inferscope.load.process.count";
    /// Files with weights that were opened.
    INFERSCOPE_LOAD_FILE_COUNT = "inferscope.load.file.count";
    /// Their sizes together, bytes.
    INFERSCOPE_LOAD_FILE_BYTES = "inferscope.load.file.bytes";
    /// Bytes that were read from storage meanwhile.
    INFERSCOPE_LOAD_READ_BYTES = "inferscope.load.read.bytes";
    /// Bytes a second at which they were.
    INFERSCOPE_LOAD_READ_RATE = "inferscope.load.read.rate";
    /// Span event attribute: start_up, weights, warm_up, idle or first_token.
    INFERSCOPE_LOAD_PHASE = "inferscope.load.phase.name";
    /// Span event attribute: how long it lasted.
    INFERSCOPE_LOAD_PHASE_SECONDS = "inferscope.load.phase.seconds";

    /// Span event attribute: which time was long.
    INFERSCOPE_SLOW_MEASURE = "inferscope.slow.measure";
    /// Span event attribute: how long, seconds.
    INFERSCOPE_SLOW_SECONDS = "inferscope.slow.seconds";
    /// Span event attribute: how long it is as a rule, or the configured limit, seconds.
    INFERSCOPE_SLOW_USUAL = "inferscope.slow.usual";
    /// Span event attribute: the cause.
    INFERSCOPE_CAUSE_KIND = "inferscope.cause.kind";
    /// Span event attribute: share of the delay that it explains, 0 to 1.
    INFERSCOPE_CAUSE_SHARE = "inferscope.cause.share";
    /// Span event attribute: how long it lasted within the call, seconds.
    INFERSCOPE_CAUSE_SECONDS = "inferscope.cause.seconds";
    /// Span event attribute: what was measured, with units.
    INFERSCOPE_CAUSE_EVIDENCE = "inferscope.cause.evidence";
    /// Log attribute: exit code of a process that ended by itself.
    PROCESS_EXIT_CODE = "process.exit.code";
    /// Log attribute: signal that ended a process.
    INFERSCOPE_EXIT_SIGNAL = "inferscope.exit.signal";
    /// Log attribute: present, and true, only when the kernel ended a process for want of memory.
    INFERSCOPE_EXIT_OOM = "inferscope.exit.oom";
    /// Log attribute: calls of the engine that were under way.
    INFERSCOPE_IN_FLIGHT = "inferscope.in_flight";
    /// Log attribute: seconds for which the engine has ended no step, where steps are timed.
    INFERSCOPE_STALL_STEPLESS_SECONDS = "inferscope.stall.stepless_seconds";
    /// Span event attribute: `request` or `response`.
    INFERSCOPE_PART = "inferscope.part";
    /// Span event attribute: how many bytes are missing.
    INFERSCOPE_BYTES = "inferscope.bytes";
    /// Span event attribute: why bytes could not be understood.
    INFERSCOPE_REASON = "inferscope.reason";
}

/// Names of what is inferred: no other attribute of any call is an estimate.
pub const INFERRED: &[&str] = &[
    INFERSCOPE_INFERRED,
    INFERSCOPE_INFERRED_FIRST_RECORD,
    INFERSCOPE_INFERRED_FIRST_TOKEN,
    INFERSCOPE_INFERRED_REQUEST_BYTES,
    INFERSCOPE_INFERRED_RESPONSE_BYTES,
    INFERSCOPE_INFERRED_SIZES,
    INFERSCOPE_INFERRED_RECORD_COUNT,
    INFERSCOPE_INFERRED_PIECE_COUNT,
    INFERSCOPE_INFERRED_GAP_P50,
    INFERSCOPE_INFERRED_GAP_P99,
    INFERSCOPE_INFERRED_GAP_MAX,
    INFERSCOPE_INFERRED_MAYBE_SEVERAL,
];

/// Names of what holds content: there only with content capture on, and the first to go from a span that is too large.
pub const CONTENT: &[&str] =
    &[GEN_AI_INPUT_MESSAGES, GEN_AI_OUTPUT_MESSAGES, GEN_AI_SYSTEM_INSTRUCTIONS, GEN_AI_TOOL_DEFINITIONS];

/// Span event: bytes are missing from the stream.
pub const EVENT_GAP: &str = "inferscope.gap";
/// Span event: bytes could not be understood.
pub const EVENT_MALFORMED: &str = "inferscope.malformed";
/// Span event: something took longer than it does as a rule.
pub const EVENT_SLOW: &str = "inferscope.slow";
/// Span event: a phase of loading begins.
pub const EVENT_LOAD_PHASE: &str = "inferscope.load.phase";
/// Span event: why, with its evidence.
pub const EVENT_CAUSE: &str = "inferscope.cause";
/// Log event: a call does not move.
pub const EVENT_CALL_STUCK: &str = "inferscope.call.stuck";
/// Log event: a process of an engine ended, and not by its own will.
pub const EVENT_ENGINE_EXIT: &str = "inferscope.engine.exit";
/// Span event: a body's content encoding is not decoded.
pub const EVENT_UNDECODED: &str = "inferscope.undecoded";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lower_case() {
        let mut names = ALL.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|n| n.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_'))));
    }

    #[test]
    fn what_is_inferred_says_so_in_its_name() {
        let marked: Vec<_> = ALL.iter().copied().filter(|name| name.starts_with("inferscope.inferred")).collect();
        assert_eq!(marked, INFERRED);
    }

    #[test]
    fn deprecated_names_are_not_used() {
        for old in ["gen_ai.system", "gen_ai.prompt", "gen_ai.completion", "gen_ai.usage.prompt_tokens"] {
            assert!(!ALL.contains(&old));
        }
        assert!(!ALL.iter().any(|n| n.contains("cache_creation") || n.ends_with("completion_tokens")));
    }
}
