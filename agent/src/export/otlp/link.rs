//! What is logged of a receiver.
//!
//! Owns the state of the link as the last answer showed it, and one line in the log for each change: a receiver that is
//! away costs one line when it goes and one when it is back.

use tonic::Status;

use super::settings::{OtlpSettings, Signal};
use crate::{config::Headers, privacy::printable};

/// Longest piece of a receiver's message that goes to the log.
const MAX_MESSAGE: usize = 200;

/// What the last answer said of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Unknown,
    Up,
    Away,
    Unauthorised,
    Shrinking,
    Refusing,
    Rejecting,
}

/// The link to one receiver.
pub(super) struct LinkLog {
    /// `spans`, `metrics` or `logs`.
    what: &'static str,
    endpoint: String,
    headers: Headers,
    link: Link,
}

impl LinkLog {
    pub(super) fn new(signal: Signal, settings: &OtlpSettings) -> Self {
        let OtlpSettings { endpoint, headers, .. } = settings;
        Self { what: signal.as_str(), endpoint: endpoint.clone(), headers: headers.clone(), link: Link::Unknown }
    }

    /// Logs a change.
    pub(super) fn note(&mut self, link: Link, status: &Status) {
        let before = std::mem::replace(&mut self.link, link);
        if before == link {
            return;
        }
        let Self { what, endpoint, .. } = &*self;
        let (code, message) = (status.code(), self.loggable(status.message()));
        match link {
            Link::Unknown => {}
            Link::Up => tracing::info!(%endpoint, "the OTLP receiver takes {what}"),
            Link::Away => {
                tracing::warn!(%endpoint, ?code, message, "the OTLP receiver of {what} is away or busy; will retry");
            }
            Link::Unauthorised => {
                tracing::warn!(%endpoint, ?code, message, "the OTLP receiver does not accept us; export of {what} is paused");
            }
            Link::Shrinking => {
                tracing::warn!(%endpoint, ?code, message, "the OTLP receiver finds requests too large; sending less");
            }
            Link::Refusing => tracing::warn!(%endpoint, ?code, message, "the OTLP receiver refuses {what}; dropped"),
            Link::Rejecting => tracing::warn!(%endpoint, message, "the OTLP receiver takes a part of the {what} only"),
        }
    }

    /// A receiver's message, safe to log: receivers have been seen to echo the credentials that they refuse.
    fn loggable(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for secret in self.headers.0.values().flat_map(|value| value.split_whitespace()).filter(|word| word.len() > 3) {
            message = message.replace(secret, "[redacted]");
        }
        printable(&message).chars().take(MAX_MESSAGE).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OtlpConfig;

    #[test]
    fn a_message_that_echoes_a_credential_is_not_logged() {
        let headers = Headers([("authorization".to_owned(), "Bearer hunter2".to_owned())].into());
        let config = OtlpConfig { headers: Some(headers), ..OtlpConfig::default() };
        let settings = OtlpSettings::resolve(Some(&config), &|_| None).unwrap().unwrap();
        let log = LinkLog::new(Signal::Traces, &settings);
        assert_eq!(log.loggable("token hunter2\x1b[2J refused"), "token [redacted]\\u{1b}[2J refused");
        assert_eq!(log.loggable(&"x".repeat(1000)).len(), 200);
    }
}
