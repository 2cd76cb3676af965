//! The engine core: takes requests from the front, and has the workers compute one step after the other.
//!
//! One thread decides and waits for the workers. Others only listen, so that what comes is there when the step is over:
//! one to the front, and one for each worker to its end. What is decided is [`Batch`]'s and [`Books`]'; here are the processes and the clock.

use std::{
    io::BufReader,
    os::unix::net::UnixStream,
    path::Path,
    process::ExitStatus,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    batch::{Batch, work},
    books::{Books, Left},
    child,
    cost::{Cost, Pace},
    message::{CoreFault, Fault, FromCore, FromWorker, GpuFault, Setup, ToCore, ToWorker, WorkerSetup, receive, send},
};

/// Name of the socket on which the front waits for the core.
pub const SOCKET: &str = "core.sock";

/// What waits for the end of a step; the front's socket waits beyond that.
const MAX_INPUT: usize = 4_096;

/// How long to wait for something to do.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// How long a step takes while the clocks are held down, in steps.
const THROTTLED: u64 = 2;

/// What comes while a step is computed.
enum Input {
    /// The front says something.
    Front(ToCore),
    /// The front has closed its socket.
    FrontGone,
    /// A worker has ended.
    WorkerEnded(u32, ExitStatus),
}

struct Worker {
    pid: u32,
    socket: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Worker {
    /// Starts a worker whose end `to` is told.
    fn start(setup: &WorkerSetup, to: &SyncSender<Input>) -> Result<Self> {
        let (mut process, socket) = child::start_with_socket("worker", setup)?;
        let (pid, to) = (process.id(), to.clone());
        thread::spawn(move || {
            if let Ok(status) = process.wait() {
                // Nobody listens in a core that is ending too.
                let _ending = to.send(Input::WorkerEnded(pid, status));
            }
        });
        Ok(Self { pid, answers: BufReader::new(socket.try_clone()?), socket })
    }

    fn answer(&mut self) -> Result<FromWorker> {
        receive(&mut self.answers)?.with_context(|| format!("worker {} has ended", self.pid))
    }

    fn began(&mut self) -> Result<(u64, u64)> {
        match self.answer()? {
            FromWorker::Began { at_ns, before_uj } => Ok((at_ns, before_uj)),
            other => bail!("worker {}: {other:?} out of turn", self.pid),
        }
    }

    fn ended(&mut self) -> Result<u64> {
        match self.answer()? {
            FromWorker::Ended { at_ns } => Ok(at_ns),
            other => bail!("worker {}: {other:?} out of turn", self.pid),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    End,
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
    let mut workers = start(&setup, &sender)?;
    // They load side by side.
    for worker in &mut workers {
        if worker.answer()? != FromWorker::Ready {
            bail!("worker {} is not ready", worker.pid);
        }
    }
    let messages = BufReader::new(front.try_clone()?);
    let rate_scale = setup.rate_scale;
    let (batch, books) = (Batch::default(), Books::default());
    let mut core = Core { workers, front, batch, books, rate_scale, throttled_until: None, busy: false };
    let ready = FromCore::Ready { workers: core.workers.iter().map(|worker| worker.pid).collect() };
    send(&mut core.front, &ready)?;
    thread::spawn(move || listen(messages, &sender));
    core.serve(&input)
}

fn connect(path: &Path) -> Result<UnixStream> {
    UnixStream::connect(path).with_context(|| format!("cannot connect to {}", path.display()))
}

/// Starts the workers; the first on each device leads it.
fn start(setup: &Setup, to: &SyncSender<Input>) -> Result<Vec<Worker>> {
    let worker = |n: usize| {
        let n_devices = setup.devices.len();
        let device = setup.devices[n % n_devices];
        Worker::start(&WorkerSetup { engine: setup.clone(), device, leads: n < n_devices }, to)
    };
    (0..setup.workers).map(worker).collect()
}

/// Reads what the front says until it is gone.
fn listen(mut messages: BufReader<UnixStream>, to: &SyncSender<Input>) {
    loop {
        let input = match receive(&mut messages) {
            Ok(Some(message)) => Input::Front(message),
            Ok(None) => Input::FrontGone,
            Err(error) => {
                eprintln!("mock-engine: core: from the front: {error}");
                Input::FrontGone
            }
        };
        let gone = matches!(input, Input::FrontGone);
        if to.send(input).is_err() || gone {
            return;
        }
    }
}

impl Core {
    fn serve(&mut self, input: &Receiver<Input>) -> Result<()> {
        loop {
            while let Ok(next) = input.try_recv() {
                if self.take(next)? == Then::End {
                    return self.end(input);
                }
            }
            self.end_throttling()?;
            if self.step()? {
                continue;
            }
            self.idle()?;
            let until = self.throttled_until.unwrap_or_else(|| Instant::now() + FOR_EVER);
            match input.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(next) => {
                    if self.take(next)? == Then::End {
                        return self.end(input);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The threads that listen hold the other end, as long as there is anything to say.
                Err(RecvTimeoutError::Disconnected) => bail!("nobody is left"),
            }
        }
    }

    fn take(&mut self, input: Input) -> Result<Then> {
        match input {
            Input::Front(ToCore::Stop) => Ok(Then::End),
            Input::Front(message) => self.accept(message).map(|()| Then::GoOn),
            Input::FrontGone => bail!("the front has ended"),
            Input::WorkerEnded(pid, status) => bail!("worker {pid} ended: {status}"),
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
            // Not asked: see `take`.
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
            send(&mut worker.socket, order).with_context(|| format!("worker {} has ended", worker.pid))?;
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

    /// Closes the books, and ends the workers.
    fn end(&mut self, input: &Receiver<Input>) -> Result<()> {
        for id in self.batch.ids() {
            self.batch.cancel(id);
            self.books.leave(id, Left::Stopped);
        }
        self.idle()?;
        self.tell(&ToWorker::Stop)?;
        let mut left = self.workers.len();
        while left > 0 {
            if let Input::WorkerEnded(pid, status) = input.recv().context("nobody is left")? {
                ensure!(status.success(), "worker {pid} ended: {status}");
                left -= 1;
            }
        }
        Ok(())
    }
}
