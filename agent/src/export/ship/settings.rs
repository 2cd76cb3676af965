//! Where the stream goes and who we are.
//!
//! Owns the checks that can be made without a connection. Certificates and the token are only named here: they are read anew
//! for each connection, so that new ones are taken without a restart.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use inferscope_proto::Message as _;
use tonic::transport::Uri;

use crate::{
    config::{ShipCompression, ShipConfig},
    export::otlp::{Envelope, TlsFiles, TransportError},
    wal::Epoch,
};

/// Everything that the exporter needs to know.
#[derive(Clone, Debug)]
pub struct ShipSettings {
    /// `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// Files for TLS; absent for a plaintext endpoint.
    pub tls: Option<TlsFiles>,
    /// File with the token.
    pub token: Option<PathBuf>,
    /// Compression of the stream.
    pub compression: ShipCompression,
    /// Who sends.
    pub identity: Identity,
    /// What no operator needs to set.
    pub tuning: Tuning,
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The agent's name.
    pub agent_id: String,
    /// The life of the log that is sent.
    pub epoch: Epoch,
    /// The encoded resource of all items.
    pub resource: Bytes,
    /// The encoded instrumentation scope of all items.
    pub scope: Bytes,
}

/// Values with one right answer for every operator, and others for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Deadline of a connection, its handshakes and its Welcome.
    pub connect: Duration,
    /// What was sent and is not acknowledged for so long was sent on a connection that is dead.
    pub stall: Duration,
    /// A stream is ended after a time between half of this and all of it, so that collectors behind one name share their agents.
    pub recycle: Duration,
    /// The cursor is made durable this often at most: what is acknowledged and not noted is sent again after a crash.
    pub note: Duration,
    /// First wait before another connection.
    pub backoff_first: Duration,
    /// Longest wait before another connection.
    pub backoff_longest: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            recycle: Duration::from_secs(120),
            note: Duration::from_millis(500),
            backoff_first: Duration::from_millis(500),
            // The longest that an agent notices a collector's return late.
            backoff_longest: Duration::from_secs(10),
        }
    }
}

/// Why the exporter cannot be started, or a connection not be made.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The endpoint is no URL that a gRPC client can call.
    #[error("export.ship.endpoint must be http://host:port or https://host:port")]
    Endpoint,
    /// Files for TLS with a plaintext endpoint.
    #[error("export.ship: certificates are set but the endpoint is plaintext: use https://")]
    PlaintextWithCertificates,
    /// A token over a network in the clear.
    #[error("export.ship: a token is set but the endpoint is plaintext and not of this host: use https://")]
    PlaintextWithToken,
    /// The token's file cannot be read.
    #[error("export.ship.token_file: cannot read {path}")]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The token cannot be sent.
    #[error("export.ship.token_file: {0} holds no token: one line of printable ASCII is expected")]
    NoToken(PathBuf),
    /// The connection cannot be set up.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl ShipSettings {
    /// The settings that `config` makes on a host of this name, for a log of this epoch.
    pub fn resolve(
        config: &ShipConfig,
        host: Option<&str>,
        envelope: &Envelope,
        epoch: Epoch,
    ) -> Result<Self, ShipError> {
        let uri: Uri = config.endpoint.parse().map_err(|_| ShipError::Endpoint)?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or(ShipError::Endpoint)?;
        if !matches!(uri.path_and_query().map(|rest| rest.as_str()), None | Some("/" | "")) {
            return Err(ShipError::Endpoint);
        }
        let encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(ShipError::Endpoint),
        };
        let files =
            TlsFiles { ca: config.ca_file.clone(), client: config.cert_file.clone().zip(config.key_file.clone()) };
        if !encrypted && files != TlsFiles::default() {
            return Err(ShipError::PlaintextWithCertificates);
        }
        if !encrypted && config.token_file.is_some() && !is_this_host(authority.host()) {
            return Err(ShipError::PlaintextWithToken);
        }
        let (resource, scope) = envelope.encoded();
        let agent_id = config.agent_id.clone().or_else(|| host.map(str::to_owned));
        Ok(Self {
            endpoint: format!("{}://{authority}", if encrypted { "https" } else { "http" }),
            tls: encrypted.then_some(files),
            token: config.token_file.clone(),
            compression: config.compression,
            identity: Identity {
                agent_id: agent_id.filter(|id| !id.is_empty()).unwrap_or_else(|| "localhost".to_owned()),
                epoch,
                resource: resource.encode_to_vec().into(),
                scope: scope.encode_to_vec().into(),
            },
            tuning: Tuning::default(),
        })
    }

    /// The token, as of now.
    pub(super) fn read_token(&self) -> Result<Option<String>, ShipError> {
        let Some(path) = &self.token else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|source| ShipError::Token { path: path.clone(), source })?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ShipError::NoToken(path.clone()));
        }
        Ok(Some(token.to_owned()))
    }
}

fn is_this_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str) -> ShipConfig {
        ShipConfig {
            endpoint: endpoint.to_owned(),
            agent_id: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            token_file: None,
            compression: ShipCompression::default(),
        }
    }

    fn resolve(config: &ShipConfig) -> Result<ShipSettings, ShipError> {
        ShipSettings::resolve(config, Some("gpu-1"), &Envelope::new(&|_| None, Some("gpu-1")).unwrap(), [7; 16])
    }

    #[test]
    fn an_endpoint_has_a_scheme_and_a_host_and_nothing_else() {
        assert_eq!(resolve(&config("https://c:4317/")).unwrap().endpoint, "https://c:4317");
        for wrong in ["c:4317", "ftp://c", "https://u:p@c:4317", "http://c/v1/traces", ""] {
            assert!(matches!(resolve(&config(wrong)), Err(ShipError::Endpoint)), "{wrong}");
        }
    }

    #[test]
    fn a_token_never_crosses_a_network_in_the_clear() {
        let with = |endpoint| ShipConfig { token_file: Some("/t".into()), ..config(endpoint) };
        assert!(matches!(resolve(&with("http://c:4317")), Err(ShipError::PlaintextWithToken)));
        for fine in ["http://127.0.0.1:4317", "http://localhost:4317", "http://[::1]:4317", "https://c:4317"] {
            assert!(resolve(&with(fine)).is_ok(), "{fine}");
        }
    }

    #[test]
    fn the_host_is_the_agent_unless_it_has_a_name() {
        assert_eq!(resolve(&config("http://c")).unwrap().identity.agent_id, "gpu-1");
        let named = ShipConfig { agent_id: Some("a".to_owned()), ..config("http://c") };
        assert_eq!(resolve(&named).unwrap().identity.agent_id, "a");
    }
}
