//! The step clock: the steps of processes on their GPUs, and memory of these that they did not get.
//!
//! Owns the steps of each process, within a bound, and what they come to in the time of a call. A step is from the first launch
//! to the return of the wait for it; between two steps the process does not keep its GPU busy. Where several processes compute
//! a step together, the one that made most of them is the clock. What the kernel side did not tell shows in the numbers, so
//! that the count is right where times are missing.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::facts::StepFacts;
use crate::{
    record::{CudaStep, Origin},
    time::Mono,
};

/// Processes whose steps are kept: some for each GPU of a host. Beyond it the one that was silent longest goes.
const MAX_CLOCKS: usize = 32;

/// Steps kept of each, 1.3 MiB: five minutes of ten milliseconds each. Of a call that is longer nothing is told.
const MAX_STEPS: usize = 32_768;

/// Failed allocations kept of each.
const MAX_REFUSALS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    begin: Mono,
    end: Mono,
    waited: u64,
    gap: u64,
    number: u64,
}

/// One process.
#[derive(Clone, Debug, Default)]
struct Clock {
    /// Tells it from a later process of its number.
    start_ns: u64,
    /// In the order in which they ended.
    steps: VecDeque<Step>,
    /// When the last one ended.
    last: Option<Mono>,
    /// End of the last one that there was no room for.
    dropped: Option<Mono>,
    /// When memory was refused, and how much.
    refusals: VecDeque<(Mono, u64)>,
    /// When it was last heard of.
    heard: Mono,
}

/// Memory that was refused in some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The first time.
    pub at: Mono,
    /// Of which process.
    pub pid: u32,
    /// The most that was asked for at once, bytes.
    pub size: u64,
    /// How often, of all processes.
    pub count: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Steps {
    clocks: BTreeMap<u32, Clock>,
}

impl Steps {
    fn clock(&mut self, origin: &Origin) -> &mut Clock {
        if self.clocks.len() >= MAX_CLOCKS
            && !self.clocks.contains_key(&origin.tgid)
            && let Some(silent) = self.clocks.iter().min_by_key(|(_, clock)| clock.heard).map(|(pid, _)| *pid)
        {
            self.clocks.remove(&silent);
        }
        let clock = self.clocks.entry(origin.tgid).or_default();
        if clock.start_ns != origin.start_ns {
            *clock = Clock { start_ns: origin.start_ns, ..Clock::default() };
        }
        clock.heard = clock.heard.max(origin.time);
        clock
    }

    /// A process has made a step.
    pub fn stepped(&mut self, origin: &Origin, step: &CudaStep) {
        let CudaStep { begin, waited_ns, gap_ns, number, launches: _ } = *step;
        let end = origin.time.max(begin);
        let step = Step { begin, end, waited: waited_ns, gap: gap_ns.unwrap_or(0), number };
        let clock = self.clock(origin);
        // Processors write their records side by side: two may change places.
        let place = clock.steps.partition_point(|other| other.end <= end);
        clock.steps.insert(place, step);
        clock.last = clock.last.max(Some(end));
        if clock.steps.len() > MAX_STEPS
            && let Some(oldest) = clock.steps.pop_front()
        {
            clock.dropped = Some(oldest.end);
        }
    }

    /// A process did not get memory.
    pub fn refused(&mut self, origin: &Origin, size: u64) {
        let refusals = &mut self.clock(origin).refusals;
        refusals.push_back((origin.time, size));
        if refusals.len() > MAX_REFUSALS {
            refusals.pop_front();
        }
    }

    fn of<'a>(&'a self, pids: &'a [u32]) -> impl Iterator<Item = (u32, &'a Clock)> {
        pids.iter().filter_map(|pid| Some((*pid, self.clocks.get(pid)?)))
    }

    /// What the steps of these processes come to in a time; `None` where none of them is timed.
    pub fn over(&self, pids: &[u32], from: Mono, to: Mono) -> Option<StepFacts> {
        let timed = self.of(pids).filter(|(_, clock)| clock.last.is_some());
        let whole = timed.filter(|(_, clock)| clock.dropped.is_none_or(|dropped| dropped <= from));
        whole.map(|(_, clock)| clock.over(from, to)).max_by_key(|facts| facts.count)
    }

    /// When one of these processes last ended a step.
    pub fn last(&self, pids: &[u32]) -> Option<Mono> {
        self.of(pids).filter_map(|(_, clock)| clock.last).max()
    }

    /// Memory that these processes did not get in a time.
    pub fn refused_in(&self, pids: &[u32], from: Mono, to: Mono) -> Option<Refused> {
        let all = self.of(pids).flat_map(|(pid, clock)| clock.refusals.iter().map(move |(at, size)| (pid, *at, *size)));
        let mut found: Option<Refused> = None;
        for (pid, at, size) in all.filter(|(_, at, _)| (from..=to).contains(at)) {
            let refused = found.get_or_insert(Refused { at, pid, size, count: 0 });
            refused.count += 1;
            refused.size = refused.size.max(size);
            if at < refused.at {
                (refused.at, refused.pid) = (at, pid);
            }
        }
        found
    }

    /// Forgets what was before a time.
    pub fn forget_before(&mut self, at: Mono) {
        for clock in self.clocks.values_mut() {
            while clock.steps.front().is_some_and(|step| step.end < at) {
                clock.steps.pop_front();
            }
            while clock.refusals.front().is_some_and(|(time, _)| *time < at) {
                clock.refusals.pop_front();
            }
        }
        self.clocks.retain(|_, clock| clock.heard >= at);
    }
}

impl Clock {
    /// Steps that lie in the time with both ends.
    fn over(&self, from: Mono, to: Mono) -> StepFacts {
        let first = self.steps.partition_point(|step| step.end < from);
        let steps = self.steps.range(first..).take_while(|step| step.end <= to).filter(|step| step.begin >= from);
        let (mut lengths, mut count, mut before) = (Vec::new(), 0, None);
        let (mut waited, mut gaps, mut whole) = (0u64, 0u64, 0u64);
        for step in steps {
            // Those between two that were told were not.
            count += before.map_or(1, |before| step.number.saturating_sub(before).max(1));
            before = Some(step.number);
            let length = step.end.0 - step.begin.0;
            // What was before the call is not its gap: nobody may have wanted anything.
            let gap = step.gap.min(step.begin.0 - from.0);
            lengths.push(length);
            waited = waited.saturating_add(step.waited.min(length));
            gaps = gaps.saturating_add(gap);
            whole = whole.saturating_add(length).saturating_add(gap);
        }
        lengths.sort_unstable();
        let share = |part: u64| (whole > 0).then(|| part as f64 / whole as f64);
        StepFacts {
            count,
            typical: lengths.get(lengths.len() / 2).copied().map(Duration::from_nanos),
            longest: lengths.last().copied().map(Duration::from_nanos),
            wait: share(waited),
            gap: share(gaps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(pid: u32, at: u64) -> Origin {
        Origin { time: Mono(at), tgid: pid, tid: pid, start_ns: 1 }
    }

    fn step(begin: u64, waited_ns: u64, gap_ns: Option<u64>, number: u64) -> CudaStep {
        CudaStep { begin: Mono(begin), waited_ns, gap_ns, number, launches: 1 }
    }

    /// A process that makes a step every 100 from 0 on: 20 of gap, 10 to launch and 70 to wait.
    fn steady(steps: &mut Steps, pid: u32, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            steps.stepped(&origin(pid, number * 100), &step(number * 100 - 80, 70, Some(20), number));
        }
    }

    #[test]
    fn a_calls_steps_are_those_within_it() {
        let mut steps = Steps::default();
        steady(&mut steps, 7, 1..=20);
        let facts = steps.over(&[1, 7], Mono(310), Mono(850)).unwrap();
        assert_eq!((facts.count, facts.typical), (5, Some(Duration::from_nanos(80))));
        // Of the first step's gap half was before.
        assert_eq!(facts.wait, Some(5.0 * 70.0 / 490.0));
        assert_eq!(facts.gap, Some(90.0 / 490.0));
        assert_eq!(steps.over(&[1], Mono(0), Mono(900)), None, "it is not timed");
        let none = steps.over(&[7], Mono(2010), Mono(2500)).unwrap();
        assert_eq!((none.count, none.longest, none.wait), (0, None, None), "it is timed, and made none");
        assert_eq!(steps.last(&[1, 7]), Some(Mono(2000)));
    }

    #[test]
    fn what_was_not_told_is_counted_and_the_longest_is_found() {
        let mut steps = Steps::default();
        steady(&mut steps, 7, (1..=20).filter(|number| !(8..=11).contains(number)));
        // Told out of order.
        steps.stepped(&origin(7, 2500), &step(2120, 300, Some(120), 21));
        steps.stepped(&origin(7, 1100), &step(1020, 70, Some(20), 11));
        let facts = steps.over(&[7], Mono(0), Mono(3000)).unwrap();
        assert_eq!((facts.count, facts.longest), (21, Some(Duration::from_nanos(380))));
        assert_eq!(steps.clocks[&7].steps.len(), 18);
    }

    #[test]
    fn of_those_that_step_together_one_is_the_clock() {
        let mut steps = Steps::default();
        steady(&mut steps, 7, 1..=10);
        steady(&mut steps, 8, 1..=12);
        assert_eq!(steps.over(&[7, 8], Mono(0), Mono(5000)).unwrap().count, 12);
        steps.refused(&origin(8, 300), 5);
        steps.refused(&origin(7, 250), 9);
        steps.refused(&origin(7, 900), 99);
        let refused = Refused { at: Mono(250), pid: 7, size: 9, count: 2 };
        assert_eq!(steps.refused_in(&[7, 8], Mono(200), Mono(800)), Some(refused));
        assert_eq!(steps.refused_in(&[7, 8], Mono(400), Mono(800)), None);
    }

    #[test]
    fn it_is_bounded_and_says_nothing_of_what_it_forgot() {
        let mut steps = Steps::default();
        steady(&mut steps, 7, 1..=MAX_STEPS as u64 + 5);
        assert_eq!(steps.clocks[&7].steps.len(), MAX_STEPS);
        assert_eq!(steps.over(&[7], Mono(300), Mono(5000)), None);
        assert!(steps.over(&[7], Mono(500), Mono(5000)).is_some());
        for pid in 0..100 {
            steps.refused(&origin(pid, 1_000_000_000 + u64::from(pid)), 1);
            (0..100).for_each(|_| steps.refused(&origin(pid, 1_000_000_000 + u64::from(pid)), 1));
        }
        assert_eq!(steps.clocks.len(), MAX_CLOCKS);
        assert!(steps.clocks.values().all(|clock| clock.refusals.len() == MAX_REFUSALS));
        steps.forget_before(Mono(1_000_000_098));
        assert_eq!(steps.clocks.keys().copied().collect::<Vec<_>>(), [98, 99]);
    }

    #[test]
    fn a_number_that_is_used_again_is_another_process() {
        let mut steps = Steps::default();
        steady(&mut steps, 7, 1..=5);
        steps.stepped(&Origin { start_ns: 2, ..origin(7, 900) }, &step(820, 70, None, 1));
        assert_eq!(steps.over(&[7], Mono(0), Mono(5000)).unwrap().count, 1);
    }
}
