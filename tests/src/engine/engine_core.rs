//! The engine core: takes requests from the front, and has the workers compute one step after the other.
//!
//! One thread decides and waits for the workers; another only reads what the front says, so that it is there when the
//! step is over. What is decided is [`Batch`]'s and [`Books`]'; here are the processes and the clock.

use std::{
    io::BufReader,
    os::unix::net::UnixStream,
    path::Path,
    process::Child,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    batch::{Batch, work},
    books::{Books, Left},
    child,
    cost::{Cost, Pace},
    message::{CoreFault, Fault, FromCore, FromWorker, GpuFault, Setup, ToCore, ToWorker, WorkerSetup, receive, send},
};

/// Name of the socket on which the front waits for the core.
pub const SOCKET: &str = "core.sock";

/// Messages of the front that wait for the end of a step; the front's socket waits beyond that.
const MAX_INPUT: usize = 4_096;

/// How long a step takes while the clocks are held down, in steps.
const THROTTLED: u64 = 2;

struct Worker {
    process: Child,
    socket: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Worker {
    fn start(setup: &WorkerSetup) -> Result<Self> {
        let (process, socket) = child::start_with_socket("worker", setup)?;
        Ok(Self { process, answers: BufReader::new(socket.try_clone()?), socket })
    }

    fn answer(&mut self) -> Result<FromWorker> {
        receive(&mut self.answers)?.with_context(|| format!("worker {} has ended", self.process.id()))
    }

    fn began(&mut self) -> Result<(u64, u64)> {
        match self.answer()? {
            FromWorker::Began { at_ns, before_uj } => Ok((at_ns, before_uj)),
            other => bail!("worker {}: {other:?} out of turn", self.process.id()),
        }
    }

    fn ended(&mut self) -> Result<u64> {
        match self.answer()? {
            FromWorker::Ended { at_ns } => Ok(at_ns),
            other => bail!("worker {}: {other:?} out of turn", self.process.id()),
        }
    }
}

struct Core {
    workers: Vec<Worker>,
    front: UnixStream,
    batch: Batch,
    books: Books,
    rate_scale: f64,
    throttled_until: Option<Instant>,
    /// Whether the last step is still open.
    busy: bool,
}

/// The core's life. Ends when it is told to or when the front is gone, and in an error when a worker is.
pub fn run(setup: &str) -> Result<()> {
    let setup: Setup = child::begin(setup)?;
    let front = connect(&setup.dir.join(SOCKET))?;
    let (sender, input) = sync_channel(MAX_INPUT);
    let mut workers = start(&setup)?;
    // They load side by side.
    for worker in &mut workers {
        if worker.answer()? != FromWorker::Ready {
            bail!("worker {} is not ready", worker.process.id());
        }
    }
    let messages = BufReader::new(front.try_clone()?);
    let rate_scale = setup.rate_scale;
    let (batch, books) = (Batch::default(), Books::default());
    let mut core = Core { workers, front, batch, books, rate_scale, throttled_until: None, busy: false };
    let ready = FromCore::Ready { workers: core.workers.iter().map(|worker| worker.process.id()).collect() };
    send(&mut core.front, &ready)?;
    thread::spawn(move || listen(messages, &sender));
    core.serve(&input)
}

fn connect(path: &Path) -> Result<UnixStream> {
    UnixStream::connect(path).with_context(|| format!("cannot connect to {}", path.display()))
}

/// Starts the workers; the first on each device leads it.
fn start(setup: &Setup) -> Result<Vec<Worker>> {
    let worker = |n: usize| {
        let n_devices = setup.devices.len();
        let device = setup.devices[n % n_devices];
        Worker::start(&WorkerSetup { engine: setup.clone(), device, leads: n < n_devices })
    };
    (0..setup.workers).map(worker).collect()
}

/// Reads what the front says until it is gone; dropping the sender tells.
fn listen(mut messages: BufReader<UnixStream>, to: &SyncSender<ToCore>) {
    loop {
        match receive(&mut messages) {
            Ok(Some(message)) => {
                if to.send(message).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                eprintln!("mock-engine: core: from the front: {error}");
                return;
            }
        }
    }
}

impl Core {
    fn serve(&mut self, input: &Receiver<ToCore>) -> Result<()> {
        loop {
            loop {
                match input.try_recv() {
                    Ok(ToCore::Stop) => return self.stop(),
                    Ok(message) => self.accept(message)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            self.end_throttling()?;
            if self.step()? {
                continue;
            }
            self.idle()?;
            let message = match self.throttled_until {
                Some(until) => input.recv_timeout(until.saturating_duration_since(Instant::now())),
                None => input.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(ToCore::Stop) => return self.stop(),
                Ok(message) => self.accept(message)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn accept(&mut self, message: ToCore) -> Result<()> {
        match message {
            ToCore::Submit(asked) => {
                self.books.enter(asked.id);
                self.batch.submit(asked);
            }
            ToCore::Cancel(id) => {
                if self.batch.cancel(id).is_some() {
                    self.books.leave(id, Left::Cancelled);
                }
            }
            ToCore::Fault(Fault::Worker(fault)) => send(&mut self.workers[0].socket, &ToWorker::Fault(fault))?,
            ToCore::Fault(Fault::Gpu(GpuFault::Throttle { ms })) => {
                self.throttled_until = Some(Instant::now() + Duration::from_millis(ms));
                self.tell(&ToWorker::Throttle(true))?;
            }
            ToCore::Fault(Fault::Gpu(GpuFault::Xid { code })) => self.tell(&ToWorker::Xid(code))?,
            ToCore::Fault(Fault::Core(CoreFault::Exit { code })) => std::process::exit(code),
            ToCore::Fault(Fault::Core(CoreFault::Abort)) => std::process::abort(),
            // The loop ends before it asks.
            ToCore::Stop => {}
        }
        Ok(())
    }

    /// Computes one step; false if there is nothing to compute.
    fn step(&mut self) -> Result<bool> {
        let Some(step) = self.batch.plan() else { return Ok(false) };
        let slowdown = if self.throttled_until.is_some() { THROTTLED } else { 1 };
        let cost = Cost::of(work(&step), Pace { scale: self.rate_scale, slowdown });
        self.tell(&ToWorker::Step(cost))?;
        let began_ns = self.settle()?;
        self.books.begin(&step, began_ns);
        self.busy = true;
        let mut ended_ns = 0;
        for worker in &mut self.workers {
            ended_ns = ended_ns.max(worker.ended()?);
        }
        let tokens = self.batch.complete(&step);
        self.books.end(&tokens, ended_ns);
        if !tokens.is_empty() {
            send(&mut self.front, &FromCore::Tokens(tokens.iter().map(|token| token.id).collect()))?;
        }
        Ok(true)
    }

    /// Nothing follows: the last step's energy is known now.
    fn idle(&mut self) -> Result<()> {
        if self.busy {
            self.busy = false;
            self.tell(&ToWorker::Idle)?;
            self.settle()?;
        } else {
            // Requests that left without a step, or between two.
            self.close(0)?;
        }
        Ok(())
    }

    /// Waits until every worker has begun, and settles what was before. Returns when the first began.
    fn settle(&mut self) -> Result<u64> {
        let (mut first_ns, mut before_uj) = (u64::MAX, 0);
        for worker in &mut self.workers {
            let (at_ns, energy) = worker.began()?;
            first_ns = first_ns.min(at_ns);
            before_uj += energy;
        }
        self.close(before_uj)?;
        Ok(first_ns)
    }

    fn close(&mut self, energy_uj: u64) -> Result<()> {
        for closed in self.books.settle(energy_uj) {
            send(&mut self.front, &FromCore::Closed(closed))?;
        }
        Ok(())
    }

    fn tell(&mut self, order: &ToWorker) -> Result<()> {
        for worker in &mut self.workers {
            send(&mut worker.socket, order).with_context(|| format!("worker {} has ended", worker.process.id()))?;
        }
        Ok(())
    }

    fn end_throttling(&mut self) -> Result<()> {
        if self.throttled_until.is_some_and(|until| until <= Instant::now()) {
            self.throttled_until = None;
            self.tell(&ToWorker::Throttle(false))?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        for id in self.batch.ids() {
            self.batch.cancel(id);
            self.books.leave(id, Left::Stopped);
        }
        self.idle()?;
        self.tell(&ToWorker::Stop)?;
        for worker in &mut self.workers {
            let status = worker.process.wait()?;
            if !status.success() {
                bail!("worker {} ended with {status}", worker.process.id());
            }
        }
        Ok(())
    }
}
