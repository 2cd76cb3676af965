//! The endpoint over real connections.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use super::{Bounds, PrometheusServer};
use crate::{
    export::{
        span::Span,
        testing::{ANCHOR, chat},
    },
    metrics::Metrics,
};

/// Longer than anything here takes: a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(bounds: Bounds) -> PrometheusServer {
    let metrics = Metrics::new(ANCHOR);
    metrics.on_call(&Span::from_call(&chat(), ANCHOR));
    let resource = vec![("service.name".to_owned(), "inferscope".to_owned())];
    PrometheusServer::start_within("127.0.0.1:0".parse().unwrap(), metrics, resource, bounds).await.unwrap()
}

/// What comes back for `request` until the server closes; nothing if it closes without an answer.
async fn ask(server: &PrometheusServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    // A server that refuses a request may close before it has read it.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    let _ = read.await.expect("the server does not close");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn metrics_and_health_and_nothing_else() {
    let server = start(Bounds::default()).await;
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n{more}\r\n");
    let answer = ask(&server, &get("/metrics", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("\ntarget_info{service_name=\"inferscope\"} 1\n"), "{answer}");
    assert!(answer.contains("\ngen_ai_client_operation_duration_seconds_count{"), "{answer}");

    let answer = ask(&server, &get("/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n")).await;
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("# EOF\n"), "{answer}");

    assert!(ask(&server, &get("/healthz", "")).await.ends_with("\r\n\r\nok\n"));
    assert!(ask(&server, &get("/", "")).await.starts_with("HTTP/1.1 404 "));
    let post = "POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    assert!(ask(&server, post).await.starts_with("HTTP/1.1 405 "));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = start(Bounds::default()).await;
    let header = format!("X-Much: {}\r\n", "x".repeat(64 << 10));
    let answer = ask(&server, &format!("GET /metrics HTTP/1.1\r\nHost: h\r\n{header}\r\n")).await;
    assert!(!answer.contains(" 200 ") && !answer.contains("gen_ai"), "{answer}");
    assert!(ask(&server, "no HTTP at all\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    assert!(ask(&server, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await.ends_with("ok\n"), "it goes on");
}

#[tokio::test]
async fn a_connection_has_its_time_and_others_wait_for_its_place() {
    let bounds = Bounds { connections: 1, head: Duration::from_millis(300), ..Bounds::default() };
    let server = start(bounds).await;
    let (ends, mut order) = mpsc::unbounded_channel();
    let slow = async {
        let answer = ask(&server, "GET /metrics HTTP/1.1\r\nHost: h\r\n").await;
        assert!(!answer.contains("gen_ai"), "{answer}");
        ends.send("slow").unwrap();
    };
    let quick = async {
        assert!(ask(&server, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await.ends_with("ok\n"));
        ends.send("quick").unwrap();
    };
    // Polled in this order: the slow one connects first.
    tokio::join!(biased; slow, quick);
    assert_eq!((order.recv().await, order.recv().await), (Some("slow"), Some("quick")));
}

#[tokio::test]
async fn whoever_does_not_read_is_given_up() {
    let bounds = Bounds { connections: 1, whole: Duration::from_millis(300), ..Bounds::default() };
    let server = start(bounds).await;
    // It asks, and neither reads nor closes: its answer fits the kernel's buffers, but its request never ends.
    let mut idle = TcpStream::connect(server.address()).await.unwrap();
    idle.write_all(b"POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n").await.unwrap();
    assert!(ask(&server, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await.ends_with("ok\n"));
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_so() {
    let server = start(Bounds::default()).await;
    let again = PrometheusServer::start(server.address(), Metrics::new(ANCHOR), Vec::new()).await;
    let error = anyhow::Error::from(again.unwrap_err());
    let expect = format!("export.prometheus: cannot listen on {}: Address already in use", server.address());
    assert!(format!("{error:#}").starts_with(&expect), "{error:#}");
}

#[tokio::test]
async fn a_server_that_is_dropped_lets_go_of_its_port_and_of_the_metrics() {
    let metrics = Metrics::new(ANCHOR);
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = PrometheusServer::start(listen, Arc::clone(&metrics), Vec::new()).await.unwrap();
    let address = server.address();
    drop(server);
    let again = async {
        loop {
            match PrometheusServer::start(address, Arc::clone(&metrics), Vec::new()).await {
                Ok(server) => return server,
                // The task that was aborted ends when the runtime comes to it.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let server = tokio::time::timeout(PATIENCE, again).await.expect("the port is not free");
    assert_eq!(server.address(), address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn curl_reads_it() {
    if !Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no curl");
        return;
    }
    let server = start(Bounds::default()).await;
    let curl = |arguments: &[&str], path: &str| {
        let url = format!("http://{}{path}", server.address());
        let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).arg(url).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(curl(&[], "/metrics").contains("\ngen_ai_client_token_usage_sum{"));
    assert!(curl(&["-H", "Accept: application/openmetrics-text"], "/metrics").ends_with("# EOF\n"));
    assert!(curl(&["-I"], "/metrics").starts_with("HTTP/1.1 200 OK"));
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE"], "/metrics"), "405");
}
