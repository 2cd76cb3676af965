//! From the fields of a header block to what may be known of a message (RFC 9113 section 8.3).

use super::{
    event::Head,
    hpack::{Field, Name},
};
use crate::protocol::head::{self, Headers, MAX_PATH, MAX_VALUE, RequestHead, ResponseHead, first, lower, text};

/// Most fields of one block that are looked at. Servers refuse more than a few hundred; one byte of a block may stand
/// for a field of kilobytes.
const MAX_FIELDS: usize = 256;

/// Largest block, as its receiver counts it: decompressed, and 32 bytes a field (RFC 9113 section 6.5.2).
const MAX_LIST: usize = 256 * 1024;

/// Names that say what a message is, besides the allow-list of [`head`].
const MESSAGE: [&str; 9] =
    [":authority", ":method", ":path", ":protocol", ":scheme", ":status", "content-length", "expect", "host"];

/// The name that may be known and that `name` is.
pub(super) fn listed(name: &[u8]) -> Option<&'static str> {
    MESSAGE.iter().find(|listed| listed.as_bytes() == name).copied().or_else(|| head::listed(name))
}

/// A block's fields as far as they have come.
#[derive(Default)]
pub(super) struct Fields {
    method: Option<String>,
    path: Option<String>,
    authority: Option<String>,
    host: Option<String>,
    protocol: Option<String>,
    status: Option<u16>,
    expect_continue: bool,
    headers: Headers,
    /// A field with which a request begins, or a response.
    is_request: bool,
    is_response: bool,
    count: usize,
    bytes: usize,
}

impl Fields {
    /// Takes the next field.
    pub fn take(&mut self, field: &Field<'_>) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(field.bytes).saturating_add(32);
        if self.is_too_large() {
            return;
        }
        let Name::Listed(name) = field.name else { return };
        self.is_response |= name == ":status";
        self.is_request |= name.starts_with(':') && name != ":status";
        let Some(value) = field.value else { return };
        match name {
            ":method" => first(&mut self.method, head::value(value)),
            ":path" => first(&mut self.path, Some(head::path(&String::from_utf8_lossy(up_to(value, MAX_PATH))))),
            ":authority" => first(&mut self.authority, head::host(&text(value))),
            ":protocol" => first(&mut self.protocol, head::value(value).map(lower)),
            ":status" => first(&mut self.status, number(value)),
            ":scheme" => {}
            "host" => first(&mut self.host, head::host(&text(value))),
            "expect" => self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            "content-length" => first(&mut self.headers.content_length, number(value)),
            _ => self.headers.take(name, value),
        }
    }

    /// Whether there were more fields, or longer ones, than are looked at.
    pub fn is_too_large(&self) -> bool {
        self.count > MAX_FIELDS || self.bytes > MAX_LIST
    }

    /// Whose block this is: true for a request's, false for a response's; nothing if it does not say.
    pub fn is_request(&self) -> Option<bool> {
        (self.is_request != self.is_response).then_some(self.is_request)
    }

    /// What the block says in the direction of requests, or in that of responses.
    pub fn into_head(self, is_request: bool) -> Head {
        let Self { method, path, authority, host, protocol, status, expect_continue, headers, .. } = self;
        if is_request && self.is_request {
            return Head::Request(RequestHead {
                method: method.unwrap_or_default(),
                path: path.unwrap_or_default(),
                host: authority.or(host),
                headers,
                keep_alive: true,
                expect_continue,
                upgrade: protocol,
                model: None,
            });
        }
        if !is_request && self.is_response {
            let status = status.unwrap_or_default();
            return Head::Response(ResponseHead { status, headers, keep_alive: true, ..ResponseHead::default() });
        }
        Head::Trailers(headers)
    }
}

fn up_to(value: &[u8], max: usize) -> &[u8] {
    value.get(..max).unwrap_or(value)
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    str::from_utf8(up_to(value, MAX_VALUE)).ok()?.parse().ok()
}
