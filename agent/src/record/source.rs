//! Where the bytes of a record come from.

use inferscope_common::record as abi;

use super::RecordError;

/// Where plaintext was read (`inferscope.capture.source`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Socket system calls.
    Syscall,
    /// OpenSSL's `SSL_read` and `SSL_write` families, and what has its shape (LibreSSL).
    OpenSsl,
    /// BoringSSL's `SSL_read` and `SSL_write`.
    BoringSsl,
    /// GnuTLS' `gnutls_record_*` functions.
    GnuTls,
    /// Go's `crypto/tls`.
    Go,
    /// rustls, at the AEAD functions below it.
    Rustls,
    /// Reads and writes of a pipe.
    Pipe,
    /// System calls on a UNIX socket on which messages pass one a line.
    Lines,
    /// Nowhere: what is said follows from TLS records' headers (`--infer`).
    Ciphertext,
}

impl Source {
    /// The contract's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syscall | Self::Lines => "syscall",
            Self::Pipe => "pipe",
            Self::OpenSsl => "openssl",
            Self::BoringSsl => "boringssl",
            Self::GnuTls => "gnutls",
            Self::Go => "go",
            Self::Rustls => "rustls",
            Self::Ciphertext => "ciphertext",
        }
    }

    /// Whether the bytes are the inside of TLS.
    pub fn is_tls(self) -> bool {
        !matches!(self, Self::Syscall | Self::Ciphertext) && !self.is_lines()
    }

    /// Whether messages pass one a line, and there is no HTTP.
    pub fn is_lines(self) -> bool {
        matches!(self, Self::Pipe | Self::Lines)
    }

    /// Whether a stream of it is one direction of a connection.
    pub fn is_half(self) -> bool {
        self == Self::Rustls
    }

    /// The kernel side's `SOURCE_*` value.
    pub(super) fn of_abi(value: u8) -> Result<Self, RecordError> {
        Ok(match value {
            abi::SOURCE_SYSCALL => Self::Syscall,
            abi::SOURCE_OPENSSL => Self::OpenSsl,
            abi::SOURCE_BORINGSSL => Self::BoringSsl,
            abi::SOURCE_GNUTLS => Self::GnuTls,
            abi::SOURCE_GO => Self::Go,
            abi::SOURCE_RUSTLS => Self::Rustls,
            abi::SOURCE_PIPE => Self::Pipe,
            abi::SOURCE_LINES => Self::Lines,
            _ => return Err(RecordError::BadMember("source")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_tls_and_no_half() {
        let of = |value| Source::of_abi(value).unwrap();
        let (pipe, lines) = (of(abi::SOURCE_PIPE), of(abi::SOURCE_LINES));
        assert_eq!((pipe.as_str(), lines.as_str()), ("pipe", "syscall"));
        for source in [pipe, lines] {
            assert!(source.is_lines() && !source.is_tls() && !source.is_half());
        }
        assert!(!of(abi::SOURCE_SYSCALL).is_lines() && !of(abi::SOURCE_OPENSSL).is_lines());
        assert_eq!(Source::of_abi(99), Err(RecordError::BadMember("source")));
    }
}
