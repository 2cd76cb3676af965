//! Which inference engine a process belongs to, by its command line.
//!
//! Owns the names of engines' programs, modules and process titles, and where their command lines say which model is
//! served under which name. Pure. Leaves to others the version, which takes a look at files (`version`), and which
//! processes make up one engine (`group`).
//!
//! A command line is what the process says of itself: it decides how a process is called, never which process it is.
//!
//! To add an engine: 1. a [`Kind`] and its name; 2. its programs in [`Engine::of_program`], its Python modules in
//! [`Engine::of_module`], the titles that it gives its processes in [`Engine::of_title`]; 3. the options that name its
//! model in [`MODELS`] and [`NAMES`] where they are new; 4. a line for each process in the tests, with the source that
//! says so.

use serde_json::Value;

use super::{ProcessInfo, command::Command};

/// An inference engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// Hugging Face's Text Generation Inference.
    Tgi,
    /// Ollama.
    Ollama,
    /// llama.cpp's server.
    LlamaCpp,
    /// NVIDIA's Triton Inference Server.
    Triton,
    /// LM Studio.
    LmStudio,
    /// `transformers serve`.
    Transformers,
    /// None of these.
    #[default]
    Unknown,
}

impl Kind {
    /// The name in attributes and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llama.cpp",
            Self::Triton => "triton",
            Self::LmStudio => "lmstudio",
            Self::Transformers => "transformers",
            Self::Unknown => "unknown",
        }
    }
}

/// What a process does in its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes requests.
    ApiServer,
    /// Schedules and, where it has no workers, computes.
    EngineCore,
    /// Computes on a device.
    Worker,
    /// Serves one model for a server that starts one of it for each.
    Runner,
    /// Takes requests for processes of its own engine.
    Router,
    /// Starts the others.
    Launcher,
    /// Turns tokens into text.
    Detokenizer,
    /// Schedules and computes on a device.
    Scheduler,
    /// Coordinates several replicas.
    Coordinator,
}

impl Role {
    /// The name in attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiServer => "api_server",
            Self::EngineCore => "engine_core",
            Self::Worker => "worker",
            Self::Runner => "runner",
            Self::Router => "router",
            Self::Launcher => "launcher",
            Self::Detokenizer => "detokenizer",
            Self::Scheduler => "scheduler",
            Self::Coordinator => "coordinator",
        }
    }

    /// Whether a process with this role is reached by processes of its own engine alone, and so cannot stand alone.
    pub fn is_internal(self) -> bool {
        match self {
            Self::EngineCore
            | Self::Worker
            | Self::Runner
            | Self::Detokenizer
            | Self::Scheduler
            | Self::Coordinator => true,
            Self::ApiServer | Self::Router | Self::Launcher => false,
        }
    }
}

/// What a command line says of a process's engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Which one.
    pub kind: Kind,
    /// What the process does in it; none for a helper that neither serves nor computes.
    pub role: Option<Role>,
    /// Version, as [`ProcessInfo::engine_version`] has it.
    pub version: Option<String>,
    /// The model: a path, or a name in a registry of models.
    pub model: Option<String>,
    /// The name that requests call it by, where it differs; the first of several.
    pub served_name: Option<String>,
}

/// Programs that run the command that they are given and wait for it, and so have started an engine. Those that become
/// the command (`env`, `numactl`) are no processes.
const WRAPPERS: [&str; 8] = ["uv", "uvx", "pipx", "poetry", "pdm", "conda", "mamba", "micromamba"];

/// Arguments of such a program that may stand before the command.
const MAX_WRAPPING: usize = 16;

/// Options that name the model, by the words that follow the dashes, with underscores for dashes.
const MODELS: [&str; 9] = [
    // vLLM, llama.cpp, Ollama's runners, llama-cpp-python; SGLang's and transformers' short form too.
    "model",
    "m",
    // SGLang.
    "model_path",
    // TGI's launcher; its router is told the tokenizer, which is the model's.
    "model_id",
    "tokenizer_name",
    // `transformers serve`.
    "force_model",
    // Triton, whose models lie in a repository.
    "model_repository",
    "model_store",
    // llama.cpp from Hugging Face.
    "hf_repo",
];

/// Options that give the model a name of its own.
const NAMES: [&str; 4] = ["served_model_name", "alias", "a", "model_alias"];

impl Engine {
    /// The engine that a process belongs to, if it is of one of those that are known.
    pub fn recognise(process: &ProcessInfo) -> Option<Self> {
        let arguments: Vec<&str> = process.cmdline.iter().map(String::as_str).collect();
        let mut engine = Self::of_arguments(&arguments)?;
        // Ollama ships llama.cpp's server and starts it for each model.
        let is_ollamas = [process.exe.as_deref(), arguments.first().copied()]
            .into_iter()
            .flatten()
            .any(|path| path.contains("/lib/ollama/"));
        if engine.kind == Kind::LlamaCpp && is_ollamas {
            engine = Self { kind: Kind::Ollama, role: Some(Role::Runner), ..engine };
        }
        engine.version.clone_from(&process.engine_version);
        Some(engine)
    }

    fn of_arguments(arguments: &[&str]) -> Option<Self> {
        if let Some((kind, role)) = arguments.first().and_then(|title| Self::of_title(title)) {
            return Some(Self::new(kind, role));
        }
        let command = Command::of(arguments)?;
        if WRAPPERS.contains(&command.name) {
            // Which of its options take a value is not known: the first word that begins an engine's command does.
            let mut inner = (1..arguments.len().min(MAX_WRAPPING)).filter_map(|at| arguments.get(at..));
            return Some(Self { role: Some(Role::Launcher), ..inner.find_map(Self::of_arguments)? });
        }
        let (kind, role) = match command.is_module {
            true => Self::of_module(&command),
            false => Self::of_program(&command),
        }?;
        let mut engine = Self::new(kind, role);
        engine.model = command.option(&MODELS).or_else(|| positional_model(kind, role, &command)).map(str::to_owned);
        engine.served_name = command.option(&NAMES).map(str::to_owned);
        if let Some(json) = command.option(&["args_json"]) {
            engine.read_json(json);
        }
        engine.served_name = engine.served_name.filter(|name| Some(name) != engine.model.as_ref());
        Some(engine)
    }

    fn new(kind: Kind, role: impl Into<Option<Role>>) -> Self {
        Self { kind, role: role.into(), version: None, model: None, served_name: None }
    }

    /// Titles that processes give themselves in place of their command line.
    fn of_title(title: &str) -> Option<(Kind, Option<Role>)> {
        let (prefix, name) = title.split_once("::")?;
        let is = |role: &str| {
            name.strip_prefix(role).is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', ':', '/']))
        };
        if prefix.eq_ignore_ascii_case("sglang") {
            let role = match () {
                () if name.contains("scheduler") => Some(Role::Scheduler),
                () if is("detokenizer") => Some(Role::Detokenizer),
                () if is("data_parallel_controller") => Some(Role::Coordinator),
                () if is("tokenizer_worker") || is("http_server") => Some(Role::ApiServer),
                () if is("gpu_worker") => Some(Role::Worker),
                () => None,
            };
            return Some((Kind::Sglang, role));
        }
        // vLLM's prefix can be chosen (VLLM_PROCESS_NAME_PREFIX): what only it calls a process is enough.
        let role = match () {
            () if is("EngineCore") => Some(Role::EngineCore),
            () if is("DPCoordinator") => Some(Role::Coordinator),
            () if is("APIServer") => Some(Role::ApiServer),
            () if prefix == "ray" && name.starts_with("RayWorkerWrapper") => Some(Role::Worker),
            () if prefix != "VLLM" => return None,
            () if is("Worker") => Some(Role::Worker),
            () => None,
        };
        Some((Kind::Vllm, role))
    }

    /// `python -m module`.
    fn of_module(command: &Command<'_>) -> Option<(Kind, Option<Role>)> {
        let module = command.name;
        Some(match module {
            "vllm" | "vllm.entrypoints.cli.main" => return Self::of_vllm(command),
            _ if module.starts_with("vllm.entrypoints.") && module.ends_with("api_server") => {
                (Kind::Vllm, Some(vllm_server(command)))
            }
            "sglang.launch_server" => (Kind::Sglang, Some(Role::ApiServer)),
            "sglang_router.launch_router" => (Kind::Sglang, Some(Role::Router)),
            "sglang_router.launch_server" => (Kind::Sglang, Some(Role::Launcher)),
            "text_generation_server.cli" | "text_generation_server" => (Kind::Tgi, Some(Role::Worker)),
            "llama_cpp.server" => (Kind::LlamaCpp, Some(Role::ApiServer)),
            "transformers.cli.transformers" | "transformers.commands.transformers_cli"
                if command.word() == Some("serve") =>
            {
                (Kind::Transformers, Some(Role::ApiServer))
            }
            _ => return None,
        })
    }

    /// A program, or a script that Python runs, by its base name.
    fn of_program(command: &Command<'_>) -> Option<(Kind, Option<Role>)> {
        let serves = command.word() == Some("serve");
        Some(match command.name {
            "vllm" => return Self::of_vllm(command),
            "vllm-rs" if serves || command.word() == Some("frontend") => (Kind::Vllm, Some(Role::ApiServer)),
            "sglang" if serves => (Kind::Sglang, Some(Role::ApiServer)),
            "text-generation-launcher" => (Kind::Tgi, Some(Role::Launcher)),
            name if name.starts_with("text-generation-router") => (Kind::Tgi, Some(Role::Router)),
            "text-generation-server" if serves => (Kind::Tgi, Some(Role::Worker)),
            "ollama" => match command.word() {
                Some("serve" | "start") => (Kind::Ollama, Some(Role::ApiServer)),
                Some("runner") => (Kind::Ollama, Some(Role::Runner)),
                // `ollama run` and the like are clients.
                _ => return None,
            },
            "ollama_llama_server" => (Kind::Ollama, Some(Role::Runner)),
            "llama-server" => (Kind::LlamaCpp, Some(Role::ApiServer)),
            // Its name before June 2024, which says little without its folder.
            "server" if command.program.contains("llama.cpp/") => (Kind::LlamaCpp, Some(Role::ApiServer)),
            "tritonserver" => (Kind::Triton, Some(Role::ApiServer)),
            "triton_python_backend_stub" => (Kind::Triton, Some(Role::Worker)),
            "llmster" => (Kind::LmStudio, Some(Role::ApiServer)),
            // Electron's helpers are told their type.
            "lm-studio" | "LM-Studio" if command.option(&["type"]).is_some() => (Kind::LmStudio, None),
            "lm-studio" | "LM-Studio" => (Kind::LmStudio, Some(Role::ApiServer)),
            "node" if is_lm_studios(command.program) => {
                let is_worker = command.arguments.iter().any(|argument| argument.ends_with("llmworker.js"));
                (Kind::LmStudio, is_worker.then_some(Role::Worker))
            }
            "transformers" | "transformers-cli" if serves => (Kind::Transformers, Some(Role::ApiServer)),
            _ => return None,
        })
    }

    fn of_vllm(command: &Command<'_>) -> Option<(Kind, Option<Role>)> {
        (command.word() == Some("serve")).then(|| (Kind::Vllm, Some(vllm_server(command))))
    }

    /// The arguments that vLLM's server hands its Rust front as JSON.
    fn read_json(&mut self, json: &str) {
        let Ok(Value::Object(arguments)) = serde_json::from_str(json) else { return };
        let text = |name: &str| {
            let value = arguments.get(name)?;
            value.as_str().or_else(|| value.get(0)?.as_str()).map(str::to_owned)
        };
        self.model = self.model.take().or_else(|| text("model"));
        self.served_name = self.served_name.take().or_else(|| text("served_model_name"));
    }
}

/// vLLM's server without its API runs engines for one elsewhere.
fn vllm_server(command: &Command<'_>) -> Role {
    if command.has("headless") { Role::Launcher } else { Role::ApiServer }
}

/// LM Studio runs a Node of its own, in `~/.lmstudio` or, of older versions, in `~/.cache/lm-studio`.
fn is_lm_studios(program: &str) -> bool {
    [".lmstudio/", "/lm-studio/"].iter().any(|folder| program.contains(folder))
}

/// `vllm serve MODEL`, `text-generation-server serve MODEL`, `transformers serve MODEL`.
fn positional_model<'a>(kind: Kind, role: Option<Role>, command: &Command<'a>) -> Option<&'a str> {
    let takes = matches!(kind, Kind::Vllm | Kind::Sglang | Kind::Transformers)
        || (kind, role) == (Kind::Tgi, Some(Role::Worker));
    takes.then(|| command.operand()).flatten()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
