//! Where records of GPUs leave, and the watch over a driver that does not answer.
//!
//! Owns the order of what is said: that the driver hangs, what was read, that the sampler is closed, and nothing after that.
//! A call that hangs holds its thread, so another one has to say so; both go through one lock, or "lost" could follow the
//! devices' return.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nvml_wrapper::error::NvmlError;

use super::{Call, GpuRecord, meter::Watch};
use crate::time::Mono;

/// How long the driver may take before it is said that it does not answer.
pub(super) const STALL: Duration = Duration::from_secs(1);

/// Takes records with the time of the query.
pub(super) type Sink = Box<dyn Fn(Mono, GpuRecord) + Send + Sync>;

/// The way out.
pub(super) struct Outlet {
    state: Mutex<State>,
    sink: Sink,
}

#[derive(Default)]
struct State {
    /// When the call began that the polling thread is in.
    began: Option<Mono>,
    /// It was said that the driver does not answer.
    stalled: bool,
    /// It answered again, and nobody took note yet.
    resumed: bool,
    closed: bool,
}

impl Outlet {
    pub(super) fn new(sink: Sink) -> Self {
        Self { state: Mutex::default(), sink }
    }

    /// Says something, unless the sampler is closed.
    pub(super) fn say(&self, at: Mono, record: GpuRecord) {
        let state = self.lock();
        if !state.closed {
            (self.sink)(at, record);
        }
    }

    /// Says that the driver does not answer, if it does not for long enough and it was not said yet.
    pub(super) fn check(&self, now: Mono) {
        let mut state = self.lock();
        let waits = state.began.map(|began| now.since(began));
        if let Some(waits) = waits.filter(|waits| *waits >= STALL && !state.stalled && !state.closed) {
            state.stalled = true;
            let reason = format!("the NVIDIA driver has not answered for {:.1} s", waits.as_secs_f64());
            (self.sink)(now, GpuRecord::Lost { device: None, reason });
        }
    }

    /// Whether the driver came back since this was last asked.
    pub(super) fn resumed(&self) -> bool {
        std::mem::take(&mut self.lock().resumed)
    }

    /// Nothing is said any more once this returns.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A sink that panicked has its thread's death to show for it; the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Outlet {
    fn begin(&self, at: Mono) {
        self.lock().began = Some(at);
    }

    fn end(&self, _: Call, _: Duration, _: Option<&NvmlError>) {
        let mut state = self.lock();
        state.began = None;
        state.resumed |= std::mem::take(&mut state.stalled);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn outlet() -> (Outlet, Arc<Mutex<Vec<GpuRecord>>>) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        (Outlet::new(Box::new(move |_, record| sink.lock().unwrap().push(record))), said)
    }

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn a_call_without_an_answer_is_said_once_and_its_return_is_known() {
        let (outlet, said) = outlet();
        outlet.check(at(9));
        outlet.begin(at(10));
        outlet.check(Mono(at(11).0 - 1));
        assert!(said.lock().unwrap().is_empty() && !outlet.resumed());
        outlet.check(at(11));
        outlet.check(at(12));
        let reason = "the NVIDIA driver has not answered for 1.0 s".to_owned();
        assert_eq!(*said.lock().unwrap(), [GpuRecord::Lost { device: None, reason }]);
        assert!(!outlet.resumed(), "it is still away");
        outlet.end(Call::Energy, Duration::from_secs(5), None);
        assert!(outlet.resumed() && !outlet.resumed());
        outlet.check(at(20));
        assert_eq!(said.lock().unwrap().len(), 1);
    }

    #[test]
    fn nothing_is_said_after_the_end() {
        let (outlet, said) = outlet();
        outlet.begin(at(1));
        outlet.close();
        outlet.check(at(5));
        outlet.say(at(6), GpuRecord::Samples(Vec::new()));
        assert!(said.lock().unwrap().is_empty());
    }
}
