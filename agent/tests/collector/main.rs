//! The collector as its senders see it: over real connections, with the protocol's own messages.
//!
//! The agents here are simulated: they speak `inferscope.v1.Ship` and hold their items in memory.

mod agent;
mod fleet;
mod hostile;
mod ship;
mod strangers;

use std::{net::SocketAddr, path::Path, time::Duration};

use inferscope::collector::{Collector, CollectorSettings, store::Filter};

/// Nothing here takes longer unless it hangs.
const SOON: Duration = Duration::from_secs(60);

/// A time at which calls are said to have been made, nanoseconds since the Unix epoch.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_nanos() as u64
}

fn settings(dir: &Path) -> CollectorSettings {
    CollectorSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ui: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: dir.to_owned(),
        tls: None,
        plaintext: false,
        tokens: None,
        keep: Duration::from_secs(86_400),
        keep_content: Duration::from_secs(86_400),
        max_bytes: 1 << 30,
    }
}

async fn start(settings: &CollectorSettings) -> Collector {
    Collector::start(settings).await.unwrap()
}

/// Calls that are stored, from the totals that are kept of them.
fn stored(collector: &Collector) -> u64 {
    let hour = 3_600_000_000_000;
    let now = now() as i64;
    let filter = Filter { from: Some(now - hour), to: Some(now + hour), ..Filter::default() };
    collector.store().reader().aggregate(&filter, &[], None).unwrap().rows.iter().map(|row| row.calls).sum()
}

/// Calls that are stored, one by one.
fn listed(collector: &Collector) -> Vec<(String, String)> {
    let reader = collector.store().reader();
    let (mut calls, mut cursor) = (Vec::new(), None);
    loop {
        let page = reader.calls(&Filter::default(), 1000, cursor.as_deref()).unwrap();
        calls.extend(page.calls.into_iter().map(|call| (call.trace_id, call.span_id)));
        cursor = page.next;
        if cursor.is_none() {
            return calls;
        }
    }
}
