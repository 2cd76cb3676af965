//! The central collector: receives what agents ship, stores it once, and answers questions about it.
//!
//! Owns the edges: listeners (`listen`, `tls`), who may do what (`auth`), what a stream of an agent may do (`intake`, `ship`), any
//! OpenTelemetry source (`otlp`), questions (`api` over `http`), and the whole with its start and end (`server`). What is stored and how it is asked for is the
//! business of [`store`]. Nothing is answered before the store has committed it.
//!
//! To add a service: its file here, its line in `server::serve`; who may call it is asked of `auth`.

mod api;
mod auth;
mod fresh;
mod http;
mod intake;
mod listen;
mod otlp;
mod server;
mod settings;
mod ship;
pub mod store;
mod tls;

pub use server::Collector;
pub use settings::{CollectorSettings, DEFAULT_DIR, DEFAULT_LISTEN, DEFAULT_UI};
pub use tls::ServerFiles;
