//! Processes that start others without being a part of them.
//!
//! Owns the names of programs through which a process tree does not join what is below: shells, session managers,
//! supervisors, container shims, CI runners, build tools; and of proxies, which pass requests on for others. Pure.
//!
//! To add one: its command name below, in the list whose doc says what it is.

use super::{ProcessInfo, command::base};

/// `init` and the managers of services, sessions and containers.
const MANAGERS: [&str; 36] = [
    "systemd",
    "init",
    "openrc-run",
    "runsv",
    "runsvdir",
    "runit",
    "s6-supervise",
    "s6-svscan",
    "supervisord",
    "circusd",
    "monit",
    "pm2",
    "cron",
    "crond",
    "atd",
    "containerd",
    "containerd-shim",
    "dockerd",
    "docker-init",
    "docker",
    "podman",
    "conmon",
    "crio",
    "kubelet",
    "tini",
    "dumb-init",
    "catatonit",
    "s6-overlay",
    "slurmd",
    "slurmstepd",
    "srun",
    "raylet",
    "sshd",
    "login",
    "gnome-shell",
    "gdm-session-wor",
];

/// Shells and what keeps one: who starts two programs from one prompt has not made them one.
const SHELLS: [&str; 23] = [
    "sh", "bash", "dash", "zsh", "fish", "ksh", "ash", "busybox", "nu", "pwsh", "tmux", "screen", "su", "sudo", "doas",
    "script", "nohup", "setsid", "timeout", "time", "strace", "watch", "xargs",
];

/// Runners of jobs and builds.
const RUNNERS: [&str; 14] = [
    "Runner.Listener",
    "Runner.Worker",
    "gitlab-runner",
    "act_runner",
    "buildkite-agent",
    "jenkins",
    "cargo",
    "cargo-nextest",
    "make",
    "ninja",
    "just",
    "npm",
    "pytest",
    "tox",
];

/// Programs that pass requests on, whatever is behind them.
const PROXIES: [&str; 15] = [
    "nginx",
    "haproxy",
    "envoy",
    "traefik",
    "caddy",
    "httpd",
    "apache2",
    "kong",
    "squid",
    "varnishd",
    "litellm",
    "linkerd2-proxy",
    "cloudflared",
    "ngrok",
    "pingora",
];

/// Bytes of a command name that the kernel keeps.
const COMM_LEN: usize = 15;

/// Whether a process joins nothing that it has started. Pid 1 is the host's `init`.
pub fn is_boundary(process: &ProcessInfo) -> bool {
    process.pid <= 1
        || names(process).any(|name| {
            [&MANAGERS[..], &SHELLS, &RUNNERS].iter().any(|list| list.contains(&name) || list.iter().any(|known| is_cut(name, known)))
                // Versions and variants: `containerd-shim-runc-v2`, `tini-static`, `tmux: server`, `sshd-session`.
                || ["containerd-shim", "tini-", "tmux:", "sshd", "systemd-", "conmon"].iter().any(|begin| name.starts_with(begin))
        })
}

/// Whether a command name alone says so, where no more is known of the process.
pub fn is_boundary_comm(comm: &str) -> bool {
    is_boundary(&ProcessInfo { pid: u32::MAX, comm: Some(comm.to_owned()), ..ProcessInfo::default() })
}

/// Whether a process is known to pass on requests that others answer.
pub fn is_proxy(process: &ProcessInfo) -> bool {
    names(process).any(|name| PROXIES.contains(&name))
        // A script: the interpreter's first argument that is a file.
        || process.cmdline.iter().take(3).any(|argument| PROXIES.contains(&base(argument)))
}

/// The kernel keeps fifteen bytes of a name.
fn is_cut(name: &str, known: &str) -> bool {
    name.len() == COMM_LEN && known.len() > COMM_LEN && known.starts_with(name)
}

/// The names that a process goes by: its command name, its executable, and a script's or its title's first word.
fn names(process: &ProcessInfo) -> impl Iterator<Item = &str> {
    let title = process
        .cmdline
        .first()
        .map(|title| base(title.split([' ', ':']).next().unwrap_or_default()).trim_start_matches('-'));
    let exe = process.exe.as_deref().map(base);
    process.comm.as_deref().into_iter().chain(exe).chain(title).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(comm: &str, exe: &str, cmdline: &str) -> ProcessInfo {
        ProcessInfo {
            pid: 7,
            comm: Some(comm.to_owned()),
            exe: (!exe.is_empty()).then(|| exe.to_owned()),
            cmdline: cmdline.split(' ').map(str::to_owned).collect(),
            ..ProcessInfo::default()
        }
    }

    #[test]
    fn who_only_starts_others_is_a_boundary() {
        for (comm, exe, cmdline) in [
            ("systemd", "/usr/lib/systemd/systemd", "/usr/lib/systemd/systemd --user"),
            ("containerd-shim", "/usr/bin/containerd-shim-runc-v2", "/usr/bin/containerd-shim-runc-v2 -namespace moby"),
            ("tini", "/usr/bin/tini-static", "/tini -- vllm"),
            ("bash", "/usr/bin/bash", "-bash"),
            ("sshd-session", "/usr/lib/openssh/sshd-session", "sshd-session: root@pts/0"),
            ("tmux: server", "/usr/bin/tmux", "tmux new"),
            ("supervisord", "/usr/bin/python3.12", "/usr/bin/python3 /usr/bin/supervisord -n"),
            ("Runner.Worker", "/r/bin/Runner.Worker", "/r/bin/Runner.Worker spawnclient"),
            ("cargo", "/root/.cargo/bin/cargo", "cargo test"),
            ("sh", "/usr/bin/busybox", "/bin/sh -c x"),
        ] {
            assert!(is_boundary(&of(comm, exe, cmdline)), "{comm}");
        }
        assert!(is_boundary(&ProcessInfo { pid: 1, ..of("x", "/x", "x") }), "whatever the host's init is called");
    }

    #[test]
    fn others_are_not() {
        for (comm, exe, cmdline) in [
            ("vllm", "/usr/bin/python3.12", "/usr/bin/python3 /usr/bin/vllm serve M"),
            ("python3", "/usr/bin/python3.12", "python3 app.py"),
            ("ollama", "/usr/bin/ollama", "ollama serve"),
            ("shim", "/x/shim", "shim"),
            ("text-generation", "/usr/local/bin/text-generation-launcher", "text-generation-launcher"),
        ] {
            assert!(!is_boundary(&of(comm, exe, cmdline)) && !is_proxy(&of(comm, exe, cmdline)), "{comm}");
        }
        assert!(is_boundary_comm("containerd-shim") && !is_boundary_comm("python3"));
    }

    #[test]
    fn proxies_are_known_behind_an_interpreter_too() {
        assert!(is_proxy(&of("nginx", "/usr/sbin/nginx", "nginx: worker process")));
        assert!(is_proxy(&of("litellm", "/usr/bin/python3.12", "/usr/bin/python3 /usr/bin/litellm --port 4000")));
        assert!(!is_proxy(&of("python3", "/usr/bin/python3.12", "python3 app.py --behind nginx")));
    }
}
