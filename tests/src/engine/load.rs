//! Calls to the engine that come at random times, whatever becomes of those before: an open loop.
//!
//! [`Load::plan`] is pure and the same for the same seed; [`drive`] carries a plan out, each call on a connection of
//! its own or on one that an earlier call has left.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    net::TcpStream,
    runtime,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    client::{Ask, Called, call},
    random::Random,
    timeline::now_ns,
};

/// How long a call may take: a machine can be slow, and a hang must end.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long prompts or answers are: lognormal, within bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    /// Mean of the logarithm.
    pub mu: f64,
    /// Deviation of the logarithm.
    pub sigma: f64,
    /// Least tokens.
    pub least: u32,
    /// Most tokens.
    pub most: u32,
}

impl Length {
    fn draw(&self, random: &mut Random) -> u32 {
        let tokens = (self.mu + self.sigma * random.normal()).exp().round();
        tokens.clamp(f64::from(self.least), f64::from(self.most)) as u32
    }
}

/// A load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Another seed, another plan.
    pub seed: u64,
    /// Requests a second, on average: they come at random.
    pub rate: f64,
    /// For so long.
    pub duration: Duration,
    /// Prompts.
    pub prompt: Length,
    /// Answers.
    pub output: Length,
    /// Share of the requests that have a part of their prompt cached, from 0 to 1.
    pub cached: f64,
}

impl Default for Load {
    /// That of the reference simulation of energy shares, at 20 requests a second for 30 s.
    fn default() -> Self {
        Self {
            seed: 1,
            rate: 20.0,
            duration: Duration::from_secs(30),
            prompt: Length { mu: 6.2, sigma: 0.9, least: 16, most: 8_000 },
            output: Length { mu: 5.2, sigma: 0.7, least: 4, most: 2_000 },
            cached: 0.3,
        }
    }
}

/// A call at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// From the beginning.
    pub due: Duration,
    /// What to ask for.
    pub ask: Ask,
}

impl Load {
    /// All calls in the order of their times.
    pub fn plan(&self) -> Vec<Planned> {
        let mut random = Random::new(self.seed);
        let mut due = 0.0;
        let mut plan = Vec::new();
        loop {
            due += random.exponential(1.0 / self.rate);
            if due >= self.duration.as_secs_f64() {
                return plan;
            }
            let mut ask = Ask::stream(self.prompt.draw(&mut random), self.output.draw(&mut random));
            if random.uniform() <= self.cached {
                ask.cached = (f64::from(ask.prompt) * random.between(0.5, 0.95)) as u32;
            }
            plan.push(Planned { due: Duration::from_secs_f64(due), ask });
        }
    }
}

/// Connections that nobody uses at the moment; `None` if each call gets its own.
type Idle = Option<Mutex<Vec<TcpStream>>>;

/// Carries out a plan, and returns what came of each call, in the plan's order.
///
/// # Errors
/// The first call that could not be made, once all are over.
pub fn drive(to: SocketAddr, plan: &[Planned], keep_alive: bool) -> Result<Vec<Called>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let idle: Arc<Idle> = Arc::new(keep_alive.then(Mutex::default));
        let (begin, begin_ns) = (Instant::now(), now_ns());
        let mut calls = JoinSet::new();
        for (at, planned) in plan.iter().copied().enumerate() {
            let idle = Arc::clone(&idle);
            calls.spawn(async move {
                sleep_until(begin + planned.due).await;
                let called = timeout(PATIENCE, one(to, planned.ask, &idle)).await;
                let mut called = called.with_context(|| format!("call {at}: not within {PATIENCE:?}"))??;
                called.due_ns = begin_ns + u64::try_from(planned.due.as_nanos())?;
                Ok((at, called))
            });
        }
        let all: Result<Vec<(usize, Called)>> = calls.join_all().await.into_iter().collect();
        let mut all = all?;
        all.sort_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, called)| called).collect())
    })
}

async fn one(to: SocketAddr, ask: Ask, idle: &Idle) -> Result<Called> {
    let lock = |idle: &'_ Mutex<Vec<TcpStream>>| idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut connection = match idle.as_ref().and_then(lock) {
        Some(connection) => connection,
        None => TcpStream::connect(to).await.context("cannot connect")?,
    };
    connection.set_nodelay(true)?;
    let called = call(&mut connection, ask).await?;
    if let (Some(idle), super::client::End::Done) = (idle, &called.end) {
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
    Ok(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed_and_has_the_rate_and_the_lengths() {
        let load = Load { duration: Duration::from_secs(300), ..Load::default() };
        let plan = load.plan();
        assert_eq!(plan, load.plan());
        assert_ne!(plan, Load { seed: 2, ..load }.plan());
        // 6,000 expected, with a deviation of 77.
        assert!((5_600..6_400).contains(&plan.len()), "{}", plan.len());
        assert!(plan.is_sorted_by_key(|planned| planned.due) && plan.iter().all(|planned| planned.due < load.duration));
        let median = |tokens: fn(&Ask) -> u32| {
            let mut all: Vec<u32> = plan.iter().map(|planned| tokens(&planned.ask)).collect();
            all.sort_unstable();
            (all[0], all[all.len() / 2], all[all.len() - 1])
        };
        // The medians are those of the distributions: e to the 6.2 is 493, to the 5.2 is 181.
        let (least, middle, most) = median(|ask| ask.prompt);
        assert!(least >= 16 && (460..530).contains(&middle) && most <= 8_000, "{least} {middle} {most}");
        let (least, middle, most) = median(|ask| ask.output);
        assert!(least >= 4 && (170..193).contains(&middle) && most <= 2_000, "{least} {middle} {most}");
        let cached = plan.iter().filter(|planned| planned.ask.cached > 0).count() * 100 / plan.len();
        assert!((26..34).contains(&cached), "{cached} %");
    }
}
