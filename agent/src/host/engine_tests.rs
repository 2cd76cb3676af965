//! Command lines and process titles as the engines' public sources make them.

use super::*;

/// `line` is cut at its blanks; a title that has blanks is one argument where it begins with `=`.
fn recognise(line: &str) -> Option<Engine> {
    let cmdline = match line.strip_prefix('=') {
        Some(title) => vec![title.to_owned()],
        None => line.split(' ').map(str::to_owned).collect(),
    };
    Engine::recognise(&ProcessInfo { cmdline, ..ProcessInfo::default() })
}

fn check(line: &str, kind: Kind, role: impl Into<Option<Role>>, model: Option<&str>, served_name: Option<&str>) {
    let engine = recognise(line).unwrap_or_else(|| panic!("not recognised: {line}"));
    let seen = (engine.kind, engine.role, engine.model.as_deref(), engine.served_name.as_deref());
    assert_eq!(seen, (kind, role.into(), model, served_name), "{line}");
}

#[test]
fn vllm() {
    use Kind::Vllm;
    // docs/serving/openai_compatible_server.md, as pip's console script runs it.
    check(
        "/opt/venv/bin/python3 /opt/venv/bin/vllm serve Qwen/Qwen3-8B --port 8000",
        Vllm,
        Role::ApiServer,
        Some("Qwen/Qwen3-8B"),
        None,
    );
    check(
        "vllm serve /models/m --served-model-name fast slow --api-key [REDACTED:secret]",
        Vllm,
        Role::ApiServer,
        Some("/models/m"),
        Some("fast"),
    );
    check("vllm serve --model M --served_model_name=M", Vllm, Role::ApiServer, Some("M"), None);
    // vllm/entrypoints/openai/api_server.py, vllm/entrypoints/api_server.py.
    check(
        "python3 -m vllm.entrypoints.openai.api_server --model=facebook/opt-125m",
        Vllm,
        Role::ApiServer,
        Some("facebook/opt-125m"),
        None,
    );
    check("python -m vllm.entrypoints.api_server --model M", Vllm, Role::ApiServer, Some("M"), None);
    check("python -m vllm.entrypoints.cli.main serve M", Vllm, Role::ApiServer, Some("M"), None);
    // docs/serving/data_parallel_deployment.md.
    check("vllm serve M --headless --data-parallel-size 4", Vllm, Role::Launcher, Some("M"), None);
    // vllm/utils/system_utils.py: set_process_title; its callers in v1/engine/core.py, v1/engine/coordinator.py,
    // v1/executor/multiproc_executor.py, entrypoints/cli/serve.py.
    check("VLLM::EngineCore", Vllm, Role::EngineCore, None, None);
    check("VLLM::EngineCore_DP1", Vllm, Role::EngineCore, None, None);
    check("VLLM::Worker", Vllm, Role::Worker, None, None);
    check("VLLM::Worker_DP0_PP1_TP0_EP3", Vllm, Role::Worker, None, None);
    check("VLLM::DPCoordinator", Vllm, Role::Coordinator, None, None);
    check("VLLM::APIServer_0", Vllm, Role::ApiServer, None, None);
    // VLLM_PROCESS_NAME_PREFIX in vllm/envs.py.
    check("prod::EngineCore_DP0", Vllm, Role::EngineCore, None, None);
    // vllm-project/vllm PR 43825 and 44183: how the server starts its Rust front.
    check(
        r#"/usr/local/lib/python3.12/dist-packages/vllm/vllm-rs frontend --listen-fd 38 --engine-count 1 --args-json {"model":"M","served_model_name":["fast"]}"#,
        Vllm,
        Role::ApiServer,
        Some("M"),
        Some("fast"),
    );
    check("vllm-rs serve Qwen/Qwen3-0.6B", Vllm, Role::ApiServer, Some("Qwen/Qwen3-0.6B"), None);
    // vllm/v1/executor/ray_utils.py's RayWorkerWrapper, by the title that Ray gives an actor's method.
    check("ray::RayWorkerWrapper.execute_method", Vllm, Role::Worker, None, None);
    // Who waits for it.
    check("uv run --with vllm vllm serve M", Vllm, Role::Launcher, Some("M"), None);
}

#[test]
fn sglang() {
    use Kind::Sglang;
    // docs/get_started/install.md; python/sglang/cli/serve.py.
    check(
        "python3 -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct --port 30000",
        Sglang,
        Role::ApiServer,
        Some("meta-llama/Llama-3.1-8B-Instruct"),
        None,
    );
    check(
        "/venv/bin/python /venv/bin/sglang serve --model-path M --served-model-name s",
        Sglang,
        Role::ApiServer,
        Some("M"),
        Some("s"),
    );
    // managers/scheduler.py, managers/detokenizer_manager.py, managers/data_parallel_controller.py,
    // managers/multi_tokenizer_mixin.py: setproctitle.
    check("sglang::scheduler", Sglang, Role::Scheduler, None, None);
    check("sglang::scheduler_DP0_PP1_TP2_EP0", Sglang, Role::Scheduler, None, None);
    check("sglang::detokenizer", Sglang, Role::Detokenizer, None, None);
    check("sglang::data_parallel_controller", Sglang, Role::Coordinator, None, None);
    check("sglang::tokenizer_worker:4711", Sglang, Role::ApiServer, None, None);
    check("sglang::http_server/tokenizer_manager", Sglang, Role::ApiServer, None, None);
    check("sglang::async_draft_runner(gpu=1)", Sglang, None, None, None);
    // sgl-model-gateway/bindings/python/src/sglang_router.
    check("python -m sglang_router.launch_router --pd-disaggregation --port 8000", Sglang, Role::Router, None, None);
    check("python -m sglang_router.launch_server --model-path M --dp-size 2", Sglang, Role::Launcher, Some("M"), None);
}

#[test]
fn tgi() {
    use Kind::Tgi;
    // launcher/src/main.rs: Args, shard_manager, spawn_webserver.
    check(
        "text-generation-launcher --model-id HuggingFaceH4/zephyr-7b-beta --num-shard 2",
        Tgi,
        Role::Launcher,
        Some("HuggingFaceH4/zephyr-7b-beta"),
        None,
    );
    check(
        "text-generation-router --max-client-batch-size 4 --port 80 --master-shard-uds-path /tmp/text-generation-server-0 --tokenizer-name M",
        Tgi,
        Role::Router,
        Some("M"),
        None,
    );
    check(
        "/usr/bin/python3 /usr/local/bin/text-generation-server serve M --uds-path /tmp/text-generation-server --json-output --sharded",
        Tgi,
        Role::Worker,
        Some("M"),
        None,
    );
}

#[test]
fn ollama() {
    use Kind::Ollama;
    // cmd/cmd.go: serve, alias start; llm/server.go of 0.12: StartRunner; of 0.5: ollama_llama_server.
    check("/usr/local/bin/ollama serve", Ollama, Role::ApiServer, None, None);
    check("/usr/local/bin/ollama start", Ollama, Role::ApiServer, None, None);
    check(
        "/usr/local/bin/ollama runner --ollama-engine --model /m/blobs/sha256-a --port 34567",
        Ollama,
        Role::Runner,
        Some("/m/blobs/sha256-a"),
        None,
    );
    check("/usr/local/bin/ollama runner --ollama-engine --port 34567", Ollama, Role::Runner, None, None);
    check(
        "/tmp/ollama123/runners/cuda_v12/ollama_llama_server --model /m/a --ctx-size 8192 --port 1",
        Ollama,
        Role::Runner,
        Some("/m/a"),
        None,
    );
    // discover/llama_server.go, llm.FindLlamaServer: upstream's server out of Ollama's own folder.
    check(
        "/usr/local/lib/ollama/llama-server --model /m/blobs/sha256-a --port 1 --host 127.0.0.1 --no-webui --offline",
        Ollama,
        Role::Runner,
        Some("/m/blobs/sha256-a"),
        None,
    );
}

#[test]
fn llama_cpp() {
    use Kind::LlamaCpp;
    // tools/server/README.md.
    check(
        "./build/bin/llama-server -m models/7B/ggml-model.gguf -c 2048 --alias local",
        LlamaCpp,
        Role::ApiServer,
        Some("models/7B/ggml-model.gguf"),
        Some("local"),
    );
    check("llama-server -hf ggml-org/gemma-3-1b-it-GGUF", LlamaCpp, Role::ApiServer, None, None);
    check("llama-server --hf-repo ggml-org/g -a x", LlamaCpp, Role::ApiServer, Some("ggml-org/g"), Some("x"));
    check("/opt/llama.cpp/server -m m.gguf", LlamaCpp, Role::ApiServer, Some("m.gguf"), None);
    // abetlen/llama-cpp-python README.
    check(
        "python3 -m llama_cpp.server --model m.gguf --model_alias a",
        LlamaCpp,
        Role::ApiServer,
        Some("m.gguf"),
        Some("a"),
    );
}

#[test]
fn triton_lm_studio_and_transformers() {
    // triton-inference-server/server docs/user_guide; python_backend's README and src/stub_launcher.cc.
    check(
        "tritonserver --model-repository=/models --http-port 8000",
        Kind::Triton,
        Role::ApiServer,
        Some("/models"),
        None,
    );
    check("/opt/tritonserver/bin/tritonserver --model-store /m", Kind::Triton, Role::ApiServer, Some("/m"), None);
    check(
        "/opt/tritonserver/backends/python/triton_python_backend_stub /models/p/1/model.py triton_python_backend_shm_region_1 1048576 1048576 1 /opt/tritonserver/backends/python 336 p_0_5 DEFAULT",
        Kind::Triton,
        Role::Worker,
        None,
        None,
    );
    // lmstudio-ai/lms issue 502; lmstudio-ai/lmstudio-bug-tracker issues 588 and 1068.
    check("llmster", Kind::LmStudio, Role::ApiServer, None, None);
    check("/home/u/.lmstudio/llmster/0.0.6-1/llmster", Kind::LmStudio, Role::ApiServer, None, None);
    check(
        "/home/u/.lmstudio/.internal/utils/node /home/u/.lmstudio/llmster/0.0.6-1/.bundle/lib/llmworker.js",
        Kind::LmStudio,
        Role::Worker,
        None,
        None,
    );
    check("/home/u/.cache/lm-studio/.internal/utils/node x.js", Kind::LmStudio, None, None, None);
    check("/tmp/.mount_LM-StumEkll2/lm-studio --run-as-service", Kind::LmStudio, Role::ApiServer, None, None);
    check("/tmp/.mount_LM-StumEkll2/lm-studio --type=broker", Kind::LmStudio, None, None, None);
    // huggingface/transformers docs/source/en/serving.md, src/transformers/cli/serve.py.
    check(
        "/venv/bin/python /venv/bin/transformers serve --force-model Qwen/Qwen3.5-0.8B --port 8000",
        Kind::Transformers,
        Role::ApiServer,
        Some("Qwen/Qwen3.5-0.8B"),
        None,
    );
    check("transformers serve", Kind::Transformers, Role::ApiServer, None, None);
}

#[test]
fn others_are_not_taken_for_one() {
    for line in [
        "",
        "nginx: worker process",
        "python app.py --model gpt-5",
        "ollama run llama3",
        "ollama list",
        "vllm bench serve --model M",
        "vllm chat",
        "sglang",
        "transformers env",
        "text-generation-server download-weights M --extension .safetensors",
        "node server.js",
        "/usr/bin/server -m x",
        "bash -c vllm serve M",
        "uv run app.py",
        "rust::lang",
        "Worker::Worker",
        "lms ps",
        "litellm --model ollama/llama3",
    ] {
        assert_eq!(recognise(line), None, "{line}");
    }
}

#[test]
fn the_executable_tells_whose_llama_server_it_is() {
    let process = ProcessInfo {
        cmdline: vec!["llama-server".to_owned(), "--model".to_owned(), "m".to_owned()],
        exe: Some("/usr/lib/ollama/../lib/ollama/llama-server".to_owned()),
        engine_version: Some("1.2".to_owned()),
        ..ProcessInfo::default()
    };
    let engine = Engine::recognise(&process).unwrap();
    assert_eq!((engine.kind, engine.role), (Kind::Ollama, Some(Role::Runner)));
    assert_eq!(engine.version.as_deref(), Some("1.2"));
}
