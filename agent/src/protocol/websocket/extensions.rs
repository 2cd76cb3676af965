//! What two ends agreed on: `Sec-WebSocket-Extensions` of the response (RFC 6455 section 9.1).

/// The response names an extension, or a parameter, that is not known: frames may mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

/// The extensions of a connection. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// permessage-deflate.
    pub(super) deflate: Option<Deflate>,
}

/// The parameters of permessage-deflate that matter for reading (RFC 7692 section 7.1). The sizes of the windows do
/// not: the largest takes every message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deflate {
    /// The client's messages do not refer to earlier ones.
    pub client_no_context_takeover: bool,
    /// The server's do not.
    pub server_no_context_takeover: bool,
}

impl Extensions {
    /// Reads the header of the response that switched protocols; empty for none.
    pub fn read(header: &str) -> Result<Self, Unsupported> {
        let mut extensions = Self::default();
        for extension in header.split(',').map(str::trim).filter(|extension| !extension.is_empty()) {
            let mut parts = extension.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            if !name.eq_ignore_ascii_case("permessage-deflate") || extensions.deflate.is_some() {
                return Err(Unsupported);
            }
            extensions.deflate = Some(deflate(parts)?);
        }
        Ok(extensions)
    }
}

fn deflate<'a>(parameters: impl Iterator<Item = &'a str>) -> Result<Deflate, Unsupported> {
    let mut deflate = Deflate::default();
    for parameter in parameters {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (parameter, None),
        };
        match (name, value) {
            ("client_no_context_takeover", None) => deflate.client_no_context_takeover = true,
            ("server_no_context_takeover", None) => deflate.server_no_context_takeover = true,
            ("client_max_window_bits" | "server_max_window_bits", Some(bits))
                if bits.parse().is_ok_and(|bits: u8| (8..=15).contains(&bits)) => {}
            _ => return Err(Unsupported),
        }
    }
    Ok(deflate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expect: Option<Option<(bool, bool)>>) {
        let read = Extensions::read(header).ok().map(|extensions| {
            extensions.deflate.map(|deflate| (deflate.client_no_context_takeover, deflate.server_no_context_takeover))
        });
        assert_eq!(read, expect, "{header}");
    }

    #[test]
    fn responses_are_read() {
        check("", Some(None));
        check("permessage-deflate", Some(Some((false, false))));
        check("Permessage-Deflate; client_no_context_takeover; server_max_window_bits=10", Some(Some((true, false))));
        check(
            "permessage-deflate;server_no_context_takeover;client_max_window_bits=\"15\" ",
            Some(Some((false, true))),
        );
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for header in [
            "x-webkit-deflate-frame",
            "permessage-deflate, x",
            "permessage-deflate, permessage-deflate",
            "permessage-deflate; other",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; client_no_context_takeover=1",
        ] {
            check(header, None);
        }
    }
}
