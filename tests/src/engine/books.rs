//! What each request was given: times, tokens and its share of every step's energy. Pure.
//!
//! A step's energy is known only when the device's power changes next, when the step after it begins or the device
//! falls idle: what lies between two steps that follow each other belongs to the first. So a request that ended is told
//! one settlement later.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    batch::{Item, Token},
    cost::split,
};

/// How a request left the engine core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// All tokens that were asked for were generated.
    Length,
    /// The front took it back.
    Cancelled,
    /// The engine was told to stop.
    Stopped,
}

/// What a request was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Begin of its first step, `CLOCK_MONOTONIC` nanoseconds; absent if it had none.
    pub admitted_ns: Option<u64>,
    /// End of the step that gave its first token.
    pub first_token_ns: Option<u64>,
    /// End of the step that gave its last token.
    pub last_token_ns: Option<u64>,
    /// Tokens that were generated.
    pub tokens: u32,
    /// Steps that it was part of.
    pub steps: u32,
    /// Its shares of their energy on all devices, microjoules.
    pub energy_uj: u64,
}

/// A request whose account is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The request.
    pub id: u64,
    /// How it left.
    pub left: Left,
    /// What it was given.
    pub account: Account,
}

/// The accounts.
#[derive(Debug, Default)]
pub struct Books {
    accounts: HashMap<u64, Account>,
    /// Who was part of the step whose energy is not known yet, with weights.
    open: Vec<(u64, u64)>,
    /// Who has left, and is told when the open step is settled.
    left: Vec<(u64, Left)>,
}

impl Books {
    /// A request came.
    pub fn enter(&mut self, id: u64) {
        self.accounts.insert(id, Account::default());
    }

    /// A step began. The one before it must be settled.
    pub fn begin(&mut self, step: &[Item], at_ns: u64) {
        for item in step {
            let account = self.accounts.entry(item.id).or_default();
            account.steps += 1;
            if item.admitted {
                account.admitted_ns = Some(at_ns);
            }
        }
        self.open = step.iter().map(|item| (item.id, item.weight())).collect();
    }

    /// The step ended and gave these tokens.
    pub fn end(&mut self, tokens: &[Token], at_ns: u64) {
        for token in tokens {
            let account = self.accounts.entry(token.id).or_default();
            account.tokens = token.number;
            account.first_token_ns.get_or_insert(at_ns);
            account.last_token_ns = Some(at_ns);
            if token.last {
                self.leave(token.id, Left::Length);
            }
        }
    }

    /// A request has left; what it is owed of the open step is still to come.
    pub fn leave(&mut self, id: u64, how: Left) {
        self.left.push((id, how));
    }

    /// The open step took this much energy on all devices together. Returns the accounts that are closed by it.
    pub fn settle(&mut self, energy_uj: u64) -> Vec<Closed> {
        let (ids, weights): (Vec<u64>, Vec<u64>) = std::mem::take(&mut self.open).into_iter().unzip();
        for (id, share) in ids.into_iter().zip(split(energy_uj, &weights)) {
            if let Some(account) = self.accounts.get_mut(&id) {
                account.energy_uj += share;
            }
        }
        let closed = |(id, left)| Some(Closed { id, left, account: self.accounts.remove(&id)? });
        std::mem::take(&mut self.left).into_iter().filter_map(closed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::batch::{Asked, Batch},
        *,
    };

    #[test]
    fn shares_add_up_to_the_steps_and_nobody_is_forgotten() {
        let (mut batch, mut books) = (Batch::default(), Books::default());
        for id in 0..60 {
            batch.submit(Asked { id, prompt: 1 + 97 * id as u32, cached: 0, output: 1 + id as u32 % 7 });
            books.enter(id);
        }
        let (mut closed, mut total, mut clock) = (Vec::new(), 0, 0);
        while let Some(step) = batch.plan() {
            books.begin(&step, clock);
            clock += 10;
            books.end(&batch.complete(&step), clock);
            if clock == 50 {
                let cancelled = batch.ids()[0];
                batch.cancel(cancelled);
                books.leave(cancelled, Left::Cancelled);
            }
            let energy = 1_000_003 + clock * 7;
            total += energy;
            closed.extend(books.settle(energy));
        }
        assert_eq!(closed.len(), 60);
        assert_eq!(closed.iter().map(|closed| closed.account.energy_uj).sum::<u64>(), total);
        assert_eq!(closed.iter().filter(|closed| closed.left == Left::Cancelled).count(), 1);
        for Closed { id, left, account } in closed {
            if left == Left::Length {
                assert_eq!(u64::from(account.tokens), 1 + id % 7);
                assert!(
                    account.admitted_ns < account.first_token_ns && account.first_token_ns <= account.last_token_ns
                );
            }
        }
    }

    #[test]
    fn who_leaves_is_told_once_the_step_is_paid_for() {
        let mut books = Books::default();
        books.enter(1);
        let item = Item { id: 1, prefill: 5, context: 5, yields: true, admitted: true };
        books.begin(&[item], 100);
        books.end(&[Token { id: 1, number: 1, last: true }], 200);
        let account = Account {
            admitted_ns: Some(100),
            first_token_ns: Some(200),
            last_token_ns: Some(200),
            tokens: 1,
            steps: 1,
            energy_uj: 77,
        };
        assert_eq!(books.settle(77), [Closed { id: 1, left: Left::Length, account }]);
        assert_eq!(books.settle(5), []);
    }

    #[test]
    fn who_never_had_a_step_has_no_times() {
        let mut books = Books::default();
        books.enter(4);
        books.leave(4, Left::Cancelled);
        assert_eq!(books.settle(0), [Closed { id: 4, left: Left::Cancelled, account: Account::default() }]);
    }
}
