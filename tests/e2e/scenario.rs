//! Scenarios, what they need from the machine, and the place that each runs in.

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use inferscope_tests::{corpus, go::Build, pki::Pki, place, programs::Large, sdks, vllm};
use libtest_mimic::{Failed, Trial};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::group::Group;

/// How long anything that is not under load may take on a slow, busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// With this set to 1, a scenario that cannot run is a failure.
const REQUIRE: &str = "INFERSCOPE_REQUIRE_E2E";

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Node, for its clients.
    Node,
    /// curl.
    Curl,
    /// A C compiler, for programs of our own.
    Cc,
    /// wget.
    Wget,
    /// nginx.
    Nginx,
    /// gnutls-cli.
    GnutlsCli,
    /// openssl, the program.
    Openssl,
    /// Java, with its compiler.
    Java,
    /// setpriv, to run something without root.
    Setpriv,
    /// unshare, to hide something from one process.
    Unshare,
    /// ip, for a network of a test's own.
    Ip,
    /// nft, to lose packets in it.
    Nft,
    /// taskset, to keep programs on one processor.
    Taskset,
    /// A program that is not installed for every run.
    Large(Large),
    /// The programs in Go, in one way of building them.
    Go(Build),
    /// A C compiler, and OpenSSL as a static library.
    StaticOpenSsl,
    /// A control group hierarchy of version 2 in which groups can be made.
    Cgroups,
    /// Recorded exchanges with real services.
    Recordings,
    /// The providers' SDKs.
    Sdks,
    /// vLLM with its model.
    Vllm,
}

impl Need {
    fn missing(self) -> Option<String> {
        let program = match self {
            Self::Node => "node",
            Self::Curl => "curl",
            Self::Cc => "cc",
            Self::Wget => "wget",
            Self::Nginx => "nginx",
            Self::GnutlsCli => "gnutls-cli",
            Self::Openssl => "openssl",
            Self::Java => "java",
            Self::Setpriv => "setpriv",
            Self::Unshare => "unshare",
            Self::Ip => "ip",
            Self::Nft => "nft",
            Self::Taskset => "taskset",
            Self::Large(large) => return large.missing(),
            Self::Go(build) => return build.missing(),
            Self::StaticOpenSsl => {
                let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"]
                    .iter()
                    .find(|folder| Path::new(folder).join("libssl.a").exists());
                return match (place::on_path("cc"), library) {
                    (None, _) => Some("no C compiler is installed".to_owned()),
                    (_, None) => Some("there is no libssl.a (Debian: libssl-dev)".to_owned()),
                    _ => None,
                };
            }
            Self::Recordings => return corpus::missing(),
            Self::Sdks => return sdks::missing(),
            Self::Vllm => return vllm::missing(),
            Self::Cgroups => return Group::make("inferscope-e2e-probe").err().map(|error| format!("{error:#}")),
        };
        place::on_path(program).is_none().then(|| format!("{program} is not installed"))
    }
}

/// What every scenario needs.
fn missing_basics() -> Option<String> {
    if !geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no BTF (/sys/kernel/btf/vmlinux)".to_owned());
    }
    place::python().err().or(place::agent().err()).map(|error| format!("{error:#}"))
}

type Run = Box<dyn Fn() -> Result<()> + Send>;

/// A list of scenarios under construction.
#[derive(Default)]
pub struct Scenarios {
    all: Vec<(String, Vec<Need>, Run)>,
}

impl Scenarios {
    /// Adds one; `name` is a path such as `clients::curl`.
    pub fn add(&mut self, name: impl Into<String>, needs: &[Need], run: impl Fn() -> Result<()> + Send + 'static) {
        self.all.push((name.into(), needs.to_vec(), Box::new(run)));
    }

    /// Turns them into trials; `announce` prints a line for each that cannot run here.
    pub fn into_trials(self, announce: bool) -> Vec<Trial> {
        let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
        let basics = missing_basics();
        let trial = |(name, needs, run): (String, Vec<Need>, Run)| {
            let reason = basics.clone().or_else(|| needs.into_iter().find_map(Need::missing));
            let Some(reason) = reason else {
                return Trial::test(name, move || run().map_err(|error| Failed::from(format!("{error:#}"))));
            };
            if announce {
                say(&format!("SKIPPED {name}: {reason}"));
            }
            let failure = format!("cannot run here: {reason}");
            Trial::test(name, move || Err(Failed::from(failure.clone()))).with_ignored_flag(!required)
        };
        self.all.into_iter().map(trial).collect()
    }
}

/// Prints a line for whoever reads the test's output.
pub fn say(line: &str) {
    // A closed standard output is no reason to fail a test.
    let _closed = writeln!(std::io::stdout(), "{line}");
}

/// A directory of a scenario's own, which any user may read.
pub struct Room(TempDir);

impl Room {
    /// Makes one.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("inferscope-e2e-").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A fresh authority and certificate, where the scenario is about TLS.
    pub fn pki(&self, tls: bool) -> Result<Option<Pki>> {
        tls.then(|| Pki::generate(&self.file("pki"))).transpose()
    }

    /// A copy of the agent that any user may run: the build directory may be closed to others.
    pub fn agent_for_all(&self) -> Result<PathBuf> {
        let copy = self.file("inferscope");
        fs::copy(place::agent()?, &copy).context("cannot copy the agent")?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        Ok(copy)
    }
}

/// For names of scenarios.
pub fn transport(tls: bool) -> &'static str {
    if tls { "tls" } else { "plain" }
}
