//! The clients: start calls by schedule and compare every byte of the answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use openssl::ssl::SslConnector;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Handle,
};

use super::{
    order::{Driven, Load},
    schedule::Schedule,
    slices::Slices,
    tls::{self, Socket},
    wire::{Answer, Check, request},
};

/// How long a call may take beyond its schedule before it counts as failed: a machine can be slow, and a hang must end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Failures that are told; more of the same say nothing new.
const MAX_FAILURES: usize = 5;

/// Connections that serve nobody at the moment.
pub type Idle = Mutex<Vec<Box<dyn Socket>>>;

/// Where the server is and how it is called.
#[derive(Clone)]
pub struct Target {
    /// Without TLS.
    pub http: SocketAddr,
    /// With TLS.
    pub https: SocketAddr,
    /// Whom to trust there.
    pub connector: SslConnector,
    /// Connections that are open and serve nobody, plain and TLS. They outlive a run: a program that streams has had its
    /// handshakes long ago, and what handshakes cost is a question of its own.
    pub idle: Arc<[Idle; 2]>,
}

impl Target {
    fn idle(&self, tls: bool) -> MutexGuard<'_, Vec<Box<dyn Socket>>> {
        self.idle[usize::from(tls)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run.
struct Run {
    target: Target,
    load: Load,
    under_way: AtomicU64,
    peak: AtomicU64,
    slices: Slices,
    told: Mutex<Driven>,
}

/// Carries out a run of calls.
pub async fn drive(target: &Target, load: Load) -> Result<Driven> {
    let run = Arc::new(Run {
        target: target.clone(),
        load,
        under_way: AtomicU64::new(0),
        peak: AtomicU64::new(0),
        slices: Slices::default(),
        told: Mutex::default(),
    });
    run.slices.take();
    let slicer = tokio::spawn({
        let run = Arc::clone(&run);
        async move { run.slices.run().await }
    });
    let began = Instant::now();
    let calls = start_by_schedule(&run, began).await?;
    for call in calls {
        call.await?;
    }
    let wall_ns = began.elapsed().as_nanos() as u64;
    slicer.abort();
    let told = std::mem::take(&mut *run.told.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Driven { peak: run.peak.load(Ordering::Relaxed), wall_ns, slices: run.slices.take(), ..told })
}

/// Starts every call when it is due. A thread of its own sleeps for that: the runtime's timer has steps of a
/// millisecond, and a busy runtime would start calls late.
async fn start_by_schedule(run: &Arc<Run>, began: Instant) -> Result<Vec<tokio::task::JoinHandle<()>>> {
    let (handle, run) = (Handle::current(), Arc::clone(run));
    let metronome = thread::Builder::new().name("metronome".into()).spawn(move || {
        let schedule = Schedule::new(run.load.calls, run.load.interval_ns);
        let mut calls = Vec::new();
        while let Some(due) = schedule.due(calls.len() as u64) {
            let due = began + Duration::from_nanos(due);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            calls.push(handle.spawn(Arc::clone(&run).call(run.load.first_call + calls.len() as u64, due)));
        }
        calls
    })?;
    let joined = tokio::task::spawn_blocking(move || metronome.join()).await?;
    joined.map_err(|_| anyhow::anyhow!("the metronome panicked"))
}

impl Run {
    async fn call(self: Arc<Self>, call: u64, due: Instant) {
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
        let patience = PATIENCE + Duration::from_nanos(self.load.shape.duration_ns());
        let result = tokio::time::timeout(patience, self.exchange(call, due)).await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.slices.on_call();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match result.unwrap_or_else(|_| Err(anyhow::anyhow!("no end within {patience:?}"))) {
            Ok((first, last)) => {
                told.completed += 1;
                told.latency_ns.push((last - due).as_nanos() as u64);
                if self.load.shape.stream {
                    told.ttft_ns.push((first - due).as_nanos() as u64);
                }
            }
            Err(error) if told.failures.len() < MAX_FAILURES => told.failures.push(format!("call {call}: {error:#}")),
            Err(_) => {}
        }
    }

    /// Times of the first content and of the last byte.
    async fn exchange(&self, call: u64, due: Instant) -> Result<(Instant, Instant)> {
        let shape = self.load.shape;
        let idle = if self.load.keep_alive { self.target.idle(self.load.tls).pop() } else { None };
        let mut socket = match idle {
            Some(socket) => socket,
            None => self.connect().await?,
        };
        socket.write_all(&request(call, &shape)).await?;
        let mut check = Check::new(Answer::new(call, shape));
        let mut buffer = vec![0; 16 << 10];
        let (mut first, mut seen) = (due, 0);
        while !check.is_complete() {
            let n = socket.read(&mut buffer).await?;
            if n == 0 {
                bail!("the server left in the middle of an answer");
            }
            let had_content = check.has_content();
            check.take(&buffer[..n]).map_err(anyhow::Error::msg)?;
            if check.has_content() && !had_content {
                first = Instant::now();
            }
            let chunks = check.n_content(shape.chunks);
            self.slices.on_chunks(chunks - seen);
            seen = chunks;
        }
        let last = Instant::now();
        if self.load.keep_alive {
            self.target.idle(self.load.tls).push(socket);
        }
        Ok((first, last))
    }

    async fn connect(&self) -> Result<Box<dyn Socket>> {
        let address = if self.load.tls { self.target.https } else { self.target.http };
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        if self.load.tls { tls::connect(&self.target.connector, socket).await } else { Ok(Box::new(socket)) }
    }
}
