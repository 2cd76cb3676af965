use proptest::prelude::*;

use super::*;

fn check(text: &str, expect: &str) {
    assert_eq!(Redactor::shared().redact(text), expect);
}

/// Made-up credentials of every shape, with the kind each must get. Put together at run time, so that scanners
/// for leaked keys do not take this file for a leak.
fn canaries() -> Vec<(String, &'static str)> {
    let fill = |n: usize| "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0z".chars().cycle().take(n).collect::<String>();
    let hex = |n: usize| "0123456789abcdef".chars().cycle().take(n).collect::<String>();
    let capitals = |n: usize| "ABCDEFGHIJKLMNOP2345".chars().cycle().take(n).collect::<String>();
    vec![
        (format!("sk-{}T3BlbkFJ{}", fill(20), fill(20)), "openai"),
        (format!("sk-proj-{}_-{}T3BlbkFJ{}", fill(30), fill(30), fill(60)), "openai"),
        (format!("sk-svcacct-{}", fill(100)), "openai"),
        (format!("sk-ant-api03-{}-{}AA", fill(60), fill(32)), "anthropic"),
        (format!("sk-ant-admin01-{}AA", fill(93)), "anthropic"),
        (format!("AIza{}", fill(35)), "google"),
        (format!("AKIA{}", capitals(16)), "aws"),
        (format!("ASIA{}", capitals(16)), "aws"),
        (format!("ABSK{}=", fill(120)), "bedrock"),
        (format!("bedrock-api-key-{}==", fill(100)), "bedrock"),
        (format!("{}7Q~{}", fill(3), fill(34)), "azure"),
        (format!("hf_{}", fill(34)), "huggingface"),
        (format!("pplx-{}", fill(48)), "perplexity"),
        (format!("ghp_{}", fill(36)), "github"),
        (format!("github_pat_{}_{}", fill(22), fill(59)), "github"),
        (format!("eyJ{}.eyJ{}.{}", fill(33), fill(80), fill(43)), "jwt"),
        (format!("gsk_{}", fill(52)), "groq"),
        (format!("xai-{}", fill(80)), "xai"),
        (format!("sk-or-v1-{}", hex(64)), "openrouter"),
        (format!("nvapi-{}-{}", fill(30), fill(30)), "nvidia"),
        (format!("sk-{}", hex(32)), "deepseek"),
        (format!("sk-{}", fill(48)), "api_key"),
        (format!("sk-lf-{0}-{0}", hex(12)), "langfuse"),
        (format!("pk-lf-{0}-{0}", hex(12)), "langfuse"),
        (format!("Bearer {}", fill(40)), "bearer"),
        (
            format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n{}\n-----END RSA PRIVATE KEY-----", fill(64), fill(64)),
            "private_key",
        ),
        (format!("-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----", fill(64)), "private_key"),
    ]
}

#[test]
fn canaries_go_wherever_they_stand() {
    for (secret, kind) in canaries() {
        check(&secret, &format!("[REDACTED:{kind}]"));
        check(&format!("my key is \"{secret}\", ok?"), &format!("my key is \"[REDACTED:{kind}]\", ok?"));
        check(&format!("key={secret}\nnext"), &format!("key=[REDACTED:{kind}]\nnext"));
        check(&format!("größe {secret} 模型 {secret}"), &format!("größe [REDACTED:{kind}] 模型 [REDACTED:{kind}]"));
        // Quoted JSON inside a text: the escape's letter touches the key.
        if kind != "azure" {
            check(&format!("a\\n{secret}"), &format!("a\\n[REDACTED:{kind}]"));
        }
    }
}

#[test]
fn url_parameters_lose_their_value_only() {
    check(
        "GET https://h/v1?alt=sse&key=abcdef123456&x=1 and ?X-Amz-Signature=deadbeefdeadbeef",
        "GET https://h/v1?alt=sse&key=[REDACTED:url]&x=1 and ?X-Amz-Signature=[REDACTED:url]",
    );
}

#[test]
fn prose_and_identifiers_stay() {
    for text in [
        "task-0123456789abcdef0123456789abcdef",
        "use sk-learn, the sk- prefix or sk-cube-grid-animation-delay-long-class",
        "chatcmpl-bbvHp6ly4leGve5B8TjAK636vZE4A7bX gen-1780944559-RmTkFEe8ENkVRbI5ZAtl",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "Bearer of bad news, bearer token",
        "?key=1&sig=abc shelf_life AIza eyJhbGciOiJIUzI1NiJ9 without a payload",
    ] {
        check(text, text);
    }
}

#[test]
fn an_unfinished_private_key_goes_too() {
    check("-----BEGIN PRIVATE KEY-----\nMIIEvQ+/ab12\nMIIE", "[REDACTED:private_key]");
}

#[test]
fn secret_cut_by_the_cap_leaves_no_prefix() {
    for (secret, _) in canaries() {
        let text = format!("{} {secret}", "x".repeat(2_000));
        for cut in 1..text.len() {
            let Some(head) = text.get(..cut) else { continue };
            let out = Redactor::shared().redact_cut(head);
            assert!(!out.contains(&secret[..6]), "{secret} cut at {cut}: {out}");
        }
    }
}

#[test]
fn many_secrets_before_the_cut_do_not_pull_a_prefix_forward() {
    let secret = format!("sk-ant-api03-{}", "Zz9".repeat(33));
    let text = format!("{secret} ").repeat(40);
    let out = Redactor::shared().redact_cut(&text[..text.len() - 60]);
    assert!(!out.contains("Zz9") && out.contains("[REDACTED:anthropic]"), "{out}");
}

#[test]
fn hostile_repetition_takes_time_in_proportion() {
    // There is no limit to compare with: were the time quadratic, a text of this size would never end.
    for unit in
        ["eyJAKIA2345ABCD2345ABCD", "-----BEGIN PRIVATE KEY-----.", "eyJ", "sk-", "T3BlbkFJ.", "?key=", "Q~", "1111Q~"]
    {
        Redactor::shared().redact(&unit.repeat(4_000_000 / unit.len()));
    }
}

proptest! {
    #[test]
    fn any_text_is_redacted_without_panic(text in "(sk-|eyJ|Q~|T3BlbkFJ|-----BEGIN |PRIVATE KEY|[?&]key=|[a-zA-Z0-9.~é -]{0,40}){0,12}") {
        let redactor = Redactor::shared();
        let once = redactor.redact(&text).into_owned();
        redactor.redact_cut(&text);
        // A URL parameter's marker looks like a value again.
        prop_assert!(redactor.hits(&once).iter().all(|hit| hit.kind == "url"), "{}", once);
    }
}
