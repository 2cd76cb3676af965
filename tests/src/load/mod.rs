//! The load generator: `inferscope-load`, a server, its clients and programs that have nothing to do with either.
//!
//! Every byte that is sent follows from the number of the call and from its [`Shape`](wire::Shape): the server makes its
//! answer from them, the client compares what comes with them byte by byte, and who reads what an agent said of a call
//! can do the same. Requests start when the schedule says and not when the last one is answered, and times count from
//! the moment a request was due: a server that is slow is measured as slow by every request that it keeps waiting.
//!
//! Here is what is pure: the bytes ([`wire`]), the schedule ([`schedule`]) and what is asked of the programs and told
//! by them ([`order`]). The programs themselves need the system's libssl and come with the feature `load`. To add a
//! program: an order and an account in [`order`], a file here, a mode in `bin/load.rs`.

#[cfg(feature = "load")]
pub mod bystander;
#[cfg(feature = "load")]
pub mod driver;
#[cfg(feature = "load")]
pub mod flood;
pub mod order;
#[cfg(feature = "load")]
pub mod pair;
pub mod schedule;
#[cfg(feature = "load")]
pub mod server;
#[cfg(feature = "load")]
pub mod slices;
#[cfg(feature = "load")]
pub mod tls;
pub mod wire;
