//! Energy against the simulated engine: exact in its sum, and how far each call's share is from the truth.

use super::{
    simulation::{self, Random, Run},
    *,
};

/// What the join made of a run.
struct Outcome {
    median: f64,
    ninth: f64,
    told: usize,
    sums: Sums,
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Lets the join see what it would see on a host: calls when they begin and end, their chunks some time after they were
/// made, and a counter of energy that is refreshed ten times a second, read at another pace.
fn join(run: &Run, seed: u64) -> Outcome {
    enum Event {
        Begin(usize),
        End(usize),
        Sample,
    }
    let mut random = Random::new(seed ^ 0x5eed);
    let seen: Vec<Vec<u64>> = run
        .requests
        .iter()
        .map(|request| {
            let mut last = 0;
            request
                .tokens
                .iter()
                .map(|at| {
                    last = nanos(at + random.exponential(0.001)).max(last + 1);
                    last
                })
                .collect()
        })
        .collect();
    let mut events: Vec<(u64, Event)> = Vec::new();
    for (number, request) in run.requests.iter().enumerate() {
        events.push((nanos(request.arrival), Event::Begin(number)));
        events.push((*seen[number].last().unwrap(), Event::End(number)));
    }
    let mut at = 0.0;
    while at < run.end + 2.0 {
        events.push((nanos(at), Event::Sample));
        at += 0.1;
    }
    events.sort_by_key(|(at, _)| *at);

    let mut serving = known();
    let mut looked: Vec<usize> = vec![0; run.requests.len()];
    let mut open: Vec<usize> = Vec::new();
    let mut got: Vec<(usize, Option<EnergyShare>)> = Vec::new();
    let mut until = |number: usize, now: u64| {
        let tokens = &seen[number];
        let mut progress = crate::call::progress::Progress::default();
        let before = looked[number];
        let count = tokens.partition_point(|at| *at <= now);
        for token in before.max(1)..count {
            progress.chunk(Mono(tokens[token - 1]), Mono(tokens[token]));
        }
        looked[number] = count;
        let first = (count > 0).then(|| Mono(tokens[0]));
        Look {
            request_end: Some(Mono(nanos(run.requests[number].arrival))),
            first_chunk: first,
            last_seen: Mono(if count > 0 { tokens[count - 1] } else { 0 }),
            request_bytes: run.requests[number].prompt * 5,
            windows: progress.take(),
        }
    };
    let mut energy = 0.0;
    let mut power = run.power.iter().peekable();
    let (mut watts, mut since) = (0.0, 0.0);
    for (at, event) in events {
        let mut sink = |call: Box<FinishedCall>| {
            let number = usize::from_be_bytes(call.ids.span);
            got.push((number, call.serving.as_ref().and_then(|facts| facts.gpu.as_ref()?.energy)));
        };
        match event {
            Event::Begin(number) => {
                serving.began(key(number as u64), SERVER, Mono(at));
                open.push(number);
            }
            Event::End(number) => {
                let request = &run.requests[number];
                let mut over = call(nanos(request.arrival), seen[number][0], request.output.max(2), 1);
                over.ids.span = number.to_be_bytes();
                over.timing.last_chunk = Some(Mono(at));
                over.timing.end = Mono(at);
                let usage = &mut over.facts.as_mut().unwrap().usage;
                (usage.input, usage.output, usage.cache_read) =
                    (Some(request.prompt), Some(request.output), Some(request.cached));
                open.retain(|other| *other != number);
                let last = until(number, at);
                serving.finished(Some((key(number as u64), last)), Box::new(over), &mut sink);
            }
            Event::Sample => {
                // The counter as the driver refreshed it last.
                let refreshed = (at / (100 * MS)) as f64 * 0.1;
                while let Some((next, value)) = power.next_if(|(next, _)| *next <= refreshed) {
                    energy += watts * (next - since);
                    (since, watts) = (*next, *value);
                }
                energy += watts * (refreshed - since).max(0.0);
                since = refreshed.max(since);
                serving.gpu(Mono(at + 1), &sample((energy * 1000.0) as u64));
                for &number in &open {
                    let look = until(number, at);
                    serving.looked(key(number as u64), &look, Mono(at));
                }
                serving.advance(Mono(at), &mut sink);
            }
        }
    }
    serving.finish(&mut |_| panic!("a call is still held"));
    let mut errors: Vec<f64> = got
        .iter()
        .filter_map(|(number, share)| {
            let truth = run.requests[*number].joules;
            Some((share.as_ref()?.millijoules as f64 / 1000.0 - truth).abs() / truth)
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    let sums = serving.energy()[0].1;
    Outcome { median: errors[errors.len() / 2], ninth: errors[errors.len() * 9 / 10], told: errors.len(), sums }
}

#[test]
fn shares_add_up_exactly_and_are_near_the_truth() {
    for (rate, seconds, bound) in [(0.5, 200.0, 0.06), (4.0, 100.0, 0.06), (20.0, 60.0, 0.06)] {
        let run = simulation::run(7, rate, seconds);
        let outcome = join(&run, 7);
        let Sums { devices, idle, unattributed, shared, open } = outcome.sums;
        assert_eq!(devices, idle + unattributed + shared + open, "to the millijoule");
        assert_eq!(open, 0);
        let truth: f64 = run.requests.iter().map(|request| request.joules).sum();
        let total = run.joules(run.end);
        eprintln!(
            "{rate} req/s: median error {:.1} %, p90 {:.1} %, {} calls; devices {:.0} J ({total:.0} J), shared {:.0} J ({truth:.0} J), idle {:.0} J, unattributed {:.0} J",
            outcome.median * 100.0,
            outcome.ninth * 100.0,
            outcome.told,
            devices as f64 / 1000.0,
            shared as f64 / 1000.0,
            idle as f64 / 1000.0,
            unattributed as f64 / 1000.0,
        );
        assert_eq!(outcome.told, run.requests.len(), "each call has its share");
        assert!(outcome.median <= bound, "{:.3}", outcome.median);
        assert!((shared as f64 / 1000.0 - truth).abs() / truth < 0.03, "no bias");
    }
}
