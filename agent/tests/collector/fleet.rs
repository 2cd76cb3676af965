//! A thousand agents at one collector.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    SOON,
    agent::{Stream, batch, hello},
    listed, now, settings, start, stored,
};

/// Agents. Each has a connection of its own.
const AGENTS: u32 = 1000;

/// Items of each.
const ITEMS: u64 = 40;

/// Items of a batch.
const BATCH: u64 = 8;

/// One agent, until all that it has is acknowledged. `address` changes when the collector is started anew.
async fn deliver(number: u32, at: u64, mut address: watch::Receiver<SocketAddr>, acknowledged: Arc<AtomicU64>) {
    let id = format!("agent-{number}");
    let mut wait = 1;
    loop {
        let to = *address.borrow_and_update();
        match stream(number, &id, at, to, &acknowledged).await {
            Ok(()) => return,
            Err(_) => {
                // Each waits for itself, so that they do not all come at once.
                tokio::time::sleep(Duration::from_millis(wait + u64::from(number) % 37)).await;
                wait = (wait * 2).min(200);
            }
        }
    }
}

async fn stream(number: u32, id: &str, at: u64, to: SocketAddr, acknowledged: &AtomicU64) -> Result<(), tonic::Status> {
    let mut stream = Stream::open(to, hello(id, 7, ITEMS + 1)).await?;
    let mut through = stream.welcome.durable_through;
    let mut sent = through;
    let mut credit = stream.welcome.credit_bytes;
    while through < ITEMS {
        while sent < ITEMS && credit > 0 {
            let last = (sent + BATCH).min(ITEMS);
            let batch = batch(number, sent + 1..=last, at);
            let size = inferscope_proto::Message::encoded_len(&batch) as u64;
            if size > credit || !stream.send(batch).await {
                break;
            }
            (sent, credit) = (last, credit - size);
        }
        let Some(ack) = stream.ack().await? else { return Err(tonic::Status::unavailable("it ended")) };
        assert!((through..=sent).contains(&ack.durable_through), "{ack:?}: {through} to {sent} were sent");
        assert!(ack.rejected.is_empty(), "{ack:?}");
        acknowledged.fetch_add(ack.durable_through - through, Ordering::Relaxed);
        (through, credit) = (ack.durable_through, credit + ack.credit_bytes);
    }
    stream.close().await
}

/// All agents at once, and again after the collector went away twice in the middle: each item is stored once.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_agents_and_two_restarts_lose_nothing_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let mut collector = start(&settings).await;
    let (to, address) = watch::channel(collector.listen());
    let (at, acknowledged) = (now(), Arc::new(AtomicU64::new(0)));
    let agents: Vec<_> = (0..AGENTS)
        .map(|number| tokio::spawn(deliver(number, at, address.clone(), Arc::clone(&acknowledged))))
        .collect();
    let all = u64::from(AGENTS) * ITEMS;
    for part in [all / 4, all / 2] {
        tokio::time::timeout(SOON, async {
            while acknowledged.load(Ordering::Relaxed) < part {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the agents do not get on");
        collector.shutdown(Duration::from_millis(200)).await.unwrap();
        collector = start(&settings).await;
        to.send_replace(collector.listen());
    }
    for agent in agents {
        tokio::time::timeout(SOON, agent).await.expect("an agent did not come to its end").unwrap();
    }
    assert_eq!(stored(&collector), all);
    let mut listed = listed(&collector);
    assert_eq!(listed.len() as u64, all);
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(listed.len() as u64, all);
    let agents = collector.store().reader().agents().unwrap();
    assert_eq!(agents.len(), AGENTS as usize);
    assert!(agents.iter().all(|agent| agent.epochs[0].durable_through == ITEMS as i64 && agent.gaps.is_empty()));
    collector.shutdown(SOON).await.unwrap();
}
