//! What to ask NVML next, and when.
//!
//! Owns the intervals, the budget of time in the driver and what is done about a device that is lost. Pure: time, what
//! calls are active and what a query cost are arguments, the next step is the answer.
//!
//! * **Activity decides.** The cheap counters are read some ten times a second while calls are active on a device, once a
//!   second otherwise, and once at either end of the activity, so that energy is known there.
//! * **Lists come when something happened** ([`Schedule::poke`]): a process began, ended or made its first call. A program
//!   opens its device some seconds after it began, so they are taken again a little later; beyond that, now and then.
//! * **The budget is 1 ms of NVML's time a second**, in three purses, so that dear lists never take the time of the cheap
//!   counters: the driver holds one lock for all its callers, and lists have been seen to take 4.5 ms. A dear call makes a
//!   debt, and a debt a pause: that is the back-off. Savings let a burst of lists through when a server begins. A call that
//!   is dear for once is charged as its like ([`typical`](super::typical)).
//! * **A device that is lost** is looked for every ten seconds and asked nothing else.
//!
//! To add a query: a variant of [`Query`], its line in [`Query::interval`] and [`Query::purse`], and what a device has it
//! in [`Schedule::set_devices`].

use std::{collections::BTreeMap, time::Duration};

use super::{nvml::Shape, purse::Purse, typical::Typical};
use crate::time::Mono;

/// How long a lost device is left alone.
const RETRY: Duration = Duration::from_secs(10);

/// Least time between two samples of GPM; NVML wants more than 100 ms.
const GPM_PAIR: Duration = Duration::from_millis(150);

/// Least time between two lists of one device, whatever happens.
const LIST_GAP: Duration = Duration::from_secs(1);

/// How long after something happened lists are taken once more.
const FOLLOW_UPS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// Share of the savings for lists that is kept for when something happens, parts of a hundred.
const RESERVE: u32 = 50;

/// Something that a device is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Query {
    /// Energy, power, time of held-down clocks.
    Fast,
    /// Utilization.
    Utilization,
    /// Memory, temperature, clocks, traffic, errors.
    Slow,
    /// GPM metrics.
    Gpm,
    /// Utilization by process.
    ProcessUtilization,
    /// The list of processes.
    Processes,
}

impl Query {
    const ALL: [Self; 6] =
        [Self::Fast, Self::Utilization, Self::Slow, Self::Gpm, Self::ProcessUtilization, Self::Processes];

    /// Time between two of them.
    fn interval(self, active: bool, active_hz: u32) -> Duration {
        let seconds = Duration::from_secs;
        match (self, active) {
            (Self::Fast | Self::Utilization, true) => seconds(1) / active_hz.max(1),
            (Self::Fast | Self::Utilization, false) => seconds(1),
            (Self::Slow | Self::Gpm, true) => seconds(1),
            (Self::Slow, false) => seconds(10),
            (Self::Gpm, false) => seconds(5),
            (Self::ProcessUtilization, true) => Duration::from_millis(500),
            (Self::ProcessUtilization, false) => seconds(5),
            (Self::Processes, true) => seconds(10),
            (Self::Processes, false) => seconds(30),
        }
    }

    fn purse(self) -> usize {
        match self {
            Self::Fast | Self::Utilization => 0,
            Self::Slow | Self::Gpm | Self::ProcessUtilization => 1,
            Self::Processes => 2,
        }
    }
}

/// Income a second and savings of the purses, by [`Query::purse`].
const PURSES: [(Duration, Duration); 3] = [
    (Duration::from_micros(600), Duration::from_millis(2)),
    (Duration::from_micros(200), Duration::from_millis(2)),
    (Duration::from_micros(200), Duration::from_millis(100)),
];

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask a device these, in this order, and say what each cost.
    Ask(u32, Vec<Query>),
    /// See whether a lost device answers.
    Retry(u32),
    /// Nothing until then, unless something happens.
    Wait(Mono),
}

/// Which devices something is said about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// All of them, those that appear later too.
    All,
    /// These, by their numbers.
    These(&'a [u32]),
}

/// The plan.
#[derive(Debug)]
pub(super) struct Schedule {
    active_hz: u32,
    devices: BTreeMap<u32, Watched>,
    purses: [Purse; PURSES.len()],
    /// What queries cost, by their number.
    typical: [Typical; Query::ALL.len()],
    all_active: bool,
    /// When lists are taken because something happened, the earliest first.
    pokes: [Option<Mono>; 1 + FOLLOW_UPS.len()],
}

#[derive(Debug)]
struct Watched {
    parent: Option<u32>,
    queries: [Option<Due>; Query::ALL.len()],
    active: bool,
    /// When it is looked for again, if it is lost.
    retry: Option<Mono>,
}

/// When a query comes next.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Mono,
    last: Option<Mono>,
    /// Asked so far, up to two.
    asked: u8,
    /// It is wanted because something happened: the reserve is for it.
    urgent: bool,
}

/// A time later, by so much.
pub(super) fn after(at: Mono, time: Duration) -> Mono {
    Mono(at.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
}

impl Schedule {
    /// A plan without devices.
    pub(super) fn new(active_hz: u32, now: Mono) -> Self {
        let purses = PURSES.map(|(rate, limit)| Purse::new(rate, limit, now));
        Self {
            active_hz,
            devices: BTreeMap::new(),
            purses,
            typical: Default::default(),
            all_active: false,
            pokes: Default::default(),
        }
    }

    /// Which devices there are, and which do not answer. What was known of them is forgotten, but for their activity.
    pub(super) fn set_devices(&mut self, now: Mono, shapes: &[Shape], lost: &[u32]) {
        let before = std::mem::take(&mut self.devices);
        let all = self.all_active;
        let active = |device| before.get(&device).map_or(all, |watched: &Watched| watched.active);
        for &Shape { device, parent, divided } in shapes {
            let has = |query| match query {
                Query::Fast => parent.is_none(),
                Query::Utilization | Query::ProcessUtilization => parent.is_none() && !divided,
                // The instances have the processes of a divided device.
                Query::Processes => !divided,
                Query::Slow | Query::Gpm => true,
            };
            let due = Due { at: now, last: None, asked: 0, urgent: false };
            let queries = Query::ALL.map(|query| has(query).then_some(due));
            self.devices.insert(device, Watched { parent, queries, active: active(device), retry: None });
        }
        for &device in lost {
            let none = Watched { parent: None, queries: Default::default(), active: active(device), retry: None };
            self.devices.entry(device).or_insert(none);
            self.lost(now, device);
        }
    }

    /// Calls became active on devices, or ended.
    pub(super) fn set_active(&mut self, now: Mono, which: Which<'_>, active: bool) {
        let before: Vec<_> = self.devices.keys().map(|&device| self.is_active(device)).collect();
        match which {
            Which::All => {
                self.all_active = active;
                self.devices.values_mut().for_each(|watched| watched.active = active);
            }
            Which::These(devices) => {
                for device in devices {
                    if let Some(watched) = self.devices.get_mut(device) {
                        watched.active = active;
                    }
                }
            }
        }
        let numbers: Vec<_> = self.devices.keys().copied().collect();
        for (device, before) in numbers.into_iter().zip(before) {
            let changed = self.is_active(device) != before;
            if let Some(watched) = self.devices.get_mut(&device).filter(|_| changed) {
                for (query, due) in Query::ALL.into_iter().zip(&mut watched.queries) {
                    // At either end of the activity: as early as its interval allows.
                    let gap = query.interval(true, self.active_hz);
                    if let Some(due) = due {
                        due.at = due.at.min(due.last.map_or(now, |last| now.max(after(last, gap))));
                    }
                }
            }
        }
    }

    /// Something happened that may have changed who uses which device.
    pub(super) fn poke(&mut self, now: Mono) {
        self.pokes[0] = Some(self.pokes[0].unwrap_or(now));
        for (poke, later) in self.pokes[1..].iter_mut().zip(FOLLOW_UPS) {
            // Those that are planned stay: else events in a row would put them off for ever.
            *poke = Some(poke.unwrap_or(after(now, later)));
        }
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Mono) -> Step {
        self.apply_pokes(now);
        let mut wait = self.pokes.iter().flatten().copied().min().unwrap_or(Mono(u64::MAX));
        let mut first: Option<(Mono, u32)> = None;
        for (&device, watched) in &self.devices {
            if let Some(retry) = watched.retry {
                if retry <= now {
                    return Step::Retry(device);
                }
                wait = wait.min(retry);
                continue;
            }
            for (query, due) in Query::ALL.into_iter().zip(&watched.queries) {
                let Some(due) = due else { continue };
                let at = self.possible(query, due, now);
                if at > now {
                    wait = wait.min(at);
                } else if first.is_none_or(|first| (due.at, device) < first) {
                    first = Some((due.at, device));
                }
            }
        }
        // Who is due the longest comes first: if there is too much to ask for the budget, all wait alike.
        match first {
            None => Step::Wait(wait),
            Some((_, device)) => Step::Ask(device, self.due_of(device, now)),
        }
    }

    /// A query was made: when it ended and what it cost. A driver that hung is no measure of what a query costs, so it
    /// costs nothing then.
    pub(super) fn took(&mut self, now: Mono, device: u32, query: Query, cost: Option<Duration>) {
        let charged = cost.map(|cost| self.typical[query as usize].charge(cost));
        self.purses[query.purse()].spend(charged.unwrap_or_default(), now);
        let interval = query.interval(self.is_active(device), self.active_hz);
        let Some(watched) = self.devices.get_mut(&device) else { return };
        let Some(due) = &mut watched.queries[query as usize] else { return };
        // On a grid, so that a late one does not make all later ones late; unless it was left out for long.
        let grid = after(due.at, interval);
        due.at = if grid > now { grid.min(after(now, interval)) } else { after(now, interval) };
        due.asked = due.asked.saturating_add(1).min(2);
        if query == Query::Gpm && due.asked == 1 {
            due.at = after(now, GPM_PAIR);
        }
        due.last = Some(now);
        due.urgent = false;
    }

    /// A device does not have it: it is not asked again.
    pub(super) fn leave_out(&mut self, device: u32, query: Query) {
        if let Some(watched) = self.devices.get_mut(&device) {
            watched.queries[query as usize] = None;
        }
    }

    /// A device is gone: it is looked for later.
    pub(super) fn lost(&mut self, now: Mono, device: u32) {
        if let Some(watched) = self.devices.get_mut(&device) {
            watched.retry = Some(after(now, RETRY));
        }
    }

    /// Whether calls are active on it, or on an instance of it: energy is known of whole devices only.
    fn is_active(&self, device: u32) -> bool {
        let active = |watched: &Watched| watched.active;
        self.devices.get(&device).is_some_and(active)
            || self.devices.values().any(|other| other.parent == Some(device) && other.active)
    }

    /// When a query that is due can be afforded.
    fn possible(&self, query: Query, due: &Due, now: Mono) -> Mono {
        let reserve = if query == Query::Processes && !due.urgent && due.last.is_some() { RESERVE } else { 0 };
        due.at.max(self.purses[query.purse()].ready(reserve, now.max(due.at)))
    }

    fn due_of(&self, device: u32, now: Mono) -> Vec<Query> {
        let Some(watched) = self.devices.get(&device) else { return Vec::new() };
        let due = |&(query, due): &(Query, &Option<Due>)| {
            due.as_ref().is_some_and(|due| self.possible(query, due, now) <= now)
        };
        Query::ALL.into_iter().zip(&watched.queries).filter(due).map(|(query, _)| query).collect()
    }

    fn apply_pokes(&mut self, now: Mono) {
        let mut happened = false;
        for poke in &mut self.pokes {
            happened |= poke.take_if(|at| *at <= now).is_some();
        }
        if !happened {
            return;
        }
        for watched in self.devices.values_mut() {
            if let Some(due) = &mut watched.queries[Query::Processes as usize] {
                due.at = due.at.min(due.last.map_or(now, |last| now.max(after(last, LIST_GAP))));
                due.urgent = true;
            }
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
