use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const START: Mono = Mono(1_000 * SECOND);

fn whole(device: u32) -> Shape {
    Shape { device, parent: None, divided: false }
}

/// A driver whose queries cost what they are said to, and what was asked of it.
struct Driver {
    schedule: Schedule,
    now: Mono,
    cost: fn(Query) -> Duration,
    asked: Vec<(Mono, u32, Query)>,
    spent: Duration,
}

impl Driver {
    fn new(shapes: &[Shape], cost: fn(Query) -> Duration) -> Self {
        let mut schedule = Schedule::new(10, START);
        schedule.set_devices(START, shapes, &[]);
        Self { schedule, now: START, cost, asked: Vec::new(), spent: Duration::ZERO }
    }

    /// Does what the plan says until `end`; time passes by waiting and by asking alone.
    fn run_until(&mut self, end: Mono) {
        while self.now < end {
            match self.schedule.next(self.now) {
                Step::Wait(until) => {
                    assert!(until > self.now, "a wait ends later");
                    self.now = until.min(end);
                }
                Step::Retry(device) => {
                    self.schedule.lost(self.now, device);
                }
                Step::Ask(device, queries) => {
                    assert!(!queries.is_empty(), "there is something to ask");
                    for query in queries {
                        let cost = (self.cost)(query);
                        self.asked.push((self.now, device, query));
                        self.now = after(self.now, cost);
                        self.spent += cost;
                        self.schedule.took(self.now, device, query, Some(cost));
                    }
                }
            }
        }
    }

    fn run_for(&mut self, seconds: u64) -> BTreeMap<(u32, Query), usize> {
        let before = self.asked.len();
        self.run_until(Mono(self.now.0 + seconds * SECOND));
        let mut counts = BTreeMap::new();
        for &(_, device, query) in &self.asked[before..] {
            *counts.entry((device, query)).or_default() += 1;
        }
        counts
    }

    fn times(&self, device: u32, query: Query) -> Vec<f64> {
        let of = |&&(_, d, q): &&(Mono, u32, Query)| (d, q) == (device, query);
        self.asked.iter().filter(of).map(|&(at, ..)| at.since(START).as_secs_f64()).collect()
    }
}

fn cheap(_: Query) -> Duration {
    Duration::from_micros(5)
}

#[test]
fn cheap_counters_are_read_ten_times_a_second_while_calls_are_active_and_once_otherwise() {
    let mut driver = Driver::new(&[whole(0), whole(1)], cheap);
    driver.schedule.set_active(START, Which::These(&[1]), true);
    driver.run_for(10);
    let counts = driver.run_for(100);
    assert_eq!((counts[&(0, Query::Fast)], counts[&(0, Query::Utilization)]), (100, 100));
    assert_eq!((counts[&(1, Query::Fast)], counts[&(1, Query::Utilization)]), (1000, 1000));
    assert_eq!((counts[&(0, Query::Slow)], counts[&(1, Query::Slow)]), (10, 100));
    assert_eq!((counts[&(0, Query::ProcessUtilization)], counts[&(1, Query::ProcessUtilization)]), (20, 200));
    assert_eq!((counts[&(0, Query::Gpm)], counts[&(1, Query::Gpm)]), (20, 100));
    assert!((3..=4).contains(&counts[&(0, Query::Processes)]) && counts[&(1, Query::Processes)] == 10, "{counts:?}");
}

#[test]
fn energy_is_read_when_activity_begins_and_when_it_ends() {
    let mut driver = Driver::new(&[whole(0)], cheap);
    driver.run_until(Mono(START.0 + SECOND * 13 / 4));
    driver.schedule.set_active(driver.now, Which::All, true);
    driver.run_until(Mono(START.0 + SECOND * 7 / 2 + SECOND / 25));
    driver.schedule.set_active(driver.now, Which::All, false);
    driver.run_until(Mono(START.0 + SECOND * 4));
    let times = driver.times(0, Query::Fast);
    let near = |at: f64| times.iter().any(|time| (time - at).abs() < 0.001);
    assert!(near(3.25), "when it began: {times:?}");
    assert!(near(3.55), "when it ended, a tenth of a second after the last: {times:?}");
}

#[test]
fn an_active_instance_makes_its_device_active_for_energy() {
    let shapes = [
        Shape { device: 0, parent: None, divided: true },
        Shape { device: 1, parent: Some(0), divided: false },
        Shape { device: 2, parent: Some(0), divided: false },
    ];
    let mut driver = Driver::new(&shapes, cheap);
    driver.schedule.set_active(START, Which::These(&[2]), true);
    let counts = driver.run_for(10);
    assert!(counts[&(0, Query::Fast)] >= 100, "{counts:?}");
    for missing in [
        (0, Query::Utilization),
        (0, Query::Processes),
        (0, Query::ProcessUtilization),
        (2, Query::Fast),
        (2, Query::Utilization),
        (2, Query::ProcessUtilization),
    ] {
        assert!(!counts.contains_key(&missing), "{missing:?} is nothing that MIG has: {counts:?}");
    }
    assert!(counts[&(2, Query::Slow)] > counts[&(1, Query::Slow)], "{counts:?}");
}

#[test]
fn a_poke_lists_now_and_a_little_later_and_pokes_in_a_row_are_one() {
    let mut driver = Driver::new(&[whole(0)], cheap);
    driver.run_until(Mono(START.0 + 5 * SECOND));
    for _ in 0..100 {
        driver.schedule.poke(driver.now);
    }
    driver.run_until(Mono(START.0 + 20 * SECOND));
    let times: Vec<_> = driver.times(0, Query::Processes).into_iter().map(|at| at.round()).collect();
    assert_eq!(times, [0.0, 5.0, 7.0, 13.0]);
    let before = driver.asked.len();
    for _ in 0..100 {
        driver.schedule.poke(driver.now);
        driver.run_until(Mono(driver.now.0 + SECOND / 100));
    }
    let lists = driver.asked[before..].iter().filter(|(.., query)| *query == Query::Processes).count();
    assert!(lists <= 2, "at most one a second: {lists}");
}

#[test]
fn dear_lists_do_not_take_the_time_of_cheap_counters() {
    let cost = |query| match query {
        Query::Processes => Duration::from_micros(9_000),
        _ => Duration::from_micros(5),
    };
    let shapes: Vec<_> = (0..4).map(whole).collect();
    let mut driver = Driver::new(&shapes, cost);
    driver.schedule.set_active(START, Which::All, true);
    let counts = driver.run_for(600);
    for device in 0..4 {
        assert!(counts[&(device, Query::Fast)] >= 5_900, "{counts:?}");
        // An income of 0.2 ms a second is a list every 45 seconds, for four devices.
        assert!((3..=8).contains(&counts[&(device, Query::Processes)]), "{counts:?}");
    }
}

#[test]
fn a_poke_has_savings_of_its_own() {
    let cost = |query| match query {
        Query::Processes => Duration::from_micros(4_500),
        _ => Duration::from_micros(5),
    };
    let mut driver = Driver::new(&(0..8).map(whole).collect::<Vec<_>>(), cost);
    driver.run_for(300);
    driver.schedule.poke(driver.now);
    let counts = driver.run_for(1);
    let lists = (0..8).filter(|&device| counts.contains_key(&(device, Query::Processes))).count();
    assert_eq!(lists, 8, "what happens is seen at once: {counts:?}");
}

#[test]
fn a_call_beyond_a_millisecond_is_made_less_often() {
    let slow = |query| match query {
        Query::Fast => Duration::from_micros(1_200),
        _ => Duration::from_micros(5),
    };
    let mut driver = Driver::new(&[whole(0)], slow);
    driver.schedule.set_active(START, Which::All, true);
    driver.run_for(10);
    let counts = driver.run_for(100);
    assert!((40..=52).contains(&counts[&(0, Query::Fast)]), "1.2 ms of 0.6 ms a second: {counts:?}");
}

#[test]
fn a_call_that_is_dear_for_once_does_not_blind_us() {
    let mut driver = Driver::new(&[whole(0)], cheap);
    driver.schedule.set_active(START, Which::All, true);
    driver.run_for(10);
    driver.cost = |_| Duration::from_millis(18);
    driver.run_until(Mono(driver.now.0 + 1));
    driver.cost = cheap;
    let counts = driver.run_for(10);
    assert!(counts[&(0, Query::Fast)] >= 99, "{counts:?}");
}

#[test]
fn a_lost_device_is_looked_for_every_ten_seconds_and_asked_nothing_else() {
    let mut schedule = Schedule::new(10, START);
    schedule.set_devices(START, &[whole(0)], &[3]);
    schedule.lost(START, 0);
    assert_eq!(schedule.next(START), Step::Wait(Mono(START.0 + 10 * SECOND)));
    let then = Mono(START.0 + 10 * SECOND);
    assert_eq!(schedule.next(then), Step::Retry(0));
    schedule.lost(then, 0);
    assert_eq!(schedule.next(then), Step::Retry(3));
    schedule.lost(then, 3);
    schedule.set_active(then, Which::All, true);
    assert_eq!(schedule.next(then), Step::Wait(Mono(START.0 + 20 * SECOND)));
    schedule.set_devices(then, &[whole(0), whole(3)], &[]);
    assert!(matches!(schedule.next(then), Step::Ask(0, queries) if queries.len() == Query::ALL.len()));
}

#[test]
fn what_a_device_does_not_have_is_not_asked() {
    let mut driver = Driver::new(&[whole(0)], cheap);
    driver.schedule.leave_out(0, Query::Gpm);
    let counts = driver.run_for(10);
    assert!(!counts.contains_key(&(0, Query::Gpm)), "{counts:?}");
}

#[test]
fn samples_of_gpm_are_far_enough_apart() {
    let mut driver = Driver::new(&[whole(0)], cheap);
    driver.run_for(3);
    let times = driver.times(0, Query::Gpm);
    assert!(times.len() >= 2 && times[0] < 0.01 && (0.15..0.2).contains(&times[1]), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] > 0.1), "{times:?}");
}

#[test]
fn a_driver_that_hung_is_asked_on_at_once() {
    let mut schedule = Schedule::new(10, START);
    schedule.set_devices(START, &[whole(0)], &[]);
    schedule.set_active(START, Which::All, true);
    let then = Mono(START.0 + 5 * SECOND);
    schedule.took(then, 0, Query::Fast, None);
    let soon = Mono(then.0 + SECOND / 10);
    assert!(matches!(schedule.next(soon), Step::Ask(0, queries) if queries.contains(&Query::Fast)));
}

proptest! {
    /// Whatever queries cost and whatever happens: no more than the savings, a millisecond a second, the queries that made
    /// the debts, and the first of each kind, of which nobody knows yet whether they are always so dear.
    #[test]
    fn the_budget_holds(
        devices in 1u32..9,
        costs in proptest::array::uniform6(1u64..12_000),
        events in proptest::collection::vec((0u8..4, 0u32..9, 1u64..20), 1..60),
    ) {
        let mut schedule = Schedule::new(20, START);
        schedule.set_devices(START, &(0..devices).map(whole).collect::<Vec<_>>(), &[]);
        let (mut now, mut spent, mut dearest) = (START, Duration::ZERO, [Duration::ZERO; 3]);
        let (mut asked, mut first) = ([0; Query::ALL.len()], Duration::ZERO);
        for (event, device, tenths) in events {
            match event {
                0 => schedule.poke(now),
                1 => schedule.set_active(now, Which::These(&[device]), true),
                2 => schedule.set_active(now, Which::All, false),
                _ => schedule.set_active(now, Which::All, true),
            }
            let end = Mono(now.0 + tenths * SECOND / 10);
            while now < end {
                match schedule.next(now) {
                    Step::Wait(until) => {
                        prop_assert!(until > now);
                        now = until.min(end);
                    }
                    Step::Retry(_) => prop_assert!(false, "nothing was lost"),
                    Step::Ask(device, queries) => {
                        prop_assert!(device < devices && !queries.is_empty());
                        let mut turn = [Duration::ZERO; 3];
                        for query in queries {
                            // More than half a minute's income is beyond the promise.
                            let most = [18_000, 6_000, 6_000][query.purse()];
                            let cost = Duration::from_micros(costs[query as usize].min(most / 3));
                            turn[query.purse()] += cost;
                            now = after(now, cost);
                            spent += cost;
                            asked[query as usize] += 1;
                            if asked[query as usize] <= 3 {
                                first += cost;
                            }
                            schedule.took(now, device, query, Some(cost));
                        }
                        for (dearest, turn) in dearest.iter_mut().zip(turn) {
                            *dearest = turn.max(*dearest);
                        }
                    }
                }
            }
        }
        let savings: Duration = PURSES.iter().map(|(_, limit)| *limit).sum();
        let income = now.since(START) / 1000;
        prop_assert!(
            spent <= savings + income + dearest.iter().sum::<Duration>() + first,
            "{spent:?} of {savings:?} + {income:?} + {dearest:?} + {first:?}"
        );
    }
}
