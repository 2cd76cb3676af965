//! The programs of the matrix.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use inferscope_tests::{pki::Pki, place, programs::Large};

use super::{
    Expect::{self, Exact, Nothing, Partial, Unread},
    bodies,
    truth::Speaks,
};
use crate::{
    nginx::Proxy,
    scenario::{Need, Room},
};

/// What a subject does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Makes the calls by itself and ends.
    Client,
    /// Carries what comes on its standard input to the server.
    Piped,
    /// Answers calls, or passes them on to the server; prints `ready PORT`.
    Server {
        /// Whether it serves one exchange a connection.
        close: bool,
    },
}

/// A program of the matrix.
pub struct Subject {
    /// In the scenario's name.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Which TLS library it uses, and how it is built.
    pub library: &'static str,
    /// What it does.
    pub role: Role,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// What its other end offers.
    pub speaks: Speaks,
    /// Bytes at the end of an answer that it may leave unread when it closes.
    pub unread: usize,
    /// `inferscope.capture.source` of its streams.
    pub source: &'static str,
    /// The program that has no symbols and must be searched, which takes a third of a second for the largest: a cell where
    /// the agent comes first has it searched first, in another process.
    pub searched: Option<Large>,
    /// What the machine must have.
    pub needs: &'static [Need],
    /// What is captured when the agent was there first.
    pub before: Expect,
    /// What is captured when the connection was.
    pub after: Expect,
    /// Its command line.
    pub command: fn(&Site<'_>) -> Result<Command>,
}

/// Where a subject runs.
pub struct Site<'a> {
    /// Its files.
    pub room: &'a Room,
    /// Certificates, where it speaks TLS.
    pub pki: Option<&'a Pki>,
    /// The server's port.
    pub port: u16,
}

impl Site<'_> {
    /// What clients call.
    pub fn base_url(&self) -> String {
        let scheme = if self.pki.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/v1", self.port)
    }

    /// The authority that clients trust.
    pub fn ca(&self) -> Option<&Path> {
        self.pki.map(|pki| pki.ca.as_path())
    }

    /// A client's base URL and, where there is one, its authority.
    fn target(&self, command: &mut Command) {
        command.arg(self.base_url()).args(self.ca());
        // A proxy that the environment names would stand between the two ends.
        command.env("NO_PROXY", "*").env("no_proxy", "*");
    }
}

/// A client over TLS, captured whole.
const CLIENT: Subject = Subject {
    name: "",
    title: "",
    library: "OpenSSL, shared",
    role: Role::Client,
    tls: true,
    speaks: Speaks::Http1,
    unread: 0,
    source: "openssl",
    searched: None,
    needs: &[],
    before: Exact,
    after: Exact,
    command: |_| Ok(Command::new("false")),
};

/// The same without TLS.
const PLAIN: Subject = Subject { library: "none", tls: false, source: "syscall", ..CLIENT };

/// A server over TLS that keeps connections alive.
const SERVER: Subject = Subject { role: Role::Server { close: false }, ..CLIENT };

const NODE: Subject = Subject { library: "OpenSSL, inside the program, with symbols", needs: &[Need::Node], ..CLIENT };

const JSSE: Expect = Unread(
    "Java's own TLS is Java code that is compiled as it runs: there is no function in a file to probe. The other end of its \
     calls is captured where that is on a host with an agent",
);
const QUIC: Expect =
    Nothing("HTTP/3 is UDP, encrypted by code of the program's own: neither its packets nor its bytes are looked at");

const PATH_IN_TABLE: Expect = Partial(
    "Its HTTP/2 names a path that it has sent by its place in a table, which had passed when the agent came: the calls are told \
     by their bodies",
);

/// The programs of every run.
pub const ALL: &[Subject] = &[
    Subject { name: "requests", title: "Python requests", command: |site| python("requests", site), ..CLIENT },
    Subject { name: "requests_plain", title: "Python requests", command: |site| python("requests", site), ..PLAIN },
    Subject { name: "urllib", title: "Python http.client", command: |site| python("urllib", site), ..CLIENT },
    Subject { name: "httpx_sync", title: "Python httpx, sync", command: |site| python("httpx_sync", site), ..CLIENT },
    Subject {
        name: "httpx_async",
        title: "Python httpx, async",
        command: |site| python("httpx_async", site),
        ..CLIENT
    },
    Subject {
        name: "httpx_http2",
        title: "Python httpx, HTTP/2",
        speaks: Speaks::Http2,
        after: PATH_IN_TABLE,
        command: |site| python("httpx_http2", site),
        ..CLIENT
    },
    Subject { name: "aiohttp", title: "Python aiohttp", command: |site| python("aiohttp", site), ..CLIENT },
    Subject { name: "aiohttp_plain", title: "Python aiohttp", command: |site| python("aiohttp", site), ..PLAIN },
    Subject {
        name: "openai_sync",
        title: "openai, sync",
        // It closes at `[DONE]`, before the last chunk of its answer.
        unread: 5,
        command: |site| python("openai_sync", site),
        ..CLIENT
    },
    Subject { name: "openai_async", title: "openai, async", command: |site| python("openai_async", site), ..CLIENT },
    Subject { name: "node_https", title: "Node https", command: |site| node("https", site), ..NODE },
    Subject {
        name: "node_http",
        title: "Node http",
        needs: &[Need::Node],
        command: |site| node("https", site),
        ..PLAIN
    },
    Subject { name: "node_fetch", title: "Node fetch", command: |site| node("fetch", site), ..NODE },
    Subject {
        name: "node_http2",
        title: "Node http2",
        speaks: Speaks::Http2,
        command: |site| node("http2", site),
        ..NODE
    },
    Subject { name: "curl", title: "curl", needs: &[Need::Curl], command: curl, ..CLIENT },
    Subject { name: "curl_plain", title: "curl", needs: &[Need::Curl], command: curl, ..PLAIN },
    Subject {
        name: "wget",
        title: "wget",
        library: "GnuTLS, shared",
        source: "gnutls",
        needs: &[Need::Wget],
        command: wget,
        ..CLIENT
    },
    Subject {
        name: "gnutls_cli",
        title: "gnutls-cli",
        library: "GnuTLS, shared",
        role: Role::Piped,
        source: "gnutls",
        needs: &[Need::GnutlsCli],
        command: gnutls_cli,
        ..CLIENT
    },
    Subject {
        name: "s_client",
        title: "openssl s_client",
        role: Role::Piped,
        needs: &[Need::Openssl],
        command: s_client,
        ..CLIENT
    },
    Subject {
        name: "nginx",
        title: "nginx, TLS in front of a plain server",
        needs: &[Need::Nginx],
        command: nginx,
        ..SERVER
    },
    Subject {
        name: "gunicorn_sync",
        title: "gunicorn, two forked sync workers",
        role: Role::Server { close: true },
        command: |site| gunicorn("sync", site),
        ..SERVER
    },
    Subject {
        name: "gunicorn_gthread",
        title: "gunicorn, two forked threaded workers",
        command: |site| gunicorn("gthread", site),
        ..SERVER
    },
    Subject {
        name: "uvicorn_uvloop",
        title: "uvicorn, uvloop",
        command: |site| uvicorn("uvloop", "httptools", site),
        ..SERVER
    },
    Subject {
        name: "uvicorn_asyncio",
        title: "uvicorn, asyncio",
        command: |site| uvicorn("asyncio", "h11", site),
        ..SERVER
    },
    Subject {
        name: "uvicorn_plain",
        title: "uvicorn, uvloop",
        command: |site| uvicorn("uvloop", "httptools", site),
        role: Role::Server { close: false },
        ..PLAIN
    },
    Subject {
        name: "quic",
        title: "Python aioquic, HTTP/3",
        library: "its own, over UDP",
        speaks: Speaks::Http3,
        before: QUIC,
        after: QUIC,
        command: |site| script("client_quic.py", site),
        ..CLIENT
    },
];

/// The programs that need a download of their own.
pub const FULL: &[Subject] = &[
    Subject {
        name: "java",
        title: "Java HttpClient",
        library: "JSSE",
        needs: &[Need::Java],
        before: JSSE,
        after: JSSE,
        command: java,
        ..CLIENT
    },
    Subject {
        name: "bun",
        title: "Bun fetch",
        library: "BoringSSL, inside the program, without symbols",
        source: "boringssl",
        searched: Some(Large::BUN),
        needs: &[Need::Large(Large::BUN)],
        command: |site| javascript(Command::new(Large::BUN.program()), "fetch", site),
        ..CLIENT
    },
    Subject {
        name: "deno",
        title: "Deno fetch",
        library: "rustls, inside the program, without symbols",
        source: "rustls",
        searched: Some(Large::DENO),
        needs: &[Need::Large(Large::DENO)],
        command: deno,
        ..CLIENT
    },
];

fn python(library: &str, site: &Site<'_>) -> Result<Command> {
    let mut command = Command::new(place::python()?);
    command.arg(place::script("client_matrix.py")).arg(library);
    site.target(&mut command);
    Ok(command)
}

fn script(name: &str, site: &Site<'_>) -> Result<Command> {
    let mut command = Command::new(place::python()?);
    command.arg(place::script(name));
    site.target(&mut command);
    Ok(command)
}

fn java(site: &Site<'_>) -> Result<Command> {
    let mut command = Command::new("java");
    command.arg(place::workspace().join("tests/java/MatrixClient.java"));
    site.target(&mut command);
    Ok(command)
}

fn node(via: &str, site: &Site<'_>) -> Result<Command> {
    javascript(Command::new("node"), via, site)
}

fn deno(site: &Site<'_>) -> Result<Command> {
    let mut command = Command::new(Large::DENO.program());
    command.args(["run", "--allow-all", "--no-config", "--no-remote"]);
    if let Some(ca) = site.ca() {
        command.env("DENO_CERT", ca);
    }
    javascript(command, "fetch", site)
}

/// A runtime that takes a module, and the clients of Node's names.
fn javascript(mut command: Command, via: &str, site: &Site<'_>) -> Result<Command> {
    command.arg(place::script("client_matrix_node.mjs")).arg(via);
    site.target(&mut command);
    if let Some(ca) = site.ca() {
        command.env("NODE_EXTRA_CA_CERTS", ca);
    }
    Ok(command)
}

/// One process, one connection: curl keeps it for the transfers that follow.
fn curl(site: &Site<'_>) -> Result<Command> {
    let mut command = Command::new("curl");
    for (n, body) in bodies::all().iter().enumerate() {
        let file = site.room.file(&format!("body-{n}"));
        fs::write(&file, body)?;
        command.args((n > 0).then_some("--next"));
        command.args(["--silent", "--show-error", "--fail", "--no-buffer", "--noproxy", "*"]);
        command.args(["--header", "content-type: application/json"]);
        command.arg("--data-binary").arg(format!("@{}", file.display()));
        if let Some(ca) = site.ca() {
            command.arg("--cacert").arg(ca);
        }
        command.arg(format!("{}/chat/completions", site.base_url()));
    }
    Ok(command)
}

/// wget sends one body to all its URLs: the large one, without a stream.
fn wget(site: &Site<'_>) -> Result<Command> {
    let [_, _, big, ..] = bodies::all();
    let file = site.room.file("body");
    fs::write(&file, big)?;
    let mut command = Command::new("wget");
    command.args(["--quiet", "--output-document=-", "--tries=1", "--no-proxy"]);
    command.args(["--header", "content-type: application/json"]).arg(format!("--post-file={}", file.display()));
    if let Some(ca) = site.ca() {
        command.arg(format!("--ca-certificate={}", ca.display()));
    }
    command.args(vec![format!("{}/chat/completions", site.base_url()); bodies::all().len()]);
    Ok(command)
}

fn gnutls_cli(site: &Site<'_>) -> Result<Command> {
    let mut command = Command::new("gnutls-cli");
    command.args(["--logfile=/dev/null", "--port", &site.port.to_string()]);
    if let Some(ca) = site.ca() {
        command.arg(format!("--x509cafile={}", ca.display()));
    }
    command.arg("127.0.0.1");
    Ok(command)
}

fn s_client(site: &Site<'_>) -> Result<Command> {
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-quiet",
        "-no_ign_eof",
        "-verify_return_error",
        "-connect",
        &format!("127.0.0.1:{}", site.port),
    ]);
    if let Some(ca) = site.ca() {
        command.arg("-CAfile").arg(ca);
    }
    Ok(command)
}

/// Runs a server that cannot choose its port by itself, and says where it listens as soon as it does.
fn announced(mut command: Command, port: u16) -> Result<Command> {
    let mut announcer = Command::new(place::python()?);
    announcer
        .arg(place::script("announce.py"))
        .arg(port.to_string())
        .arg(command.get_program())
        .args(command.get_args());
    announcer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command = announcer;
    Ok(command)
}

fn nginx(site: &Site<'_>) -> Result<Command> {
    let processes = "user root; worker_processes 2;";
    let proxy = Proxy { processes, http2: false, pki: site.pki, upstream: site.port };
    let (command, port) = proxy.command(site.room)?;
    announced(command, port)
}

fn gunicorn(worker: &str, site: &Site<'_>) -> Result<Command> {
    let port = place::free_port()?;
    let mut command = Command::new(place::python()?);
    command.args([
        "-m",
        "gunicorn",
        "--workers",
        "2",
        "--worker-class",
        worker,
        "--bind",
        &format!("127.0.0.1:{port}"),
    ]);
    command.args(["--log-level", "warning", "--pythonpath"]).arg(place::script(""));
    if let Some(pki) = site.pki {
        command.arg("--certfile").arg(&pki.cert).arg("--keyfile").arg(&pki.key);
    }
    command.arg("model_wsgi:app");
    announced(command, port)
}

fn uvicorn(event_loop: &str, http: &str, site: &Site<'_>) -> Result<Command> {
    let mut command = Command::new(place::python()?);
    command.arg(place::script("model_server.py")).args(["--loop", event_loop, "--http", http, "--interval-ms", "2"]);
    command.arg("--log").arg(site.room.file("server.log"));
    if let Some(pki) = site.pki {
        command.arg("--cert").arg(&pki.cert).arg("--key").arg(&pki.key);
    }
    Ok(command)
}
