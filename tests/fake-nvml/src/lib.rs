//! A stand-in for NVIDIA's `libnvidia-ml.so.1`, for what a machine without a GPU can't have: it answers NVML's calls
//! from a script. It touches no device, and what it says is true of none; where a real driver's behaviour is not
//! documented, the doc of the call says what was assumed.
//!
//! As a `cdylib` it is loaded in place of the driver's library, with `Nvml::builder().lib_path(..)`, and reads the time
//! line that [`timeline::ENV`] names. As an `rlib` it is what tests write time lines with ([`timeline`]) and find the
//! library by ([`library`]).
//!
//! What happens when: [`timeline`] is the format, `script` reads it, `device` gives it a meaning, `driver` is what every
//! call goes through, and `calls` are the symbols. To add a call, see `calls`.

mod calls;
mod code;
mod device;
mod driver;
pub mod library;
mod script;
mod series;
pub mod timeline;
