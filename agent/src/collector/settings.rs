//! What the collector is told.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::tls::ServerFiles;

/// Where OTLP/gRPC receivers listen, on this host alone.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4317);

/// Where pages and queries are answered.
pub const DEFAULT_UI: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8317);

/// Where the data are.
pub const DEFAULT_DIR: &str = "/var/lib/inferscope/collector";

/// Everything that the collector needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorSettings {
    /// For agents and OTLP.
    pub listen: SocketAddr,
    /// For pages and queries.
    pub ui: SocketAddr,
    /// The store's directory, which it has for itself.
    pub data_dir: PathBuf,
    /// Certificate and key; where there are none and a listener is not on the loopback address, they are drawn.
    pub tls: Option<ServerFiles>,
    /// No TLS beyond the loopback address either, because something before the collector does it.
    pub plaintext: bool,
    /// Who may do what; where there are none and a listener is not on the loopback address, they are drawn.
    pub tokens: Option<PathBuf>,
    /// Calls older than this go.
    pub keep: Duration,
    /// Content older than this goes.
    pub keep_content: Duration,
    /// Disk that the store may take, bytes.
    pub max_bytes: u64,
}
