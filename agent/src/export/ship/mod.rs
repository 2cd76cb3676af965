//! What is durable here, to a collector, once.
//!
//! Owns the agent's side of the stream `inferscope.v1.Ship` (its rules are in `proto/inferscope/v1/ship.proto`): what may be
//! sent and what an acknowledgement means (`session`), the form of a batch (`batch`), the stream and its repetition
//! (`client`), the connection below it (`connect`). What is sent comes from the log, and so does the memory of what was
//! acknowledged: a cursor that is moved only after the collector's word. Nothing is held in memory but what is on its way,
//! which the collector's credit bounds.
//!
//! A receiver that is away, refuses our certificate or speaks nonsense never costs an item: the log's budget alone does.
//!
//! To add a message: a field in the protocol, its check in `session`, its handling in `client`.

mod batch;
mod client;
mod connect;
mod session;
mod settings;

pub use client::{ShipCounts, ShipExporter};
pub use session::Fault;
pub use settings::{Identity, ShipError, ShipSettings};
