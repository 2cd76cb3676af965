//! Who may hand in calls and who may read them.
//!
//! Owns tokens and what a certificate's names allow. A listener on the loopback address asks for nothing to hand in calls or to
//! read metadata; content always takes a token that says so. Beyond loopback everything takes a token or a client certificate.
//! Tokens are kept as hashes: what compares them takes the same time whatever they are.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::tls::write_new;

/// Shortest token that is taken: shorter ones can be tried out.
const LEAST_TOKEN: usize = 16;

/// Largest file of tokens, bytes.
const MAX_FILE: u64 = 1 << 20;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To hand in calls.
    Agent,
    /// To read everything but content.
    Metadata,
    /// To read content too. Each reading is noted.
    Content,
}

/// One token of the file, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is, for the audit log.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The one agent that it allows to be, if it says so.
    pub agent: Option<String>,
}

/// The tokens of a file.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    by_hash: HashMap<[u8; 32], Grant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    token: Vec<TokenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    role: Role,
    token: String,
    agent: Option<String>,
}

/// Why a file of tokens was refused. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("cannot read the tokens in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read it.
    #[error("{path} can be read by its group or by everybody (mode {mode:04o}): chmod 600 it")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its owner could put in whom he likes.
    #[error("{path} belongs to user {uid}: chown it to whoever runs the collector")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// It is not what such a file may say.
    #[error("{path}:{line}: not a list of [[token]] with name, role (agent, metadata or content) and token")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// A token that is too short, or there twice.
    #[error("{path}: the token of `{name}` {reason}")]
    Token {
        /// The file.
        path: PathBuf,
        /// Whose token.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Tokens {
    /// Reads a file that nobody else may read.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let failed = |source| TokensError::Read { path: path.to_owned(), source };
        // What is checked is what is read: a path could name another file a moment later.
        let file = fs::File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokensError::Readable { path: path.to_owned(), mode });
        }
        // `/proc/self` belongs to who we are.
        let own = fs::metadata("/proc/self").map_err(failed)?.uid();
        if metadata.uid() != 0 && metadata.uid() != own {
            return Err(TokensError::Owner { path: path.to_owned(), uid: metadata.uid() });
        }
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, TokensError> {
        let file: TokenFile = toml::from_str(text).map_err(|error| {
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
            TokensError::Syntax { path: path.to_owned(), line: before.matches('\n').count() + 1 }
        })?;
        let mut by_hash = HashMap::new();
        for TokenEntry { name, role, token, agent } in file.token {
            let refuse = |name, reason| Err(TokensError::Token { path: path.to_owned(), name, reason });
            if token.len() < LEAST_TOKEN {
                return refuse(name, "has less than 16 characters");
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return refuse(name, "has characters that a header cannot carry");
            }
            let grant = Grant { name, role, agent };
            if let Some(other) = by_hash.insert(hash(&token), grant) {
                return refuse(other.name, "is there twice");
            }
        }
        Ok(Self { by_hash })
    }

    /// Writes a file with a new token for each role, for its owner alone.
    pub fn draw(path: &Path) -> anyhow::Result<()> {
        let mut text = String::from("# Who may do what. Whoever has a token has its role.\n");
        for role in ["agent", "metadata", "content"] {
            let random = ring::rand::generate::<[u8; 24]>(&ring::rand::SystemRandom::new())
                .map_err(|_| io::Error::other("the system has no random numbers"))?
                .expose();
            let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("\n[[token]]\nname = \"{role}\"\nrole = \"{role}\"\ntoken = \"{token}\"\n");
        }
        write_new(path, &text, 0o600)
    }

    /// What an `authorization` header allows.
    pub fn grant(&self, authorization: Option<&str>) -> Option<&Grant> {
        let (scheme, token) = authorization?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| self.by_hash.get(&hash(token.trim())))?
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whoever is at the other end of a connection, as far as the connection says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The listener is on the loopback address, and nothing between forwards what comes from elsewhere.
    pub is_local: bool,
    /// Names of the client's certificate, which was verified; `None` without one.
    pub names: Option<Arc<[String]>>,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nothing says who it is.
    #[error("a token or a client certificate is needed")]
    Unknown,
    /// It is known and may not.
    #[error("the token does not allow this")]
    Role,
    /// The agent is another's.
    #[error("the certificate or token is not this agent's")]
    Agent,
}

/// Whether a peer may hand in calls as `agent_id`; `None` for what names no agent.
pub fn may_ship(
    tokens: &Tokens,
    peer: &Peer,
    authorization: Option<&str>,
    agent_id: Option<&str>,
) -> Result<(), Denied> {
    let grant = tokens.grant(authorization);
    // What was shown and is wrong is never overlooked: who shows it takes it for good.
    if grant.is_none() && authorization.is_some() {
        return Err(Denied::Unknown);
    }
    if let Some(grant) = grant {
        if grant.role != Role::Agent {
            return Err(Denied::Role);
        }
        if agent_id.zip(grant.agent.as_deref()).is_some_and(|(id, allowed)| id != allowed) {
            return Err(Denied::Agent);
        }
    }
    if let (Some(names), Some(id)) = (&peer.names, agent_id)
        && !names.iter().any(|name| name == id)
    {
        return Err(Denied::Agent);
    }
    match peer.is_local || peer.names.is_some() || grant.is_some() {
        true => Ok(()),
        false => Err(Denied::Unknown),
    }
}

/// Whether the sender of a request may hand in anything, before any of it is read. As whom is another question.
pub fn may_ship_at_all(tokens: &Tokens, request: &tonic::Request<()>) -> Result<(), Denied> {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let authorization = request.metadata().get("authorization").map(|value| value.to_str().unwrap_or_default());
    may_ship(tokens, &peer, authorization, None)
}

/// Who reads, and whether content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// For the audit log.
    pub name: String,
    /// Content too.
    pub content: bool,
}

/// Whether a peer may read.
pub fn may_read(tokens: &Tokens, peer: &Peer, authorization: Option<&str>) -> Result<Reader, Denied> {
    match (tokens.grant(authorization), authorization) {
        (Some(Grant { role: Role::Agent, .. }), _) => Err(Denied::Role),
        (Some(grant), _) => Ok(Reader { name: grant.name.clone(), content: grant.role == Role::Content }),
        (None, None) if peer.is_local => Ok(Reader { name: "local".to_owned(), content: false }),
        (None, _) => Err(Denied::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const FILE: &str = "[[token]]\nname = \"a\"\nrole = \"agent\"\ntoken = \"aaaaaaaaaaaaaaaa\"\nagent = \"gpu-1\"\n\
        [[token]]\nname = \"any\"\nrole = \"agent\"\ntoken = \"bbbbbbbbbbbbbbbb\"\n\
        [[token]]\nname = \"m\"\nrole = \"metadata\"\ntoken = \"mmmmmmmmmmmmmmmm\"\n\
        [[token]]\nname = \"c\"\nrole = \"content\"\ntoken = \"cccccccccccccccc\"\n";

    fn tokens() -> Tokens {
        Tokens::parse(Path::new("t"), FILE).unwrap()
    }

    fn far(names: Option<&[&str]>) -> Peer {
        Peer { is_local: false, names: names.map(|names| names.iter().map(|name| (*name).to_owned()).collect()) }
    }

    #[test]
    fn an_agent_is_who_its_certificate_or_token_says() {
        let tokens = tokens();
        let ship = |peer: &Peer, header, id| may_ship(&tokens, peer, header, Some(id));
        let local = Peer { is_local: true, names: None };
        assert_eq!(ship(&local, None, "x"), Ok(()));
        assert_eq!(ship(&far(None), None, "x"), Err(Denied::Unknown));
        assert_eq!(ship(&far(Some(&["x", "y"])), None, "y"), Ok(()));
        assert_eq!(ship(&far(Some(&["x"])), None, "y"), Err(Denied::Agent));
        assert_eq!(ship(&far(None), Some("Bearer aaaaaaaaaaaaaaaa"), "gpu-1"), Ok(()));
        assert_eq!(ship(&far(None), Some("bearer aaaaaaaaaaaaaaaa"), "gpu-2"), Err(Denied::Agent));
        assert_eq!(ship(&far(None), Some("Bearer bbbbbbbbbbbbbbbb"), "gpu-2"), Ok(()));
        assert_eq!(ship(&far(None), Some("Bearer mmmmmmmmmmmmmmmm"), "gpu-2"), Err(Denied::Role));
        // A certificate does not make good for a wrong token, nor a token for another's certificate.
        assert_eq!(ship(&far(Some(&["x"])), Some("Bearer wrong"), "x"), Err(Denied::Unknown));
        assert_eq!(ship(&far(Some(&["x"])), Some("Bearer bbbbbbbbbbbbbbbb"), "y"), Err(Denied::Agent));
        assert_eq!(ship(&local, Some("Basic xyz"), "x"), Err(Denied::Unknown));
    }

    #[test]
    fn content_takes_a_token_that_says_so() {
        let tokens = tokens();
        let read = |peer: &Peer, header| may_read(&tokens, peer, header).map(|reader| reader.content);
        let local = Peer { is_local: true, names: None };
        assert_eq!(read(&local, None), Ok(false));
        assert_eq!(read(&local, Some("Bearer cccccccccccccccc")), Ok(true));
        assert_eq!(read(&local, Some("Bearer nonsense")), Err(Denied::Unknown));
        assert_eq!(read(&far(Some(&["x"])), None), Err(Denied::Unknown));
        assert_eq!(read(&far(None), Some("Bearer mmmmmmmmmmmmmmmm")), Ok(false));
        assert_eq!(read(&far(None), Some("Bearer bbbbbbbbbbbbbbbb")), Err(Denied::Role));
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_and_never_quoted() {
        let secret = "supersecretsupersecret";
        for (text, line) in [
            (format!("[[token]]\nname = \"a\"\nrole = \"root\"\ntoken = \"{secret}\""), Some(3)),
            (format!("[[token]]\nname = \"a\"\nrole = \"agent\"\ntoken = \"short\" # {secret}"), None),
            (format!("token = {secret}"), Some(1)),
            (format!("{FILE}{FILE}# {secret}"), None),
        ] {
            let error = Tokens::parse(Path::new("t"), &text).unwrap_err();
            assert!(!error.to_string().contains(secret), "{error}");
            assert_eq!(
                matches!(&error, TokensError::Syntax { line: at, .. } if Some(*at) == line),
                line.is_some(),
                "{error}"
            );
        }
    }

    #[test]
    fn drawn_tokens_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        Tokens::draw(&path).unwrap();
        assert_eq!(Tokens::load(&path).unwrap().by_hash.len(), 3);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Tokens::load(&path), Err(TokensError::Readable { mode: 0o640, .. })));
    }
}
