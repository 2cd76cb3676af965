//! The certificates of a connection, which change while the agent runs.
//!
//! Owns the reading of the files, the noticing of a change, and the checks that what they hold can be used. A change is
//! noticed by what the file system says of the files (device, inode, size, time of change), every few seconds before a call
//! and at once after one that failed; only other bytes count as a change. What cannot be used is told once, and the
//! connection keeps what it has. The system's own certificates are read once: they come with the system's updates.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::{settings::TlsFiles, transport::TransportError};

/// Largest file that is read: a bundle of all public authorities has some 200 KiB, and a path may name a device.
const MAX_PEM: u64 = 1 << 20;

/// What tells one content of a file from another without reading it. Absent: the file cannot be looked at.
type Fingerprint = Option<(u64, u64, u64, i64, i64)>;

/// The files of one connection.
#[derive(Debug)]
pub(super) struct Certificates {
    files: TlsFiles,
    /// How long a look at the files is good for.
    every: Duration,
    looked: Instant,
    /// The files as they were when they were last read, for better or worse.
    seen: Vec<Fingerprint>,
    /// Of the bytes that are used.
    digest: [u8; 32],
}

impl Certificates {
    /// Reads the files; the endpoint with them.
    pub(super) fn open(
        files: &TlsFiles,
        every: Duration,
        endpoint: &Endpoint,
    ) -> Result<(Self, Endpoint), TransportError> {
        // Before the reading: what changes meanwhile is another change.
        let (files, seen) = (files.clone(), fingerprints(files));
        let pems = Pems::read(&files)?;
        let secured = pems.apply(&files, endpoint)?;
        Ok((Self { files, every, looked: Instant::now(), seen, digest: pems.digest() }, secured))
    }

    /// The endpoint with the new certificates if they have changed, or why those cannot be used. `urgent`: a call has
    /// failed, so look whatever the time is.
    pub(super) fn changed(&mut self, endpoint: &Endpoint, urgent: bool) -> Option<Result<Endpoint, TransportError>> {
        if !urgent && self.looked.elapsed() < self.every {
            return None;
        }
        self.looked = Instant::now();
        let seen = fingerprints(&self.files);
        if seen == self.seen {
            return None;
        }
        self.seen = seen;
        let pems = match Pems::read(&self.files) {
            Ok(pems) => pems,
            Err(error) => return Some(Err(error)),
        };
        let digest = pems.digest();
        if digest == self.digest {
            return None;
        }
        let secured = pems.apply(&self.files, endpoint);
        if secured.is_ok() {
            self.digest = digest;
        }
        Some(secured)
    }
}

/// `endpoint` with what the files hold now: for connections that are made one by one.
pub(in crate::export) fn secured(files: &TlsFiles, endpoint: &Endpoint) -> Result<Endpoint, TransportError> {
    Pems::read(files)?.apply(files, endpoint)
}

fn fingerprints(files: &TlsFiles) -> Vec<Fingerprint> {
    let TlsFiles { ca, client } = files;
    let client = client.iter().flat_map(|(certificate, key)| [certificate, key]);
    ca.iter().chain(client).map(|path| fingerprint(path)).collect()
}

fn fingerprint(path: &Path) -> Fingerprint {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// What the files hold.
struct Pems {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Pems {
    fn read(files: &TlsFiles) -> Result<Self, TransportError> {
        let TlsFiles { ca, client } = files;
        let client = match client {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        Ok(Self { ca: ca.as_deref().map(read).transpose()?, client })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let client = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        for pem in self.ca.iter().chain(client) {
            hash.update((pem.len() as u64).to_be_bytes());
            hash.update(pem);
        }
        hash.finalize().into()
    }

    fn apply(&self, files: &TlsFiles, endpoint: &Endpoint) -> Result<Endpoint, TransportError> {
        let mut config = ClientTlsConfig::new();
        config = match (&self.ca, &files.ca) {
            (Some(pem), Some(path)) => {
                check_authorities(pem, path)?;
                config.ca_certificate(Certificate::from_pem(pem))
            }
            _ => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.client {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        let secured = endpoint.clone().tls_config(config);
        secured.map_err(|source| match &files.client {
            Some((certificate, key)) => {
                TransportError::Identity { certificate: certificate.clone(), key: key.clone(), source }
            }
            None => TransportError::Endpoint(source),
        })
    }
}

/// That there is a certificate at all: TLS passes over those that it cannot read, and would then trust nobody.
fn check_authorities(pem: &[u8], path: &Path) -> Result<(), TransportError> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(TransportError::Authority { path: path.to_owned() }),
        _ => Ok(()),
    }
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, TransportError> {
    let path: PathBuf = path.as_ref().to_owned();
    let mut bytes = Vec::new();
    let result = File::open(&path).and_then(|file| file.take(MAX_PEM + 1).read_to_end(&mut bytes));
    match result {
        Ok(_) if bytes.len() as u64 > MAX_PEM => {
            Err(TransportError::Read { path, source: io::Error::from(io::ErrorKind::FileTooLarge) })
        }
        Ok(_) => Ok(bytes),
        Err(source) => Err(TransportError::Read { path, source }),
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
pub(super) mod tests;
