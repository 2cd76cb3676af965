//! Canaries in command lines: none may be left, and what is no secret stays.

use proptest::prelude::*;

use super::*;

/// Short and without a known shape, so that only its place gives it away.
const CANARY: &str = "cnry-7Qx";

fn of(arguments: &[&str]) -> Vec<String> {
    scrub(arguments.iter().map(|argument| argument.as_bytes()))
}

/// A line, cut at its blanks; `@` stands for the canary, in whose place the mark must stand.
fn hides(line: &str) {
    let arguments: Vec<String> = line.split(' ').map(|argument| argument.replace('@', CANARY)).collect();
    let expect: Vec<String> = line.split(' ').map(|argument| argument.replace('@', MARK)).collect();
    assert_eq!(of(&arguments.iter().map(String::as_str).collect::<Vec<_>>()), expect, "{line}");
}

fn keeps(line: &str) {
    let arguments: Vec<&str> = line.split(' ').collect();
    assert_eq!(of(&arguments), arguments, "{line}");
}

#[test]
fn the_value_of_a_secret_option_goes() {
    hides("vllm serve M --api-key @ --port 8000");
    hides("vllm serve M --api-key=@ --port 8000");
    hides("vllm serve M --api-key @ @ @ --port 8000");
    hides("python -m sglang.launch_server --model-path M --admin-api-key @ -m x");
    hides("text-generation-router --ngrok-authtoken @ --hostname h");
    hides("text-generation-launcher --hf-token @");
    hides("llama-server -m m.gguf --api-key @ --alias a");
    hides("x --ssl-keyfile-password @");
    hides("x --clientSecret @ --dbPassword=@ --PASSWD @");
    hides("x --basic-auth @ --aws-credentials=@ --session-cookie @ --passphrase @");
    hides("x --access_key @ --secret.key @ --sshkey @ --hf_token @ --pass @ --pwd @");
    // A number is a secret where the name says more than that there are tokens.
    assert_eq!(
        of(&["x", "--token-secret", "4711", "--token-key=4711"])[1..],
        ["--token-secret".to_owned(), MARK.to_owned(), format!("--token-key={MARK}")]
    );
    // One that begins like an option is still one.
    assert_eq!(of(&["x", "--api-key", "-cnry-7Qx", "y"])[2], MARK);
}

#[test]
fn variables_and_headers_go() {
    hides("env HF_TOKEN=@ OPENAI_API_KEY=@ vllm serve M");
    hides("docker run -e HF_TOKEN=@ --env=OPENAI_API_KEY=@ image");
    hides("x --opt=a=TOKEN=@");
    assert_eq!(of(&["DB_PASSWORD=a b cnry-7Qx"]), [format!("DB_PASSWORD={MARK}")]);
    assert_eq!(of(&["curl", "-H", "Authorization: Bearer cnry-7Qx"])[2], format!("Authorization: {MARK}"));
    assert_eq!(of(&["curl", "-H", "x-api-key: cnry-7Qx 2"])[2], format!("x-api-key: {MARK}"));
    assert_eq!(of(&["curl", "--header=X-Api-Key:cnry-7Qx"])[1], format!("--header=X-Api-Key: {MARK}"));
    assert_eq!(
        of(&["curl", "-u", "me:cnry-7Qx", "--user=me:cnry-7Qx"])[1..],
        ["-u".to_owned(), format!("me:{MARK}"), format!("--user=me:{MARK}")]
    );
    keeps("docker run -u 1000:1000 image");
}

#[test]
fn a_url_does_not_say_who_reads_it() {
    assert_eq!(of(&["x", "https://u:cnry-7Qx@h/p"])[1], format!("https://{URL_MARK}@h/p"));
    assert_eq!(of(&["x", "--db=postgres://u:cn@ry@h:1/p"])[1], format!("--db=postgres://{URL_MARK}@h:1/p"));
    assert_eq!(of(&["git", "clone", "https://cnry-7Qx@github.com/a"])[2], format!("https://{URL_MARK}@github.com/a"));
    keeps("x http://h:1/a@b --otlp-endpoint http://h:4317");
}

#[test]
fn credentials_are_known_by_their_shape() {
    for canary in crate::privacy::canaries::canaries() {
        let secret = canary.text.as_str();
        let lines = of(&[
            "x",
            secret,
            &format!("--a={secret}"),
            &format!("x 'y {secret}'"),
            &format!("{{\"a\":\"{secret}\"}}"),
        ]);
        assert!(lines.iter().all(|line| canary.leak(line).is_none()), "{lines:?}");
    }
}

#[test]
fn a_command_line_within_an_argument_is_one_too() {
    let script = "export HF_TOKEN=cnry-7Qx; vllm serve M --api-key 'cnry-7Qx' --port 1";
    let kept = of(&["bash", "-c", script]);
    assert!(!kept[2].contains(CANARY) && kept[2].contains("vllm serve M --api-key"), "{kept:?}");
    let kept = of(&["bash", "-c", "curl -H \"Authorization: Bearer cnry-7Qx\" http://h"]);
    assert!(!kept[2].contains(CANARY) && kept[2].starts_with("curl -H"), "{kept:?}");
    assert_eq!(of(&["nginx: worker process"]), ["nginx: worker process"]);
}

#[test]
fn json_keeps_its_form() {
    let frontend = r#"{"model":"M","api_key":["cnry-7Qx"],"max_tokens":5,"a":{"hf_token":"cnry-7Qx"}}"#;
    let expect = format!(r#"{{"model":"M","api_key":"{MARK}","max_tokens":5,"a":{{"hf_token":"{MARK}"}}}}"#);
    let kept = of(&["vllm-rs", "frontend", "--args-json", frontend]);
    assert_eq!(serde_json::from_str::<Value>(&kept[3]).unwrap(), serde_json::from_str::<Value>(&expect).unwrap());
    assert_eq!(of(&["x", r#"--c={"password":"cnry-7Qx"}"#])[1], format!(r#"--c={{"password":"{MARK}"}}"#));
    // Cut: where the value ends cannot be told.
    assert_eq!(of(&["x", r#"{"a":1,"api_key":"cnry-7Qx"#])[1], MARK);
    assert_eq!(of(&["x", r#"{"a":1,"b"#])[1], r#"{"a":1,"b"#);
}

#[test]
fn what_engines_are_told_stays() {
    keeps(
        "vllm serve Qwen/Qwen3-8B --max-num-batched-tokens 8192 --tokenizer T --tokenizer-mode auto --ssl-keyfile /k.pem",
    );
    keeps(
        "x --max-total-tokens=4096 --max-tokens 5 --eos-token-id 2 --kv-cache-dtype fp8 --keep-alive 5m --key-path /k",
    );
    keeps("llama-server -m /m/key.gguf --no-kv-offload --port 1 --override-kv a=b");
    keeps("ollama runner --ollama-engine --model /b/sha256-1 --port 34567");
    keeps("VLLM::EngineCore");
    // A switch that has no value does not eat the option behind it.
    keeps("x --no-auth --model M");
    keeps("x --enable-auth -m M");
    assert_eq!(of(&["x", "--key", "", "y"]), ["x", "--key", MARK, MARK]);
}

#[test]
fn it_is_bounded() {
    let many = vec!["a"; 1000];
    assert_eq!(of(&many).len(), MAX_ARGUMENTS);
    let long = "é".repeat(MAX_BYTES);
    let kept = of(&["x", &long, "y"]);
    assert_eq!((kept.len(), kept.concat().len()), (2, MAX_BYTES - 1));
    assert_eq!(scrub([b"\xff".as_slice()]), ["\u{fffd}"]);
    assert_eq!(scrub([]), [""; 0]);
}

proptest! {
    #[test]
    fn no_canary_survives_between_other_arguments(
        before in prop::collection::vec("[-a-z=:/ {\"]{0,12}", 0..6),
        after in prop::collection::vec("[-a-z=:/ {\"]{0,12}", 0..6),
        form in 0..5usize,
    ) {
        let secret: &[&str] = [
            &["--api-key", CANARY] as &[&str],
            &["--password=cnry-7Qx"],
            &["HF_TOKEN=cnry-7Qx"],
            &["https://u:cnry-7Qx@h/"],
            &["Authorization: Bearer cnry-7Qx"],
        ][form];
        let all: Vec<&str> = before.iter().map(String::as_str).chain(secret.iter().copied()).chain(after.iter().map(String::as_str)).collect();
        prop_assert!(of(&all).iter().all(|kept| !kept.contains(CANARY)), "{:?}", of(&all));
    }
}
