//! The parts of a command line: the program, what an interpreter runs for it, options and words.
//!
//! Owns how command lines are taken apart where nothing is known of a program's options. Pure. Leaves to others what
//! the parts mean (`engine`, `group`).

/// A command line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command<'a> {
    /// The module that Python runs, or the base name of the program or script.
    pub name: &'a str,
    /// Whether `name` is a module.
    pub is_module: bool,
    /// Path of the program or script, as written.
    pub program: &'a str,
    /// What follows.
    pub arguments: &'a [&'a str],
}

/// Python's options that take a value of their own.
const PYTHON_VALUES: [&str; 3] = ["-X", "-W", "--check-hash-based-pycs"];

impl<'a> Command<'a> {
    /// Takes a command line apart. None where there is none, or an interpreter without a file.
    pub(super) fn of(arguments: &'a [&'a str]) -> Option<Self> {
        let (&program, rest) = arguments.split_first()?;
        let name = base(program);
        if is_python(name) {
            return Self::of_python(rest);
        }
        Some(Self { name, is_module: false, program, arguments: rest })
    }

    fn of_python(mut rest: &'a [&'a str]) -> Option<Self> {
        loop {
            let (&argument, tail) = rest.split_first()?;
            match argument {
                "-m" => {
                    let (&name, arguments) = tail.split_first()?;
                    return Some(Self { name, is_module: true, program: name, arguments });
                }
                "-c" | "-" => return None,
                _ if PYTHON_VALUES.contains(&argument) => rest = tail.get(1..)?,
                _ if argument.starts_with('-') => rest = tail,
                script => {
                    let name = base(script);
                    return Some(Self { name, is_module: false, program: script, arguments: tail });
                }
            }
        }
    }

    /// The first argument, if it is a word: the subcommand of most programs that have one.
    pub(super) fn word(&self) -> Option<&'a str> {
        self.arguments.first().copied().filter(|word| !word.is_empty() && !word.starts_with('-'))
    }

    /// The value of the first option that has one of these names, written with dashes or underscores: `--name value`,
    /// `--name=value`. Of an option with several values, the first.
    pub(super) fn option(&self, names: &[&str]) -> Option<&'a str> {
        self.arguments.iter().enumerate().find_map(|(at, argument)| {
            let (name, value) = split(argument)?;
            if !names.iter().any(|known| is_same(name, known)) {
                return None;
            }
            let value = value.or_else(|| self.arguments.get(at + 1).copied().filter(|next| !next.starts_with("--")))?;
            (!value.is_empty()).then_some(value)
        })
    }

    /// Whether it has the option, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.arguments.iter().filter_map(|argument| split(argument)).any(|(known, _)| is_same(known, name))
    }

    /// What a subcommand is done to: the word behind it, else the one word that no option can have taken for its value.
    pub(super) fn operand(&self) -> Option<&'a str> {
        let rest = self.arguments.get(1..)?;
        let first = rest.first()?;
        if !first.starts_with('-') {
            return Some(first);
        }
        let is_free = |pair: &&[&str]| match pair {
            [before, word] => !word.starts_with('-') && (!before.starts_with('-') || before.contains('=')),
            _ => false,
        };
        // A list of values of one option is no operand: only what follows the value of `--name=value` is certain.
        let mut free = rest.windows(2).filter(is_free);
        let found = free.next()?;
        match (free.next(), found) {
            (None, [before, word]) if before.contains('=') => Some(word),
            // `--port 8000 MODEL`: the last argument, behind a single value.
            (None, [_, word]) if rest.last() == Some(word) => Some(word),
            _ => None,
        }
    }
}

/// The name of an option and the value that is written into the same argument.
fn split(argument: &str) -> Option<(&str, Option<&str>)> {
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
    Some(name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value))))
}

fn is_same(name: &str, known: &str) -> bool {
    name.len() == known.len()
        && name
            .bytes()
            .zip(known.bytes())
            .all(|(a, b)| a == b || (matches!(a, b'-' | b'_') && matches!(b, b'-' | b'_')))
}

/// The base name of a path.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `python`, `python3.12`, `pypy3`, and a login shell's `-python`.
fn is_python(name: &str) -> bool {
    let name = name.trim_start_matches('-');
    ["python", "pypy"].iter().any(|python| {
        name.strip_prefix(python).is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(line: &str, look: impl FnOnce(Option<Command<'_>>) -> T) -> T {
        let arguments: Vec<&str> = line.split(' ').collect();
        look(Command::of(&arguments))
    }

    #[test]
    fn what_an_interpreter_runs_is_the_command() {
        let name =
            |line: &str| with(line, |command| command.map(|command| (command.name.to_owned(), command.is_module)));
        let of = |name: &str, is_module| Some((name.to_owned(), is_module));
        assert_eq!(name("/usr/bin/x --a"), of("x", false));
        assert_eq!(name("/venv/bin/python3.12 -u -X dev /venv/bin/vllm serve M"), of("vllm", false));
        assert_eq!(name("python -W ignore -m sglang.launch_server --model-path M"), of("sglang.launch_server", true));
        assert_eq!(name("python -c pass"), None);
        assert_eq!(name("python3"), None);
        assert_eq!(name("pythonista x"), of("pythonista", false));
        assert_eq!(name(""), of("", false));
        assert_eq!(Command::of(&[]), None);
    }

    #[test]
    fn options_and_operands() {
        let line = "vllm serve --served_model_name a b --port=1 --x -m q --empty= --model";
        let option = |names: &[&str]| with(line, |command| command.unwrap().option(names).map(str::to_owned));
        assert_eq!(option(&["served_model_name"]).as_deref(), Some("a"));
        assert_eq!(option(&["port"]).as_deref(), Some("1"));
        assert_eq!(option(&["m"]).as_deref(), Some("q"));
        assert_eq!(option(&["empty"]), None);
        assert_eq!(option(&["model"]), None);
        assert!(with(line, |command| command.unwrap().has("x")));
        let operand = |line: &str| with(line, |command| command.unwrap().operand().map(str::to_owned));
        assert_eq!(operand("vllm serve M --port 1").as_deref(), Some("M"));
        assert_eq!(operand("vllm serve --port=1 M --x y").as_deref(), Some("M"));
        assert_eq!(operand("vllm serve --port 1 M").as_deref(), Some("M"));
        assert_eq!(operand("vllm serve --names a b --x"), None, "may be the second name");
        assert_eq!(operand("vllm serve --port 1"), None);
        assert_eq!(operand("vllm serve"), None);
    }
}
