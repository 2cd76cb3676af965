//! A stand-in for an inference engine such as vLLM, made of processes of its own: a front that serves HTTP, an engine
//! core that batches, and workers that have the devices. It says that it is a stand-in, computes nothing, and waits as
//! long as a model of a GPU says that a step takes.
//!
//! What is behind one call must be found out from outside, as with a real engine: the processes are related by birth
//! and by sockets only, the worker that has the GPU never sees the client, and a step serves many requests. What there
//! is to find is written down ([`truth`]): times, tokens, energy, who computed it. Faults are injected by a POST of a
//! [`message::Fault`] to `/control`.
//!
//! | file | owns |
//! |---|---|
//! | [`cost`], [`batch`], [`books`], [`answer`] | arithmetic: pure, with the unit tests |
//! | [`serve`], [`front`], [`task`] | the front |
//! | [`engine_core`], [`worker`], [`child`], [`cudart`] | the other processes |
//! | [`message`] | what they say to each other |
//! | [`timeline`], [`truth`] | what they write: the fake GPU's time line, the truth |
//! | [`MockEngine`] | an engine as a test has it |
//! | [`load`], [`client`], [`random`] | requests at random times, and what came of them |
//!
//! To add a fault: a variant in [`message`], and its arm in `Core::accept` or `worker::carry_out`.

pub mod answer;
pub mod batch;
pub mod books;
pub mod child;
#[cfg(feature = "server")]
pub mod client;
pub mod cost;
pub mod cudart;
pub mod engine_core;
#[cfg(feature = "server")]
pub mod front;
mod harness;
#[cfg(feature = "server")]
pub mod load;
pub mod message;
pub mod random;
#[cfg(feature = "server")]
pub mod serve;
#[cfg(feature = "server")]
pub mod task;
pub mod timeline;
pub mod truth;
pub mod worker;

pub use harness::{MockEngine, Options};
