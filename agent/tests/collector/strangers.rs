//! Who may not, and what is no protocol at all.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use inferscope::collector::{CollectorSettings, ServerFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    SOON,
    agent::{Stream, batch, hello},
    now, settings, start, stored,
};

/// An authority with a certificate for the collector.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `name`, and its key.
    fn signed(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Settings of a collector that knows agents by this authority.
    fn settings(&self, dir: &Path) -> CollectorSettings {
        let (certificate, key) = self.signed("localhost");
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let tls = ServerFiles {
            certificate: write("server.pem", &certificate),
            key: write("server.key", &key),
            client_ca: Some(write("ca.pem", &self.pem())),
        };
        CollectorSettings { tls: Some(tls), ..settings(&dir.join("data")) }
    }
}

async fn open(
    collector: &inferscope::collector::Collector,
    authority: &Authority,
    identity: Option<(String, String)>,
    agent_id: &str,
    token: Option<&str>,
) -> Result<Stream, tonic::Status> {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", collector.listen())).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect().await.map_err(|error| tonic::Status::unavailable(format!("{error:?}")))?;
    Stream::over(channel, hello(agent_id, 1, 100), token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_who_its_certificate_names() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("fleet");
    let collector = start(&authority.settings(dir.path())).await;
    let mut own = open(&collector, &authority, Some(authority.signed("gpu-1")), "gpu-1", None).await.unwrap();
    own.send(batch(1, 1..=3, now())).await;
    own.acked(3).await.unwrap();
    let others = open(&collector, &authority, Some(authority.signed("gpu-1")), "gpu-2", None).await;
    assert_eq!(others.map(|_| ()).unwrap_err().code(), Code::PermissionDenied);
    // Signed by somebody else: no connection at all.
    let stranger = Authority::new("stranger");
    assert!(open(&collector, &authority, Some(stranger.signed("gpu-1")), "gpu-1", None).await.is_err());
    // A wrong token is refused even where none is needed.
    let wrong = open(&collector, &authority, None, "gpu-3", Some("not-a-token-of-anybody")).await;
    assert_eq!(wrong.map(|_| ()).unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(stored(&collector), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_ends_its_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    let mut stream = Stream::open(collector.listen(), hello("a", 1, 100)).await.unwrap();
    let garbage: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 4096],
        b"",
    ];
    for bytes in garbage {
        for address in [collector.listen(), collector.ui()] {
            let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
            // It may be closed before all of it is written.
            let _ = socket.write_all(bytes).await;
            let _ = socket.shutdown().await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(SOON, socket.read_to_end(&mut answer)).await.expect("it was left open");
        }
    }
    stream.send(batch(1, 1..=5, now())).await;
    stream.acked(5).await.unwrap();
    assert_eq!(stored(&collector), 5);
}

/// Sends a request to the page's address; the answer's head and body.
async fn ask(
    collector: &inferscope::collector::Collector,
    path: &str,
    token: Option<&str>,
) -> (u16, serde_json::Value) {
    let mut socket = tokio::net::TcpStream::connect(collector.ui()).await.unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{token}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, socket.read_to_string(&mut answer)).await.expect("no answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_have_answers_and_content_takes_a_token_and_leaves_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens.toml");
    fs::write(
        &tokens,
        "[[token]]\nname = \"eve\"\nrole = \"content\"\ntoken = \"cccccccccccccccc\"\n\
         [[token]]\nname = \"gpu\"\nrole = \"agent\"\ntoken = \"aaaaaaaaaaaaaaaa\"\n",
    )
    .unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    let collector = start(&CollectorSettings { tokens: Some(tokens), ..settings(&dir.path().join("data")) }).await;
    let mut stream = Stream::open(collector.listen(), hello("a", 1, 100)).await.unwrap();
    stream.send(batch(1, 1..=5, now())).await;
    stream.acked(5).await.unwrap();
    let (status, calls) = ask(&collector, "/api/v1/calls?limit=2&model=m&status=ok", None).await;
    assert_eq!((status, calls["calls"].as_array().unwrap().len()), (200, 2));
    let cursor = calls["next"].as_str().unwrap();
    let (_, rest) = ask(&collector, &format!("/api/v1/calls?limit=9&cursor={cursor}"), None).await;
    assert_eq!((rest["calls"].as_array().unwrap().len(), rest["next"].is_null()), (3, true));
    let call = &calls["calls"][0];
    let path = format!("/api/v1/calls/{}/{}", call["trace_id"].as_str().unwrap(), call["span_id"].as_str().unwrap());
    let (status, whole) = ask(&collector, &path, None).await;
    assert_eq!((status, &whole["attributes"]["gen_ai.usage.output_tokens"]), (200, &3.into()));
    for path in ["/api/v1/agents", "/api/v1/ledger", "/api/v1/gpus", "/api/v1/summary", "/api/v1/logs", "/api/v1/audit"]
    {
        assert_eq!(ask(&collector, path, None).await.0, 200, "{path}");
    }
    for (path, token, status) in [
        ("/api/v1/calls?modle=m", None, 400),
        ("/api/v1/calls?status=fine", None, 400),
        ("/api/v1/calls?limit=many", None, 400),
        ("/api/v1/aggregate?from=0&to=1&by=prompt", None, 400),
        ("/api/v1/calls/xx/yy", None, 400),
        ("/api/v1/calls/00000000000000000000000000000000/0000000000000000", None, 404),
        ("/api/v1/nothing", None, 404),
        ("/api/v1/calls", Some("not-a-token-of-anybody"), 401),
        ("/api/v1/calls", Some("aaaaaaaaaaaaaaaa"), 403),
    ] {
        assert_eq!(ask(&collector, path, token).await.0, status, "{path}");
    }
    let content = format!("{path}/content");
    assert_eq!(ask(&collector, &content, None).await.0, 403);
    // Nothing is stored of it, but that somebody looked is.
    assert_eq!(ask(&collector, &content, Some("cccccccccccccccc")).await.0, 404);
    let (_, audit) = ask(&collector, "/api/v1/audit", None).await;
    assert_eq!((audit[0]["who"].as_str(), audit.as_array().unwrap().len()), (Some("eve"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_loopback_address_everything_is_encrypted_and_takes_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let any = "0.0.0.0:0".parse().unwrap();
    let collector = start(&CollectorSettings { listen: any, ui: any, ..settings(dir.path()) }).await;
    let (certificate, tokens) = (collector.certificate().unwrap(), collector.tokens().unwrap());
    assert_eq!(fs::metadata(tokens).unwrap().permissions().mode() & 0o777, 0o600);
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(fs::read(certificate).unwrap()))
        .domain_name("localhost");
    let endpoint = format!("https://127.0.0.1:{}", collector.listen().port());
    let endpoint = Endpoint::from_shared(endpoint).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let refused = Stream::over(channel.clone(), hello("a", 1, 9), None).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let text = fs::read_to_string(tokens).unwrap();
    let token = text.lines().find_map(|line| line.strip_prefix("token = ")).unwrap().trim_matches('"');
    let mut stream = Stream::over(channel, hello("a", 1, 9), Some(token)).await.unwrap();
    stream.send(batch(1, 1..=2, now())).await;
    stream.acked(2).await.unwrap();
}
