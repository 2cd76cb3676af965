//! The files alone, and an exporter against receivers whose certificates change.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tonic::transport::{Certificate, Endpoint, Identity, Server, ServerTlsConfig};

use super::{Certificates, TlsFiles, TransportError};
use crate::export::otlp::exporter::tests::{PATIENCE, Receiver, offer, settings, start};

/// An authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn pair(&self, usage: ExtendedKeyUsagePurpose) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn client(&self) -> Pair {
        self.pair(ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A receiver that this authority vouches for and that takes clients that it vouches for.
    async fn receiver(&self, address: SocketAddr) -> Receiver {
        let Pair { certificate, key } = self.pair(ExtendedKeyUsagePurpose::ServerAuth);
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(&self.pem));
        Receiver::serve(Server::builder().tls_config(tls).unwrap(), address, []).await
    }
}

/// The files of a client.
struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new(authority: &Authority) -> Self {
        let room = Self { folder: tempfile::tempdir().unwrap() };
        room.write(authority);
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces one file as whoever renews certificates does.
    fn put(&self, name: &str, content: &str) {
        fs::write(self.path("new"), content).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn write(&self, authority: &Authority) {
        let Pair { certificate, key } = authority.client();
        self.put("ca.pem", &authority.pem);
        self.put("cert.pem", &certificate);
        self.put("key.pem", &key);
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { ca: Some(self.path("ca.pem")), client: Some((self.path("cert.pem"), self.path("key.pem"))) }
    }
}

/// What a look finds: nothing, something to use, or an error's text.
fn look(certificates: &mut Certificates) -> Option<Result<(), String>> {
    let endpoint = Endpoint::from_static("https://127.0.0.1:1");
    let changed = certificates.changed(&endpoint, true)?;
    Some(changed.map(drop).map_err(|error| error.to_string()))
}

fn open(room: &Room, every: Duration) -> Result<Certificates, TransportError> {
    let endpoint = Endpoint::from_static("https://127.0.0.1:1");
    Certificates::open(&room.files(), every, &endpoint).map(|(certificates, _)| certificates)
}

#[test]
fn only_other_bytes_are_a_change() {
    let authority = Authority::new();
    let room = Room::new(&authority);
    let mut certificates = open(&room, Duration::ZERO).unwrap();
    assert_eq!(look(&mut certificates), None);
    room.put("ca.pem", &authority.pem);
    assert_eq!(look(&mut certificates), None, "the same bytes in another inode");
    room.write(&authority);
    assert_eq!(look(&mut certificates), Some(Ok(())));
    assert_eq!(look(&mut certificates), None);
}

#[test]
fn what_cannot_be_used_is_told_once_with_its_file() {
    let authority = Authority::new();
    let room = Room::new(&authority);
    let (ca, certificate) = (authority.pem.clone(), fs::read_to_string(room.path("cert.pem")).unwrap());
    let mut certificates = open(&room, Duration::ZERO).unwrap();
    let mut refused = |name: &str, content: &str, names: &str| {
        room.put(name, content);
        let error = look(&mut certificates).unwrap().unwrap_err();
        assert!(error.contains(names), "{error}");
        assert_eq!(look(&mut certificates), None, "told again");
    };
    refused("ca.pem", "", "ca.pem");
    refused("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ca.pem");
    room.put("ca.pem", &ca);
    refused("cert.pem", "half a certif", "cert.pem");
    // A certificate whose key is not there yet.
    refused("cert.pem", &authority.client().certificate, "key.pem");
    fs::remove_file(room.path("cert.pem")).unwrap();
    assert!(look(&mut certificates).unwrap().unwrap_err().contains("cert.pem"));
    room.put("cert.pem", &certificate);
    assert_eq!(look(&mut certificates), None, "what is used is there again");
    room.write(&authority);
    assert_eq!(look(&mut certificates), Some(Ok(())));
}

#[test]
fn files_that_cannot_be_used_do_not_start() {
    let room = Room::new(&Authority::new());
    for (name, content) in [("ca.pem", "no certificate"), ("key.pem", "no key")] {
        let before = fs::read_to_string(room.path(name)).unwrap();
        room.put(name, content);
        let error = open(&room, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        room.put(name, &before);
    }
    fs::remove_file(room.path("key.pem")).unwrap();
    assert!(open(&room, Duration::ZERO).unwrap_err().to_string().ends_with("key.pem"));
    fs::File::create(room.path("key.pem")).unwrap().set_len(2 << 20).unwrap();
    assert!(matches!(open(&room, Duration::ZERO), Err(TransportError::Read { .. })), "it is no key of any size");
}

#[test]
fn files_are_not_looked_at_before_every_call() {
    let authority = Authority::new();
    let room = Room::new(&authority);
    let mut certificates = open(&room, PATIENCE * 100).unwrap();
    room.write(&authority);
    let endpoint = Endpoint::from_static("https://127.0.0.1:1");
    assert!(certificates.changed(&endpoint, false).is_none());
    assert!(certificates.changed(&endpoint, true).is_some(), "but at once after a failure");
}

#[tokio::test]
async fn a_receiver_with_a_new_authority_is_reached_once_the_files_are_there() {
    let (old, new) = (Authority::new(), Authority::new());
    let room = Room::new(&old);
    let receiver = old.receiver("127.0.0.1:0".parse().unwrap()).await;
    let address = receiver.address;
    let mut settings = settings(address);
    settings.endpoint = format!("https://{address}");
    settings.tls = Some(room.files());
    // No look but after a failure.
    settings.tuning.certificates_every = PATIENCE * 100;
    let exporter = start(&settings);
    offer(&exporter, 2);
    assert!(exporter.handle().flush(PATIENCE).await);
    receiver.stop().await;

    let mut receiver = new.receiver(address).await;
    offer(&exporter, 3);
    assert!(!exporter.handle().flush(Duration::ZERO).await);
    let turned_away = exporter.handle().queue.counts_where(|counts| counts.retries >= 2);
    let counts = tokio::time::timeout(PATIENCE, turned_away).await.expect("no attempt was made");
    assert_eq!((counts.exported, counts.pending_spans), (2, 3), "a stranger got spans");

    room.write(&new);
    assert!(exporter.handle().flush(PATIENCE).await);
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.exported, counts.enqueued), (5, 5));
    assert_eq!(receiver.sizes(), [3]);
}

#[tokio::test]
async fn a_broken_pair_keeps_the_one_that_works_and_a_renewed_one_is_used() {
    let authority = Authority::new();
    let room = Room::new(&authority);
    let mut receiver = authority.receiver("127.0.0.1:0".parse().unwrap()).await;
    let mut settings = settings(receiver.address);
    settings.endpoint = format!("https://{}", receiver.address);
    settings.tls = Some(room.files());
    settings.tuning.certificates_every = Duration::ZERO;
    let exporter = start(&settings);
    for content in ["half a certif", &authority.client().certificate] {
        room.put("cert.pem", content);
        offer(&exporter, 1);
        assert!(exporter.handle().flush(PATIENCE).await);
    }
    room.write(&authority);
    offer(&exporter, 1);
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.exported, counts.retries), (3, 0));
    assert_eq!(receiver.sizes(), [1, 1, 1]);
}
