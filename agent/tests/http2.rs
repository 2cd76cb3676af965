//! HTTP/2 as another implementation writes it: two ends of the `h2` crate talk over a pipe, what they write is parsed,
//! and everything that was said must come out, however the bytes are cut.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use inferscope::protocol::http2::{Event, Head, Parser};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Streams of a connection. Their names repeat, so that the tables of the compression are used, and do not fit into them, so
/// that entries are evicted.
const STREAMS: usize = 200;

/// One end of a pipe, of which everything that is written is kept.
struct Tap {
    pipe: DuplexStream,
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(context, into)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<std::io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.pipe).poll_write(context, from))?;
        self.written.lock().unwrap().extend_from_slice(&from[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}

/// What is said on a stream: its head in a few words, its body, and what comes behind.
type Said = BTreeMap<u32, (String, Vec<u8>, String)>;

fn path(n: usize) -> String {
    format!("/v1/{}", n % 7)
}

fn agent(n: usize) -> String {
    format!("agent-{}-{}", n % 90, "x".repeat(n % 90))
}

fn body(n: usize) -> Vec<u8> {
    format!("{{\"n\":{n}}}").repeat(n * n % 4001).into_bytes()
}

/// What both ends wrote, the client's first.
async fn talk() -> [Vec<u8>; 2] {
    let (client_pipe, server_pipe) = tokio::io::duplex(1 << 16);
    let taps = [Arc::default(), Arc::default()];
    let [client, server] = [(client_pipe, &taps[0]), (server_pipe, &taps[1])]
        .map(|(pipe, written)| Tap { pipe, written: Arc::clone(written) });
    let serving = tokio::spawn(async move {
        let mut connection = h2::server::Builder::new().max_frame_size(1 << 16).handshake(server).await.unwrap();
        while let Some(request) = connection.accept().await {
            let (request, mut respond) = request.unwrap();
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut sent = Vec::new();
                while let Some(piece) = body.data().await {
                    let piece: Bytes = piece.unwrap();
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    sent.extend_from_slice(&piece);
                }
                let n = sent.len();
                let status = if n.is_multiple_of(5) { 429 } else { 200 };
                let head = Response::builder().status(status).header("x-queue-time", n).header("set-cookie", "canary");
                let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                stream.send_data(Bytes::from(sent), false).unwrap();
                let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), n.into())]);
                stream.send_trailers(trailers).unwrap();
            });
        }
    });
    let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut answers = Vec::new();
    for n in 0..STREAMS {
        requests = requests.ready().await.unwrap();
        let head = Request::post(format!("https://api.example{}?key=canary", path(n)))
            .header("authorization", "Bearer canary")
            .header("user-agent", agent(n));
        let (answer, mut stream) = requests.send_request(head.body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::from(body(n)), true).unwrap();
        answers.push(tokio::spawn(async move {
            let mut body = answer.await.unwrap().into_body();
            while let Some(piece) = body.data().await {
                body.flow_control().release_capacity(piece.unwrap().len()).unwrap();
            }
            body.trailers().await.unwrap();
        }));
    }
    for answer in answers {
        answer.await.unwrap();
    }
    drop(requests);
    connection.await.unwrap().unwrap();
    serving.await.unwrap();
    taps.map(|tap| std::mem::take(&mut *tap.lock().unwrap()))
}

fn parse(mut parser: Parser, bytes: &[u8], cut: usize) -> Said {
    let mut said = Said::new();
    for piece in bytes.chunks(cut) {
        parser.push(piece, &mut |event| match event {
            Event::Head { stream, head } => {
                let entry = said.entry(stream).or_default();
                match *head {
                    Head::Request(head) => {
                        let agent = head.headers.user_agent.unwrap_or_default();
                        entry.0 = format!("{} {} {} {agent}", head.method, head.host.unwrap_or_default(), head.path);
                    }
                    Head::Response(head) => entry.0 = format!("{} {:?}", head.status, head.headers.signals),
                    Head::Trailers(headers) => entry.2 = format!("{:?}", headers.signals),
                }
            }
            Event::Data { stream, bytes } => said.get_mut(&stream).unwrap().1.extend_from_slice(bytes),
            Event::End { .. } | Event::Allows { .. } | Event::GoAway { .. } => {}
            other => panic!("{other:?}"),
        });
    }
    said
}

#[tokio::test]
async fn what_two_other_ends_say_is_what_is_understood() {
    let [client, server] = talk().await;
    for cut in [usize::MAX, 16_384, 1_460, 7, 1] {
        let asked = parse(Parser::requests(), &client, cut);
        let answered = parse(Parser::responses(), &server, cut);
        assert_eq!((asked.len(), answered.len()), (STREAMS, STREAMS));
        for (n, (stream, said)) in asked.into_iter().enumerate() {
            let head = format!("POST api.example {} {}", path(n), agent(n));
            assert_eq!(said, (head, body(n), String::new()));
            let len = body(n).len();
            let status = if len.is_multiple_of(5) { 429 } else { 200 };
            let head = format!("{status} [(\"x-queue-time\", \"{len}\")]");
            let trailers = format!("[(\"grpc-status\", \"{len}\")]");
            assert_eq!(answered[&stream], (head, body(n), trailers));
        }
    }
}

/// From any of its frames on, no head has a value that was not said on its stream.
#[tokio::test]
async fn nothing_that_is_understood_of_a_part_is_wrong() {
    let [client, server] = talk().await;
    for (is_request, bytes) in [(true, client), (false, server)] {
        let whole = if is_request { Parser::requests() } else { Parser::responses() };
        let truth = parse(whole, &bytes, usize::MAX);
        let mut at = if is_request { 24 } else { 0 };
        let mut joined = 0;
        while at < bytes.len() {
            // A tenth of all frames: each is a parse of the rest.
            if joined % 10 == 0 {
                let mut heads = 0;
                Parser::join(is_request).push(&bytes[at..], &mut |event| {
                    let Event::Head { stream, head } = event else { return };
                    let truth = &truth[&stream].0;
                    let words = match *head {
                        Head::Request(head) => [head.method, head.path, head.headers.user_agent.unwrap_or_default()],
                        Head::Response(head) if head.status != 0 => {
                            [head.status.to_string(), String::new(), String::new()]
                        }
                        _ => return,
                    };
                    heads += 1;
                    let known = words.iter().filter(|word| !word.is_empty());
                    known.for_each(|word| {
                        assert!(truth.split(' ').any(|said| said == word), "{word} is not in {truth}")
                    });
                });
                // Where heads stand among the rest depends on who was faster.
                assert!(heads > 0 || joined > 0, "nothing was understood from the beginning on");
            }
            joined += 1;
            at += 9 + u32::from_be_bytes([0, bytes[at], bytes[at + 1], bytes[at + 2]]) as usize;
        }
    }
}
