//! The front's process: the engine core that it starts, its sockets, and how it all ends.
//!
//! It listens when the workers have loaded, as engines do. It ends well when it is told to by SIGTERM, and in an error
//! when the core ends before: requests are told, and their connections closed.

use std::{
    fs,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        TcpListener, TcpSocket, TcpStream, UnixListener,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    child,
    engine_core::SOCKET,
    front::{Front, MAX_IN_FLIGHT},
    message::{FromCore, Setup, ToCore, line},
    timeline::bury,
    truth::{PIDS, Pids},
};
use crate::gpu::timeline::ENV;

/// The line on standard output that says that the engine serves.
pub const READY: &str = "mock-engine: ready";

/// How long requests and connections may take to end when the engine does.
const GRACE: Duration = Duration::from_secs(2);

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// What an engine is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Name of the served model.
    pub model: String,
    /// Go on generating for clients that have gone.
    pub ignore_disconnect: bool,
    /// For the core and the workers.
    pub setup: Setup,
}

/// The front's life.
pub fn run(options: Options) -> Result<()> {
    let Setup { dir, workers, devices, rate_scale, .. } = &options.setup;
    ensure!(!devices.is_empty() && *workers >= devices.len(), "every device needs a worker");
    ensure!(rate_scale.is_finite() && *rate_scale > 0.0, "the rate's scale must be a positive number");
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join(SOCKET);
    // One of an engine that is gone.
    let _none = fs::remove_file(&path);
    let socket = std::os::unix::net::UnixListener::bind(&path);
    let socket = socket.with_context(|| format!("cannot listen on {}", path.display()))?;
    socket.set_nonblocking(true)?;
    // From here, the main thread: the kernel ends the core with the thread that started it.
    let mut core = child::start("core", &options.setup, Stdio::null())?;
    let pid = core.id();
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async move {
        let ended = tokio::task::spawn_blocking(move || core.wait());
        serve(options, UnixListener::from_std(socket)?, pid, ended).await
    })
}

type Ended = JoinHandle<io::Result<ExitStatus>>;

async fn serve(options: Options, socket: UnixListener, core: u32, mut ended: Ended) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    // The port is taken at once, and answers when there is somebody to.
    let address = SocketAddr::from((options.host, options.port));
    let tcp = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    tcp.set_reuseaddr(true)?;
    tcp.bind(address).with_context(|| format!("cannot bind {address}"))?;

    let (mut messages, workers, to) = tokio::select! {
        met = meet(&socket) => met?,
        status = &mut ended => bail!("the engine core ended before it was ready: {}", status??),
        // Dropping its socket ends it.
        _ = terminate.recv() => return Ok(()),
    };
    let listener = tcp.listen(BACKLOG)?;
    let Setup { dir, devices, .. } = &options.setup;
    let devices = devices.iter().copied().cycle().take(workers.len()).collect();
    let port = listener.local_addr()?.port();
    let pids = Pids { front: std::process::id(), core, workers, devices, port };
    write(&dir.join(PIDS), &serde_json::to_vec(&pids)?)?;

    let (to_core, from_front) = mpsc::channel(MAX_IN_FLIGHT);
    let writer = tokio::spawn(write_core(to, from_front));
    let front = Arc::new(Front::new(pids, options.model, options.ignore_disconnect, dir, to_core.clone())?);
    let connections = Connections::default();
    {
        let mut out = io::stdout().lock();
        writeln!(out, "{READY}")?;
        out.flush()?;
    }
    let told = tokio::select! {
        () = connections.accept(&listener, &front) => false,
        read = read_core(&mut messages, &front) => { read?; false }
        _ = terminate.recv() => true,
    };
    drop(listener);
    if told {
        front.stopping();
        // If it has ended there is nobody to stop.
        let _ended = to_core.send(ToCore::Stop).await;
        read_core(&mut messages, &front).await?;
    }
    // Whoever reads too slowly for it is left behind.
    let _late = timeout(GRACE, front.core_ended()).await;
    connections.close().await;
    writer.abort();
    let status = ended.await??;
    if told && status.success() {
        return Ok(());
    }
    if let Some(path) = std::env::var_os(ENV) {
        bury(&PathBuf::from(path), &front.pids.on_devices())?;
    }
    bail!("the engine core ended: {status}")
}

/// The core connects, and says when its workers have loaded.
async fn meet(socket: &UnixListener) -> Result<(Lines<BufReader<OwnedReadHalf>>, Vec<u32>, OwnedWriteHalf)> {
    let (from, to) = socket.accept().await?.0.into_split();
    let mut messages = BufReader::new(from).lines();
    match messages.next_line().await? {
        Some(line) => match serde_json::from_str(&line)? {
            FromCore::Ready { workers } => Ok((messages, workers, to)),
            other => bail!("the engine core said {other:?} before it was ready"),
        },
        // Its exit tells why, and is on its way.
        None => std::future::pending().await,
    }
}

/// Hands on what the core says until it has ended.
async fn read_core(messages: &mut Lines<BufReader<OwnedReadHalf>>, front: &Front) -> Result<()> {
    loop {
        match messages.next_line().await {
            Ok(Some(line)) => front.on_core(serde_json::from_str(&line)?),
            // One that is killed with something unread resets the socket.
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}

async fn write_core(mut to: OwnedWriteHalf, mut messages: mpsc::Receiver<ToCore>) {
    while let Some(message) = messages.recv().await {
        let Ok(line) = line(&message) else { continue };
        if to.write_all(&line).await.is_err() {
            // It has ended; who reads from it finds out.
            return;
        }
    }
}

/// Written whole or not at all: whoever waits for the file must not read a half.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

/// The open connections.
struct Connections {
    closing: watch::Sender<bool>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { closing: watch::Sender::new(false) }
    }
}

impl Connections {
    async fn accept(&self, listener: &TcpListener, front: &Arc<Front>) {
        loop {
            // Accepting fails when descriptors run out or a peer has gone already; neither ends the server.
            let Ok((socket, _)) = listener.accept().await else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            // Each token must leave at once, or the pace on the wire is the kernel's and not ours.
            let _unsupported = socket.set_nodelay(true);
            tokio::spawn(connection(socket, Arc::clone(front), self.closing.subscribe()));
        }
    }

    /// Lets each connection write what it has, and closes it.
    async fn close(&self) {
        self.closing.send_replace(true);
        let _late = timeout(GRACE, self.closing.closed()).await;
    }
}

async fn connection(socket: TcpStream, front: Arc<Front>, mut closing: watch::Receiver<bool>) {
    let service = service_fn(move |request| Arc::clone(&front).respond(request));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    // An error is a client that has gone, and its requests know.
    tokio::select! {
        _gone = connection.as_mut() => {}
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            let _gone = connection.await;
        }
    }
}
