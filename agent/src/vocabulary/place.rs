//! Where the tokenizer of a process's model lies.
//!
//! Engines are told by their command line: a directory, or a name under which Hugging Face's cache holds one. A worker whose
//! title was overwritten has a parent that was told. Files are opened as the process would open them, within its own root.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read as _,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use procfs::process::Process;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Options whose value names a model or its tokenizer, those that name the tokenizer first.
const OPTIONS: [&str; 8] = [
    // vLLM, SGLang, TGI's router.
    "--tokenizer",
    "--tokenizer-path",
    "--tokenizer-name",
    // vLLM, SGLang, TGI, others.
    "--model",
    "--model-path",
    "--model-id",
    "--model-name-or-path",
    "--model_name_or_path",
];

/// The word behind which `vllm serve`, `lmdeploy serve` and `transformers serve` name it.
const SERVE: &str = "serve";

/// The file, as `transformers` saves it.
const TOKENIZER: &str = "tokenizer.json";

/// Places that are tried of one process.
const MAX_PLACES: usize = 16;

/// A process, its parent, and that one's.
const GENERATIONS: usize = 3;

/// A file, told apart from one that has taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileKey {
    device: u64,
    /// Also what a log may say of it.
    pub inode: u64,
    size: u64,
    modified: i64,
}

/// Where a tokenizer may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In a directory.
    Directory(PathBuf),
    /// In a snapshot of a repository in Hugging Face's cache.
    Repository(PathBuf),
}

/// The tokenizer of the model that a process was told to run.
pub(super) fn tokenizer(tgid: u32) -> Option<(FileKey, File)> {
    let mut pid = i32::try_from(tgid).ok()?;
    for _ in 0..GENERATIONS {
        let process = Process::new(pid).ok()?;
        let environment = process.environ().unwrap_or_default();
        let variable = |name: &str| environment.get(OsStr::new(name))?.clone().into_string().ok();
        let places = places(&process.cmdline().unwrap_or_default(), variable);
        if let Some(found) = places.iter().find_map(|place| place.open(pid)) {
            return Some(found);
        }
        pid = process.stat().ok()?.ppid;
        if pid <= 1 {
            break;
        }
    }
    None
}

/// Where a command line says that the tokenizer is.
fn places(arguments: &[String], variable: impl Fn(&str) -> Option<String>) -> Vec<Place> {
    let of_option = |option: &&str| {
        arguments.iter().enumerate().find_map(|(at, argument)| match argument.strip_prefix(*option)? {
            "" => arguments.get(at + 1).map(String::as_str),
            value => value.strip_prefix('='),
        })
    };
    let served = arguments.iter().skip_while(|argument| *argument != SERVE).skip(1);
    let served = served.map(String::as_str).filter(|argument| !argument.starts_with('-'));
    let mut places = Vec::new();
    for name in OPTIONS.iter().filter_map(of_option).chain(served).take(MAX_PLACES / 2) {
        places.push(Place::Directory(name.into()));
        let mut parts = name.split('/');
        if let (Some(owner), Some(repository), None) = (parts.next(), parts.next(), parts.next())
            && [owner, repository].iter().all(|part| !part.is_empty() && !part.starts_with('.'))
            && let Some(cache) = cache(&variable)
        {
            places.push(Place::Repository(cache.join(format!("models--{owner}--{repository}"))));
        }
    }
    places
}

/// Hugging Face's cache (huggingface_hub, "Environment variables").
fn cache(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || {
        let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(base.join("huggingface"))
    };
    set("HF_HUB_CACHE").or_else(|| Some(set("HF_HOME").or_else(home)?.join("hub")))
}

impl Place {
    fn open(&self, pid: i32) -> Option<(FileKey, File)> {
        let directory = match self {
            Self::Directory(directory) => directory.clone(),
            Self::Repository(repository) => {
                let mut commit = String::new();
                open(pid, &repository.join("refs/main"))?.take(64).read_to_string(&mut commit).ok()?;
                let commit = commit.trim();
                if !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return None;
                }
                repository.join("snapshots").join(commit)
            }
        };
        let file = open(pid, &directory.join(TOKENIZER))?;
        let meta = file.metadata().ok()?;
        let key = FileKey { device: meta.dev(), inode: meta.ino(), size: meta.size(), modified: meta.mtime() };
        Some((key, file))
    }
}

/// Opens a regular file as a process would: an absolute path within its root, another within its working directory.
fn open(pid: i32, path: &Path) -> Option<File> {
    let base = if path.is_absolute() { "root" } else { "cwd" };
    let base: OwnedFd =
        openat(CWD, format!("/proc/{pid}/{base}"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .ok()?;
    // Not to wait for whoever writes a FIFO.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file: File = openat2(base, path, flags, Mode::empty(), resolve).ok()?.into();
    file.metadata().is_ok_and(|meta| meta.is_file()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<String> {
        let variable = |name: &str| (name == "HOME").then(|| "/home/m".to_owned());
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let places = places(&arguments, variable).into_iter().map(|place| match place {
            Place::Directory(path) => path.display().to_string(),
            Place::Repository(path) => format!("[{}]", path.display()),
        });
        places.collect()
    }

    #[test]
    fn an_engine_is_told_its_model_on_its_command_line() {
        let cached = "[/home/m/.cache/huggingface/hub/models--Qwen--Qwen3-8B]";
        assert_eq!(of("python /venv/bin/vllm serve /models/m --port 8000")[0], "/models/m");
        assert_eq!(of("vllm serve Qwen/Qwen3-8B"), ["Qwen/Qwen3-8B", cached]);
        assert_eq!(of("python -m sglang.launch_server --model-path=Qwen/Qwen3-8B --port 1"), ["Qwen/Qwen3-8B", cached]);
        assert_eq!(of("engine --model /models/m --tokenizer /models/t"), ["/models/t", "/models/m"]);
        assert_eq!(of("lmdeploy serve api_server /models/m"), ["api_server", "/models/m"]);
        assert_eq!(of("python client.py --model gpt-5"), ["gpt-5"]);
        assert_eq!(of("nginx: worker process"), [""; 0]);
        assert_eq!(of("engine --model"), [""; 0]);
        assert!(of(&format!("x serve {}", "a/b ".repeat(500))).len() <= MAX_PLACES);
    }

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let of = |set: &[(&str, &str)]| {
            let variable =
                |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            cache(variable).map(|path| path.display().to_string())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HOME", "/h")]).unwrap(), "/h/.cache/huggingface/hub");
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap(), "/x/huggingface/hub");
        assert_eq!(of(&[("HOME", "/h"), ("HF_HOME", "/f")]).unwrap(), "/f/hub");
        assert_eq!(of(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]).unwrap(), "/c");
    }

    #[test]
    fn a_file_is_opened_within_the_process_and_only_if_it_is_one() {
        let room = tempfile::tempdir().unwrap();
        let own = std::process::id().cast_signed();
        assert!(Place::Directory(room.path().into()).open(own).is_none());
        std::fs::create_dir(room.path().join(TOKENIZER)).unwrap();
        assert!(Place::Directory(room.path().into()).open(own).is_none(), "a directory");
        let repository = room.path().join("models--a--b");
        let snapshot = repository.join("snapshots/0123abcd");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir(repository.join("refs")).unwrap();
        std::fs::write(repository.join("refs/main"), "0123abcd").unwrap();
        std::fs::write(room.path().join("blob"), "{}").unwrap();
        std::os::unix::fs::symlink("../../../blob", snapshot.join(TOKENIZER)).unwrap();
        let (key, file) = Place::Repository(repository.clone()).open(own).unwrap();
        assert_eq!((key.size, file.metadata().unwrap().len()), (2, 2));
        std::fs::write(repository.join("refs/main"), "../../x").unwrap();
        assert!(Place::Repository(repository).open(own).is_none(), "no commit");
    }
}
