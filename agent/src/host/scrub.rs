//! Command lines without their secrets.
//!
//! Owns which arguments hold a secret and what is written in their place, before a command line is kept or passed on.
//! Pure. Leaves to `privacy` what credentials look like by themselves; here the name beside a value tells.
//!
//! An argument's value goes where its name says that it is a secret: `--api-key X`, `--api-key=X`, `HF_TOKEN=X`,
//! `Authorization: X`, `{"api_key": X}`, and in words of an argument that is itself a command line (`sh -c …`). What
//! stands before an `@` in a URL goes, and what follows the colon of `--user name:X`. It rather takes too much than too
//! little, but for the words that engines' options are full of: `--max-tokens`, `--tokenizer`, `--ssl-keyfile`. What an
//! option of one letter means is not known (`-p X`), but for `-u`.
//!
//! To add a word: a line in [`is_secret_word`], and one in the tests with an option that has it.

use serde_json::Value;

use crate::privacy::Redactor;

/// Most arguments of a command line that are kept. Engines are told what matters in fewer than 50.
pub const MAX_ARGUMENTS: usize = 64;

/// Most bytes of a command line that are kept.
pub const MAX_BYTES: usize = 4096;

/// What is written in place of a secret: the mark that `privacy` leaves of one that is assigned to a name.
const MARK: &str = "[REDACTED:secret]";

/// What is written in place of who a URL is read as, like `privacy` does.
const URL_MARK: &str = "[REDACTED:url]";

/// What an argument says of the one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Plain,
    /// It is a secret.
    Secret,
    /// It is one, and so are those that follow, up to the next option.
    Secrets,
    /// It is a number, or a secret.
    Token,
    /// It is `name:secret`.
    User,
}

/// The arguments without secrets, in order and bounded. Bytes that are no UTF-8 are replaced.
pub fn scrub<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut left = MAX_BYTES;
    let mut next = Next::Plain;
    let mut kept = Vec::new();
    for argument in arguments.into_iter().take(MAX_ARGUMENTS) {
        let (mut text, then) = argument_without(&String::from_utf8_lossy(argument), next);
        next = then;
        if text.len() > left {
            text.truncate(text.floor_char_boundary(left));
            if !text.is_empty() {
                kept.push(text);
            }
            break;
        }
        left -= text.len();
        kept.push(text);
    }
    kept
}

/// An argument that follows one which said `next`, and what it says of the one after it.
fn argument_without(argument: &str, next: Next) -> (String, Next) {
    let is_option = argument.len() > 2 && argument.starts_with("--") || is_flag(argument);
    match next {
        Next::Secret if !is_option => return (MARK.to_owned(), Next::Plain),
        Next::Secrets if !is_option => return (MARK.to_owned(), Next::Secrets),
        Next::Token if !is_option && !is_number(argument) => return (MARK.to_owned(), Next::Plain),
        Next::User if !is_option && argument.contains(':') => return (user_without(argument), Next::Plain),
        _ => {}
    }
    if let Some(json) = json_without(argument) {
        return (json, Next::Plain);
    }
    if let Some((name, value)) = argument.split_once('=')
        && !name.contains(char::is_whitespace)
        && secret_in(name).is_some()
    {
        // A password may have blanks in it.
        return (by_shape(&assignment_without(name, value)), Next::Plain);
    }
    if argument.contains(char::is_whitespace) {
        return (words_without(argument), Next::Plain);
    }
    let (text, next) = match argument.split_once('=') {
        Some((name, value)) => (assignment_without(name, value), Next::Plain),
        None => (argument.to_owned(), if argument.starts_with('-') { option_says(argument) } else { Next::Plain }),
    };
    (by_shape(&text), next)
}

/// What an option says of the argument after it.
fn option_says(option: &str) -> Next {
    let name = option.trim_start_matches('-');
    if matches!(name, "u" | "U" | "user" | "proxy-user") {
        return Next::User;
    }
    match secret_in(name) {
        // vLLM takes several keys after one option.
        Some(Secret::Key) => Next::Secrets,
        Some(Secret::Other) => Next::Secret,
        Some(Secret::Token) => Next::Token,
        None => Next::Plain,
    }
}

/// `name=value`.
fn assignment_without(name: &str, value: &str) -> String {
    let value = match secret_in(name.trim_start_matches('-')) {
        Some(Secret::Token) if is_number(value) => value.to_owned(),
        Some(_) if !value.is_empty() => MARK.to_owned(),
        _ if matches!(name, "--user" | "--proxy-user") => user_without(value),
        // `--env=HF_TOKEN=…`, `--config={"api_key": …}`, `--header=Authorization:…`
        _ => json_without(value).unwrap_or_else(|| match value.split_once('=') {
            Some((name, value)) => assignment_without(name, value),
            None => header_without(value).unwrap_or_else(|| value.to_owned()),
        }),
    };
    format!("{name}={value}")
}

/// An argument of several words: a command line within one, a header, the title that a process gave itself.
fn words_without(argument: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Next::Plain;
    for word in argument.split_whitespace() {
        // A header's value is the rest, whatever words it has.
        if let Some(header) = header_without(word) {
            words.push(header);
            break;
        }
        let (quote, bare) = match word.strip_prefix(['"', '\'']) {
            Some(bare) => (&word[..1], bare),
            None => ("", word),
        };
        let (text, then) = argument_without(bare, next);
        words.push(format!("{quote}{text}"));
        next = then;
    }
    // What is a credential by its shape may be so only together with the words before it.
    by_shape(&words.join(" "))
}

/// `Authorization: …` in one word; the rest of the argument is the value and goes with it.
fn header_without(word: &str) -> Option<String> {
    let (name, _) = word.split_once(':')?;
    let is_header = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_'\"".contains(&b));
    (is_header && secret_in(name).is_some()).then(|| format!("{name}: {MARK}"))
}

/// `name:secret`; two numbers are a user and a group.
fn user_without(text: &str) -> String {
    match text.split_once(':') {
        Some((name, secret)) if !(is_number(name) && is_number(secret)) => format!("{name}:{MARK}"),
        _ => text.to_owned(),
    }
}

/// An argument that is JSON, or looks as if it had been before it was cut.
fn json_without(argument: &str) -> Option<String> {
    if !argument.starts_with(['{', '[']) {
        return None;
    }
    match serde_json::from_str::<Value>(argument) {
        Ok(mut value) => {
            value_without(&mut value);
            Some(by_shape(&value.to_string()))
        }
        // Where a value ends cannot be told: nothing is left if there may be a secret.
        Err(_) => argument.split(|c: char| !c.is_ascii_alphanumeric()).any(is_secret_word).then(|| MARK.to_owned()),
    }
}

fn value_without(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match secret_in(name) {
                    Some(Secret::Token) if member.is_number() => {}
                    Some(_) if !member.is_null() && !member.is_boolean() => *member = MARK.into(),
                    _ => value_without(member),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(value_without),
        Value::String(text) => *text = by_shape(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What needs no name: credentials by their shape, and who a URL is read as.
fn by_shape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + "://".len());
        out.push_str(head);
        let end = tail.find(|c: char| c.is_whitespace() || "/?#\"'".contains(c)).unwrap_or(tail.len());
        rest = match tail[..end].rfind('@') {
            Some(at) => {
                out.push_str(URL_MARK);
                &tail[at..]
            }
            None => tail,
        };
    }
    out.push_str(rest);
    Redactor::shared().credentials(&out).into_owned()
}

/// What kind of secret a name says that its value is, the one that leaves the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Secret {
    /// A token, which is also what models are made of: not where it is a number.
    Token,
    /// One or several keys.
    Key,
    /// A password or the like.
    Other,
}

/// Whether words of a name say that its value is a secret: `HF_TOKEN`, `--ngrok-authtoken`, `clientSecret`. Of several
/// the one decides that leaves the least.
fn secret_in(name: &str) -> Option<Secret> {
    let words = || name.split(|c: char| !c.is_ascii_alphanumeric()).flat_map(camel_words);
    // A file's name is no secret, but a password of that file is one.
    let last = words().last().unwrap_or_default();
    if ["file", "files", "path", "dir"].iter().any(|end| last.eq_ignore_ascii_case(end)) {
        return None;
    }
    words().filter(|word| is_secret_word(word)).map(secret_of).max()
}

/// What kind of secret a word means.
fn secret_of(word: &str) -> Secret {
    let word = word.to_ascii_lowercase();
    match () {
        () if word.ends_with("token") || word.ends_with("tokens") => Secret::Token,
        () if word.ends_with("key") || word.ends_with("keys") => Secret::Key,
        () => Secret::Other,
    }
}

/// Whether a word, in any case, is one that names of secrets have.
fn is_secret_word(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let contains = ["secret", "passw", "passphrase", "credential", "cookie", "bearer"];
    // `keyfile` and `tokenizer` end otherwise.
    let ends = ["key", "keys", "token", "tokens", "auth", "authorization", "authentication"];
    matches!(word.as_str(), "pass" | "pwd" | "pw" | "sig" | "signature")
        || contains.iter().any(|part| word.contains(part))
        || ends.iter().any(|end| word.ends_with(end))
}

/// The words of a name that is written with capitals; one that is all capitals is one word.
fn camel_words(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        if bytes.is_empty() {
            return None;
        }
        let is_start = |at: &usize| {
            bytes.get(*at).is_some_and(u8::is_ascii_uppercase)
                && bytes.get(at.wrapping_sub(1)).is_some_and(|b| !b.is_ascii_uppercase())
        };
        let end = (1..bytes.len()).find(is_start).unwrap_or(bytes.len());
        let (word, tail) = rest.split_at(end);
        rest = tail;
        Some(word)
    })
}

/// `-m`: no secret is as short.
fn is_flag(argument: &str) -> bool {
    argument.len() == 2 && argument.starts_with('-')
}

/// A number, or several with commas between.
fn is_number(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_digit() || b"-+.,".contains(&b))
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
