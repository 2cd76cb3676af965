//! The connection to a collector: its options, its certificates, and what is said when there is none.
//!
//! Owns what is the same for every attempt. Certificates are read anew each time.

use std::time::Duration;

use inferscope_proto::v1::ship_client::ShipClient;
use tonic::{
    Status,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};

use super::settings::{ShipError, ShipSettings};
use crate::{call::OWN_AGENT, config::ShipCompression, export::otlp::secured};

/// Servers answer pings below 30 s apart with GOAWAY too_many_pings unless they are told otherwise; ours is.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// A ping that was not answered for so long means that the connection is dead.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages from a collector are small.
const MAX_ANSWER: usize = 1 << 20;

/// The endpoint, with the certificates as of now.
pub(super) fn endpoint(settings: &ShipSettings) -> Result<Endpoint, ShipError> {
    let mut endpoint = Endpoint::from_shared(settings.endpoint.clone())
        .and_then(|endpoint| endpoint.user_agent(format!("{OWN_AGENT}{}", env!("CARGO_PKG_VERSION"))))
        .map_err(|_| ShipError::Endpoint)?
        .connect_timeout(settings.tuning.connect)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    if let Some(files) = &settings.tls {
        endpoint = secured(files, &endpoint)?;
    }
    Ok(endpoint)
}

/// A client over a connection.
pub(super) fn client(channel: Channel, compression: ShipCompression) -> ShipClient<Channel> {
    let client = ShipClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    match compression {
        ShipCompression::None => client,
        ShipCompression::Zstd => client.send_compressed(CompressionEncoding::Zstd),
    }
}

/// tonic's own message is "transport error" whatever it was.
pub(super) fn unavailable(error: &tonic::transport::Error) -> Status {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    Status::unavailable(text)
}
