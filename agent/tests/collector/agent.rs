//! A simulated agent: what it has, and one stream of it.

use std::{net::SocketAddr, time::Duration};

use inferscope_proto::{
    Message as _,
    otlp::{
        common::{AnyValue, KeyValue, any_value::Value},
        resource::Resource,
        trace::{Span, Status as SpanStatus, span::SpanKind, status::StatusCode},
    },
    v1::{
        Ack, AgentMessage, Batch, CollectorMessage, Gap, Hello, Item, ItemKind, Welcome,
        agent_message::Message as ToCollector, collector_message::Message as FromCollector, ship_client::ShipClient,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};

use super::{SOON, now};

/// A stream after its Welcome.
pub struct Stream {
    out: mpsc::Sender<AgentMessage>,
    inbound: Streaming<CollectorMessage>,
    pub welcome: Welcome,
}

impl Stream {
    /// Opens one over `channel`.
    pub async fn over(channel: Channel, hello: Hello, token: Option<&str>) -> Result<Self, Status> {
        let (out, messages) = mpsc::channel(64);
        out.send(AgentMessage { message: Some(ToCollector::Hello(hello)) }).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(token) = token {
            let token = AsciiMetadataValue::try_from(format!("Bearer {token}")).unwrap();
            request.metadata_mut().insert("authorization", token);
        }
        let mut inbound = ShipClient::new(channel).stream(request).await?.into_inner();
        let first = timeout(SOON, inbound.message()).await.expect("no Welcome")?;
        match first.and_then(|message| message.message) {
            Some(FromCollector::Welcome(welcome)) => Ok(Self { out, inbound, welcome }),
            other => panic!("no Welcome but {other:?}"),
        }
    }

    /// Opens one to a collector that is not encrypted.
    pub async fn open(address: SocketAddr, hello: Hello) -> Result<Self, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let endpoint = endpoint.connect_timeout(Duration::from_secs(10));
        let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Self::over(channel, hello, None).await
    }

    pub async fn send(&self, batch: Batch) -> bool {
        self.out.send(AgentMessage { message: Some(ToCollector::Batch(batch)) }).await.is_ok()
    }

    /// The next acknowledgement, or how the stream ended; `None` for well.
    pub async fn ack(&mut self) -> Result<Option<Ack>, Status> {
        let message = timeout(SOON, self.inbound.message()).await.expect("nothing was acknowledged")?;
        match message.and_then(|message| message.message) {
            Some(FromCollector::Ack(ack)) => Ok(Some(ack)),
            None => Ok(None),
            Some(FromCollector::Welcome(_)) => panic!("a second Welcome"),
        }
    }

    /// Waits until everything up to a seq is acknowledged.
    pub async fn acked(&mut self, through: u64) -> Result<Ack, Status> {
        loop {
            let ack = self.ack().await?.expect("the stream ended before all was acknowledged");
            if ack.durable_through >= through {
                return Ok(ack);
            }
        }
    }

    /// Closes the agent's side, and gives how the stream ends.
    pub async fn close(self) -> Result<(), Status> {
        let Self { out, mut inbound, .. } = self;
        drop(out);
        while timeout(SOON, inbound.message()).await.expect("the stream did not end")?.is_some() {}
        Ok(())
    }
}

/// What an agent says first.
pub fn hello(agent_id: &str, epoch: u8, next_seq: u64) -> Hello {
    let host = AnyValue { value: Some(Value::StringValue(agent_id.to_owned())) };
    let host = KeyValue { key: "host.name".to_owned(), value: Some(host), ..KeyValue::default() };
    Hello {
        version: 1,
        agent_id: agent_id.to_owned(),
        epoch: vec![epoch; 16].into(),
        oldest_seq: 1,
        next_seq,
        resource: Resource { attributes: vec![host], ..Resource::default() }.encode_to_vec().into(),
        scope: Default::default(),
        time_unix_nano: now(),
        boot_time_nano: 1,
        agent_version: "0".to_owned(),
    }
}

/// The item that an agent has under a seq: always the same bytes.
pub fn item(agent: u32, seq: u64, at: u64) -> Item {
    let text = |key: &str, text: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) }),
        ..KeyValue::default()
    };
    let number = |key: &str, number: i64| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::IntValue(number)) }),
        ..KeyValue::default()
    };
    let id = (u128::from(agent) << 64 | u128::from(seq)) + (1 << 120);
    let span = Span {
        trace_id: id.to_be_bytes().to_vec(),
        span_id: (u64::from(agent) << 32 | seq).to_be_bytes().to_vec(),
        name: "chat m".to_owned(),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: at + seq,
        end_time_unix_nano: at + seq + 1_000_000,
        status: Some(SpanStatus { code: StatusCode::Ok.into(), message: String::new() }),
        attributes: vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", "openai"),
            text("gen_ai.request.model", "m"),
            number("gen_ai.usage.output_tokens", 3),
        ],
        ..Span::default()
    };
    let payload = bytes::Bytes::from(span.encode_to_vec());
    Item { seq, kind: ItemKind::Span.into(), crc32c: crc32c::crc32c(&payload), payload }
}

/// A batch of an agent's items.
pub fn batch(agent: u32, seqs: std::ops::RangeInclusive<u64>, at: u64) -> Batch {
    let items = seqs.clone().map(|seq| item(agent, seq, at)).collect();
    Batch { first_seq: *seqs.start(), last_seq: *seqs.end(), items, gaps: Vec::new() }
}

/// A batch that has a gap and nothing else.
pub fn gap(seqs: std::ops::RangeInclusive<u64>, reason: i32) -> Batch {
    let (first_seq, last_seq) = (*seqs.start(), *seqs.end());
    Batch { first_seq, last_seq, items: Vec::new(), gaps: vec![Gap { first_seq, last_seq, reason }] }
}
