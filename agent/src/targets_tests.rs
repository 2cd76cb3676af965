use super::*;
use crate::record::Address;

fn subject() -> Subject {
    Subject {
        pid: 7,
        comm: "vllm-engine-cor".into(),
        exe: "/opt/vllm/bin/python3.12".into(),
        cgroups: vec!["/system.slice/vllm.service".into(), "/".into()],
        container: Some("3f4dbc9b".repeat(8)),
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn globs_match_the_whole_text() {
    for (pattern, text, expect) in [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("*", "/a/b", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a?", "a", false),
        ("a?c", "abc", true),
        ("*.py", "x.pyc", false),
        ("*b*b", "abbab", true),
        ("a*c", "a-b-c", true),
        ("a**", "a", true),
        ("/opt/*/bin/python*", "/opt/vllm/bin/python3.12", true),
    ] {
        assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expect, "{pattern} {text}");
    }
    assert!(!glob("*a".repeat(200).as_bytes(), "a".repeat(199).as_bytes()));
}

#[test]
fn one_selector_that_matches_is_enough() {
    let matching = [
        Selectors { pids: vec![7], ..Default::default() },
        Selectors { comms: strings(&["x", "vllm-engine-core"]), ..Default::default() },
        Selectors { exes: strings(&["/opt/vllm/*"]), ..Default::default() },
        Selectors { cgroups: strings(&["/system.slice"]), ..Default::default() },
        Selectors { cgroups: strings(&["/sys/fs/cgroup/system.slice/vllm.service/"]), ..Default::default() },
        Selectors { cgroups: strings(&["*/vllm.*"]), ..Default::default() },
        Selectors { units: strings(&["vllm.service"]), ..Default::default() },
        Selectors { containers: strings(&["3f4dbc9b3f4d"]), ..Default::default() },
        Selectors { pids: vec![1], units: strings(&["vllm.service"]), ..Default::default() },
    ];
    for selectors in matching {
        assert!(selectors.matches(&subject()), "{selectors:?}");
        assert!(!selectors.matches(&Subject::default()), "{selectors:?}");
    }
    let others = [
        Selectors::default(),
        Selectors { exes: strings(&["python*"]), ..Default::default() },
        Selectors { cgroups: strings(&["/system", "/system.slice/vllm"]), ..Default::default() },
        Selectors { units: strings(&["vllm"]), ..Default::default() },
        Selectors { containers: strings(&["f4dbc9b3"]), ..Default::default() },
    ];
    for selectors in others {
        assert!(!selectors.matches(&subject()), "{selectors:?}");
    }
}

#[test]
fn an_exclusion_wins_and_nothing_chosen_is_everything() {
    let mut targets = Targets::default();
    assert!(targets.is_everyone() && targets.wants(&subject(), false) && !targets.needs_judge());
    targets.include.comms = strings(&["curl"]);
    assert!(!targets.is_everyone() && !targets.needs_judge());
    assert!(!targets.wants(&subject(), false) && targets.wants(&subject(), true));
    targets.include.exes = strings(&["/opt/*"]);
    assert!(targets.needs_judge() && targets.wants(&subject(), false));
    targets.exclude.units = strings(&["vllm.service"]);
    assert!(!targets.wants(&subject(), true));
}

#[test]
fn ports_are_of_either_end() {
    let (local, peer) = (&Address::Ip("127.0.0.1:8000".parse().unwrap()), &Address::Ip("[::1]:40000".parse().unwrap()));
    let mut targets = Targets::default();
    assert!(targets.wants_ports(local, peer));
    targets.include.ports = vec![1, 40000];
    assert!(targets.wants_ports(local, peer));
    targets.exclude.ports = vec![8000];
    assert!(!targets.wants_ports(local, peer));
    targets = Targets { include: Selectors { ports: vec![80], ..Default::default() }, ..Default::default() };
    assert!(!targets.wants_ports(local, peer) && targets.is_everyone());
}

#[test]
fn hosts_match_without_port_and_case() {
    let mut targets = Targets::default();
    assert!(targets.wants_host(None) && targets.wants_host(Some("x")));
    targets.include.hosts = strings(&["*.OpenAI.com", "::1", "localhost"]);
    for host in ["api.openai.com", "API.openai.com:443", "[::1]:80", "::1", "localhost:8000"] {
        assert!(targets.wants_host(Some(host)), "{host}");
    }
    assert!(!targets.wants_host(None) && !targets.wants_host(Some("openai.com")));
    targets.exclude.hosts = strings(&["api.*"]);
    assert!(!targets.wants_host(Some("api.openai.com:443")));
}
