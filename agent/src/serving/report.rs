//! What is said of a call when it goes: its engine, its share of energy, whether it was slow, and why.
//!
//! Owns the putting together of a call's facts from what the other modules know, once, when it is released.

use std::time::Duration;

use super::{
    EnergyShare, Held, LAST_STEPS, MIN_COVERAGE, Serving, ServingFacts, Sink, Stall, Waste,
    baseline::Taken,
    causes::{self, Phases, Scene},
    energy::{PROMPT_WEIGHT, uncertainty},
    engine::{Engine, Prefill},
    flights::Flight,
};
use crate::call::{Completion, FinishedCall, Side, link::End, progress::window_of};

impl Serving {
    pub(super) fn release(&mut self, held: Held, out: &mut Sink<'_>) {
        let Held { key, mut call, ends } = held;
        let flight = key.and_then(|key| self.flights.remove(key));
        let facts = match flight {
            Some(flight) => self.server_facts(&call, flight, ends),
            None if call.side == Side::Client => self.client_facts(&call, ends),
            None => ServingFacts::default(),
        };
        if facts != ServingFacts::default() {
            call.serving = Some(Box::new(facts));
        }
        out(call);
    }

    /// Of a client's call only the way to its server is known.
    fn client_facts(&mut self, call: &FinishedCall, ends: Option<(End, End)>) -> ServingFacts {
        let mut facts = ServingFacts::default();
        let Some(model) = model_of(call) else { return facts };
        facts.slow = self.baselines.judge(&format!("client {model}"), &taken(call));
        let socket = ends.and_then(|(one, other)| self.sockets.get(one, other));
        let scene = Scene {
            phases: phases(call),
            gaps: gaps(call),
            engine: None,
            devices: &self.machines.devices,
            socket,
            ahead: &[],
            gpu_memory: None,
            failed: false,
        };
        facts.causes = causes::find(&scene, &facts.slow);
        facts
    }

    fn server_facts(&mut self, call: &FinishedCall, mut flight: Flight, ends: Option<(End, End)>) -> ServingFacts {
        let mut facts = ServingFacts { in_flight_at_start: flight.in_flight_at_start, ..Default::default() };
        let Some(number) = flight.engine else { return facts };
        let Some(engine) = self.machines.engine_mut(number) else { return facts };
        facts.engine = Some(engine.facts());
        let energy = settle(call, &mut flight, engine);
        flight.move_on(call.timing.end);
        let stall = flight.stall;
        facts.waste = waste(call, &flight, energy.after_gone);
        let in_flight = self.machines.engine(number).map(|engine| engine.in_flight);
        if facts.waste.is_none() && call.completion == Some(Completion::ClientClosed) && in_flight == Some(0) {
            let end = call.timing.end;
            facts.waste = self
                .machines
                .work_after(number, end, self.now)
                .map(|(until, millijoules)| Waste { since: end, lasted: until.since(end), chunks: None, millijoules })
                .filter(|waste| waste.lasted > LAST_STEPS);
        }
        facts.gpu = self.machines.gpu_facts(number, call.timing.start, call.timing.end, energy.share);
        facts.stall = stall.map(|(since, until)| Stall {
            since,
            lasted: until.since(since),
            utilization: self.machines.utilization(number, since, until),
        });
        if let Some(model) = model_of(call) {
            facts.slow = self.baselines.judge(&model, &taken(call));
        }
        let Some(engine) = self.machines.engine(number) else { return facts };
        let pids = engine.pids_ever();
        facts.steps = self.steps.over(&pids, flight.asked(), call.timing.end);
        let failed = !matches!(call.completion, Some(Completion::Done | Completion::Length | Completion::ClientClosed));
        let per_byte = engine.tokens_per_byte;
        // For a call that is not slow those that are over say enough.
        let ahead: Vec<Prefill> = if facts.slow.is_empty() {
            Vec::new()
        } else {
            self.flights.of(number).filter_map(|other| other.prefill(per_byte)).collect()
        };
        let scene = Scene {
            phases: phases(call),
            gaps: gaps(call),
            engine: Some(engine),
            devices: &self.machines.devices,
            socket: ends.and_then(|(one, other)| self.sockets.get(one, other)),
            ahead: &ahead,
            gpu_memory: self.steps.refused_in(&pids, call.timing.start, call.timing.end),
            failed,
        };
        facts.causes = causes::find(&scene, &facts.slow);
        let shares = if facts.slow.is_empty() && !failed { causes::shares(&scene) } else { Vec::new() };
        if let Some(engine) = self.machines.engine_mut(number) {
            shares.into_iter().for_each(|(kind, share)| engine.learn(kind, share));
            if let Some(first) = flight.first_chunk {
                engine.read_prompt(Prefill { start: flight.asked(), end: first, tokens: prompt_of(call) });
            }
        }
        facts
    }
}

/// How long a server may take to notice that its client has gone.
const NOTICED: Duration = Duration::from_millis(100);

/// A call's share, and what of it came after its client had gone.
struct Settled {
    share: Option<EnergyShare>,
    after_gone: Option<u64>,
}

/// The call's tokens are known now: puts its weights right and takes its shares.
fn settle(call: &FinishedCall, flight: &mut Flight, engine: &mut Engine) -> Settled {
    let end = call.timing.end;
    let usage = call.facts.as_ref().map(|facts| facts.usage).unwrap_or_default();
    let prompt = prompt_of(call);
    let asked = flight.asked();
    if let Some(first) = flight.first_chunk {
        if let Some(prompt) = prompt {
            engine.windows.spread(&mut flight.weights, asked, first, (prompt as f64 - flight.prompt) * PROMPT_WEIGHT);
        }
        if let Some(output) = usage.output.filter(|_| flight.chunks > 0.0) {
            let per_chunk = output.saturating_sub(1) as f64 / flight.chunks;
            let factor = per_chunk / engine.tokens_per_chunk.max(1e-6);
            engine.windows.rescale(&mut flight.weights, window_of(first) + 1, factor as f32);
            engine.learn_tokens(None, Some(per_chunk));
        }
    } else {
        // It came in one piece: what it wrote is spread over the time that it took.
        let until = call.timing.response_start.unwrap_or(end);
        let weight = prompt.unwrap_or(0) as f64 * PROMPT_WEIGHT + usage.output.unwrap_or(0) as f64;
        engine.windows.spread(&mut flight.weights, asked, until, weight);
    }
    if let (Some(input), bytes @ 1..) = (prompt, flight.request_bytes()) {
        engine.learn_tokens(Some(input as f64 / bytes as f64), None);
    }
    let before_gone = flight.gone.map(|(at, _)| {
        engine.windows.take(&mut flight.weights, window_of(at) + 1);
        flight.weights.taken
    });
    engine.windows.take(&mut flight.weights, window_of(end) + 1);
    // What reaches beyond its end is nobody's: the last look may have been later than the last byte.
    engine.windows.leave(&mut flight.weights);
    let taken = flight.weights.taken;
    let (coverage, concurrency) = (flight.weights.coverage(), flight.weights.concurrency());
    let is_known = !engine.identity.devices.is_empty() && coverage >= MIN_COVERAGE;
    Settled {
        share: is_known.then(|| EnergyShare {
            millijoules: taken,
            coverage,
            concurrency,
            uncertainty: uncertainty(concurrency, prompt.is_some()),
            method: "counter_window_tokens",
        }),
        after_gone: before_gone.filter(|_| is_known).map(|before| taken - before),
    }
}

fn waste(call: &FinishedCall, flight: &Flight, millijoules: Option<u64>) -> Option<Waste> {
    let (since, chunks) = flight.gone?;
    let lasted = call.timing.end.since(since);
    // A server that stops at once has wasted nothing; some milliseconds pass before it knows.
    let is_waste = lasted > NOTICED;
    is_waste.then(|| Waste { since, lasted, chunks: Some((flight.chunks - chunks).max(0.0) as u64), millijoules })
}

fn phases(call: &FinishedCall) -> Phases {
    let timing = &call.timing;
    Phases { start: timing.start, first_chunk: timing.first_chunk, last_chunk: timing.last_chunk, end: timing.end }
}

/// Tokens between which there is a gap.
fn gaps(call: &FinishedCall) -> u64 {
    let output = call.facts.as_ref().and_then(|facts| facts.usage.output);
    output.unwrap_or(call.chunk_count).saturating_sub(1)
}

/// Tokens of the prompt that had to be read.
fn prompt_of(call: &FinishedCall) -> Option<u64> {
    let usage = &call.facts.as_ref()?.usage;
    Some(usage.input?.saturating_sub(usage.cache_read.unwrap_or(0)))
}

fn model_of(call: &FinishedCall) -> Option<String> {
    let facts = call.facts.as_ref()?;
    facts.response.model.clone().or_else(|| facts.request.model.clone())
}

/// What a call that ended well took.
fn taken(call: &FinishedCall) -> Taken {
    let timing = &call.timing;
    if !matches!(call.completion, Some(Completion::Done | Completion::Length)) || !call.streamed {
        return Taken::default();
    }
    let decode = timing.first_chunk.zip(timing.last_chunk).map(|(first, last)| last.since(first));
    let per_token =
        decode.zip(u32::try_from(gaps(call)).ok().filter(|gaps| *gaps >= 4)).map(|(time, gaps)| time / gaps);
    Taken {
        prompt: prompt_of(call),
        first_token: timing.first_chunk.map(|first| first.since(timing.start)),
        output_token: per_token,
        gap: call.gaps.max(),
    }
}
