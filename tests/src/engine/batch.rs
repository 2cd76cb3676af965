//! Which sequences the next step computes: continuous batching with chunked prefill. Pure.
//!
//! Owns the queue and the batch. A step goes first to what is under way, one token for each sequence that decodes and
//! as much of a prompt as fits, and what is left of its tokens to those that wait, in the order they came. So at most
//! one prompt is begun and not finished, and it stands behind everyone that decodes. What a step takes is `cost`; whose
//! energy it was is `books`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::cost::{DECODE_WEIGHT, MAX_BATCH, MAX_STEP_TOKENS, PROMPT_WEIGHT, Work};

/// A request as the engine core knows it: numbers, no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The front's number of it.
    pub id: u64,
    /// Tokens of the prompt, at least one.
    pub prompt: u32,
    /// How many of them need not be computed; fewer than `prompt`, because the last one gives the first answer.
    pub cached: u32,
    /// Tokens of the answer, at least one.
    pub output: u32,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    asked: Asked,
    /// Tokens of the prompt with keys and values.
    prefilled: u32,
    generated: u32,
}

/// What one step does for one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The request.
    pub id: u64,
    /// Tokens of its prompt that are computed; zero if it decodes.
    pub prefill: u32,
    /// Tokens with keys and values once the step is over.
    pub context: u32,
    /// Whether the step gives a token of the answer: always, but for a prompt that is not finished by it.
    pub yields: bool,
    /// Whether it is the request's first step.
    pub admitted: bool,
}

impl Item {
    /// What it weighs when the step's energy is divided. The token that ends a prompt is what the prompt was computed
    /// for, and weighs nothing beside it.
    pub fn weight(&self) -> u64 {
        if self.prefill == 0 { DECODE_WEIGHT } else { u64::from(self.prefill) * PROMPT_WEIGHT }
    }
}

/// A token that a step gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The request.
    pub id: u64,
    /// Which token of the answer, from one.
    pub number: u32,
    /// Whether the answer ends with it.
    pub last: bool,
}

/// The requests that wait and those that are computed.
#[derive(Debug, Default)]
pub struct Batch {
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
}

/// How much a step computes.
pub fn work(step: &[Item]) -> Work {
    Work {
        tokens: step.iter().map(|item| u64::from(item.prefill.max(1))).sum(),
        context: step.iter().map(|item| u64::from(item.context)).sum(),
    }
}

impl Batch {
    /// Puts a request at the end of the queue.
    pub fn submit(&mut self, asked: Asked) {
        self.waiting.push_back(Sequence { asked, prefilled: asked.cached, generated: 0 });
    }

    /// Takes a request out, wherever it is. Returns how many tokens it was given; `None` if it is not here.
    pub fn cancel(&mut self, id: u64) -> Option<u32> {
        if let Some(at) = self.running.iter().position(|sequence| sequence.asked.id == id) {
            return Some(self.running.remove(at).generated);
        }
        let at = self.waiting.iter().position(|sequence| sequence.asked.id == id)?;
        self.waiting.remove(at).map(|sequence| sequence.generated)
    }

    /// Every request that is here.
    pub fn ids(&self) -> Vec<u64> {
        self.running.iter().chain(&self.waiting).map(|sequence| sequence.asked.id).collect()
    }

    /// What the next step does, and admits to the batch whom it reaches; `None` if there is nothing to do.
    pub fn plan(&mut self) -> Option<Vec<Item>> {
        let mut left = MAX_STEP_TOKENS;
        let mut step = Vec::with_capacity(self.running.len());
        for sequence in &self.running {
            if left == 0 {
                break;
            }
            step.push(sequence.take(&mut left, false));
        }
        while left > 0 && self.running.len() < MAX_BATCH {
            let Some(sequence) = self.waiting.pop_front() else { break };
            step.push(sequence.take(&mut left, true));
            self.running.push(sequence);
        }
        (!step.is_empty()).then_some(step)
    }

    /// The step is over: its tokens, in its order. Requests that end with it are taken out.
    pub fn complete(&mut self, step: &[Item]) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(step.len());
        for item in step {
            let Some(at) = self.running.iter().position(|sequence| sequence.asked.id == item.id) else { continue };
            let sequence = &mut self.running[at];
            sequence.prefilled += item.prefill;
            if item.yields {
                sequence.generated += 1;
                let last = sequence.generated == sequence.asked.output;
                tokens.push(Token { id: item.id, number: sequence.generated, last });
                if last {
                    self.running.remove(at);
                }
            }
        }
        tokens
    }
}

impl Sequence {
    /// What of it goes into a step with `left` tokens, at least one.
    fn take(&self, left: &mut u32, admitted: bool) -> Item {
        let Self { asked, prefilled, generated } = *self;
        let missing = asked.prompt - prefilled;
        let prefill = missing.min(*left);
        *left -= prefill.max(1);
        let context = if missing == 0 { prefilled + generated } else { prefilled + prefill };
        Item { id: asked.id, prefill, context, yields: prefill == missing, admitted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(id: u64, prompt: u32, cached: u32, output: u32) -> Asked {
        Asked { id, prompt, cached, output }
    }

    /// Plans and completes one step, and says what it was: (id, prefilled, whether it gave a token).
    fn step(batch: &mut Batch) -> (Vec<(u64, u32, bool)>, Vec<Token>) {
        let step = batch.plan().unwrap_or_default();
        let tokens = batch.complete(&step);
        (step.iter().map(|item| (item.id, item.prefill, item.yields)).collect(), tokens)
    }

    #[test]
    fn a_long_prompt_takes_several_steps_and_decoding_goes_on_beside_it() {
        let mut batch = Batch::default();
        batch.submit(asked(1, 10, 0, 3));
        assert_eq!(step(&mut batch).0, [(1, 10, true)]);
        batch.submit(asked(2, 5_000, 500, 1));
        assert_eq!(step(&mut batch).0, [(1, 0, true), (2, 2_047, false)]);
        let (items, tokens) = step(&mut batch);
        assert_eq!(items, [(1, 0, true), (2, 2_047, false)]);
        assert_eq!(tokens, [Token { id: 1, number: 3, last: true }]);
        // 4,500 tokens had to be computed: 2,047 twice, and 406.
        let (items, tokens) = step(&mut batch);
        assert_eq!((items, tokens), (vec![(2, 406, true)], vec![Token { id: 2, number: 1, last: true }]));
        assert_eq!(batch.plan(), None);
    }

    #[test]
    fn who_does_not_fit_waits_in_order() {
        let mut batch = Batch::default();
        for id in 0..300 {
            batch.submit(asked(id, 1, 0, 2));
        }
        assert_eq!(step(&mut batch).0.len(), MAX_BATCH);
        // The first 256 end together; only then is there room.
        let (items, tokens) = step(&mut batch);
        assert!(items.iter().all(|(id, ..)| *id < 256) && tokens.iter().all(|token| token.last));
        assert_eq!(step(&mut batch).0.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), (256..300).collect::<Vec<_>>());
    }

    #[test]
    fn a_step_never_computes_more_than_its_tokens() {
        let mut batch = Batch::default();
        for id in 0..40 {
            batch.submit(asked(id, 50 + 97 * id as u32, 7, 1 + 13 * id as u32 % 50));
        }
        let mut given = 0;
        while let Some(items) = batch.plan() {
            assert!(work(&items).tokens <= u64::from(MAX_STEP_TOKENS) && items.len() <= MAX_BATCH);
            given += batch.complete(&items).len();
        }
        assert_eq!(given, (0..40).map(|id| 1 + 13 * id % 50).sum::<usize>());
    }

    #[test]
    fn a_cancelled_request_is_out_wherever_it_was() {
        let mut batch = Batch::default();
        batch.submit(asked(1, 4_000, 0, 5));
        batch.submit(asked(2, 1, 0, 5));
        let first = batch.plan().unwrap();
        assert_eq!(batch.cancel(2), Some(0));
        // Cancelled while its step runs: the step's result is dropped.
        assert_eq!(batch.cancel(1), Some(0));
        assert!(batch.complete(&first).is_empty());
        assert_eq!((batch.plan(), batch.cancel(1)), (None, None));
        batch.submit(asked(3, 1, 0, 5));
        step(&mut batch);
        step(&mut batch);
        assert_eq!((batch.ids(), batch.cancel(3)), (vec![3], Some(2)));
    }

    #[test]
    fn work_and_weight_follow_from_tokens() {
        let mut batch = Batch::default();
        batch.submit(asked(1, 100, 40, 3));
        let first = batch.plan().unwrap();
        assert_eq!(work(&first), Work { tokens: 60, context: 100 });
        assert_eq!((first[0].weight(), first[0].admitted), (60 * PROMPT_WEIGHT, true));
        batch.complete(&first);
        let second = batch.plan().unwrap();
        assert_eq!(work(&second), Work { tokens: 1, context: 101 });
        assert_eq!((second[0].weight(), second[0].admitted), (DECODE_WEIGHT, false));
    }
}
