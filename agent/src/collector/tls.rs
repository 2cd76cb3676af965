//! TLS of the collector's listeners: its certificate, the certificates of agents, and what their names are.
//!
//! Owns the server's side of rustls. Files are read anew when they change ([`Fresh`]); a connection keeps what it began with.
//! Where nobody gave a certificate one is drawn and kept: encryption without set-up, which agents trust by its file.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use super::fresh::Fresh;

/// Files for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Certificates whose clients are known by their names, PEM.
    pub client_ca: Option<PathBuf>,
}

/// What a listener speaks above TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Http2,
    /// Pages and queries.
    Http1,
}

/// The configuration of a listener, read anew when its files change.
pub fn config(files: &ServerFiles, protocol: Protocol) -> anyhow::Result<Fresh<ServerConfig>> {
    let ServerFiles { certificate, key, client_ca } = files.clone();
    let watched = [Some(certificate), Some(key), client_ca].into_iter().flatten().collect();
    let files = files.clone();
    Fresh::new(watched, move || load(&files, protocol))
}

fn load(files: &ServerFiles, protocol: Protocol) -> anyhow::Result<ServerConfig> {
    let ServerFiles { certificate, key, client_ca } = files;
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("{} holds no private key", key.display()))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).with_context(|| format!("{} holds what is no certificate", path.display()))?;
            }
            // A client without one may still have a token.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .with_context(|| format!("{} cannot be used", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .with_context(|| format!("{} and its key do not belong together", certificate.display()))?;
    config.alpn_protocols = match protocol {
        Protocol::Http2 => vec![b"h2".to_vec()],
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{} cannot be read as PEM", path.display()))?;
    anyhow::ensure!(!all.is_empty(), "{} holds no certificate", path.display());
    Ok(all)
}

/// The names of a certificate that was verified: DNS names, and URIs as SPIFFE has them.
pub fn names(certificate: &CertificateDer<'_>) -> Arc<[String]> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Arc::from([]) };
    let dns = certificate.valid_dns_names().map(str::to_owned);
    dns.chain(certificate.valid_uri_names().map(str::to_owned)).collect()
}

/// The certificate and key of a directory, drawn for `hosts` if there are none. Both are kept: agents that trust the certificate
/// must not meet another after a restart.
pub fn own(dir: &Path, hosts: &[String]) -> anyhow::Result<ServerFiles> {
    let (certificate, key) = (dir.join("collector.pem"), dir.join("collector.key"));
    let files = ServerFiles { certificate, key, client_ca: None };
    if files.certificate.exists() && files.key.exists() {
        return Ok(files);
    }
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    let pair = rcgen::generate_simple_self_signed(hosts.to_vec()).context("no certificate can be drawn")?;
    let write = |path: &Path, text: &str, mode| write_new(path, text, mode);
    write(&files.key, &pair.signing_key.serialize_pem(), 0o600)?;
    write(&files.certificate, &pair.cert.pem(), 0o644)?;
    Ok(files)
}

/// Writes a file that nobody else can have opened before it had its mode, and brings it to stable storage.
pub(super) fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        // What a start that was cut short has left.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = own(dir.path(), &["collector.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let drawn = fs::read(&files.certificate).unwrap();
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(own(dir.path(), &[]).unwrap(), files);
        assert_eq!(fs::read(&files.certificate).unwrap(), drawn);
        assert!(config(&files, Protocol::Http2).is_ok());
        let certificate = certificates(&files.certificate).unwrap().remove(0);
        assert_eq!(&*names(&certificate), ["collector.example".to_owned()]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = own(dir.path(), &["a".to_owned()]).unwrap();
        let garbage = dir.path().join("garbage");
        fs::write(&garbage, "no PEM").unwrap();
        for wrong in [
            ServerFiles { certificate: garbage.clone(), ..files.clone() },
            ServerFiles { key: garbage.clone(), ..files.clone() },
            ServerFiles { client_ca: Some(garbage.clone()), ..files.clone() },
        ] {
            let error = config(&wrong, Protocol::Http2).map(|_| ()).unwrap_err();
            assert!(format!("{error:#}").contains("garbage"), "{error:#}");
        }
        let other = tempfile::tempdir().unwrap();
        let others = own(other.path(), &["b".to_owned()]).unwrap();
        assert!(config(&ServerFiles { key: others.key, ..files }, Protocol::Http2).is_err());
    }
}
