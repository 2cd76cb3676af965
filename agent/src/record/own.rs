//! Records that only userspace writes: who a process is, what was read of the host and of its GPUs. Owns their kinds, and how
//! they are written and read: as JSON behind the header of all records.

use inferscope_common::record as abi;

use super::{Origin, RecordError, reader::Reader};
use crate::{
    gpu::GpuRecord,
    host::{HostRecord, ProcessIdentity},
    time::Mono,
};

// Outside the range that kernel programs use.
/// [`Record::Process`](super::Record::Process)
pub(super) const PROCESS: u16 = 0x100;
/// [`Record::Host`](super::Record::Host)
pub(super) const HOST: u16 = 0x101;
/// [`Record::Gpu`](super::Record::Gpu)
pub(super) const GPU: u16 = 0x102;

/// Writes a [`Record::Process`](super::Record::Process).
pub fn encode_process(origin: &Origin, identity: &ProcessIdentity) -> Vec<u8> {
    encode(PROCESS, origin, identity)
}

/// Writes a [`Record::Host`](super::Record::Host).
pub fn encode_host(at: Mono, host: &HostRecord) -> Vec<u8> {
    encode(HOST, &nobody(at), host)
}

/// Writes a [`Record::Gpu`](super::Record::Gpu).
pub fn encode_gpu(at: Mono, gpu: &GpuRecord) -> Vec<u8> {
    encode(GPU, &nobody(at), gpu)
}

fn nobody(time: Mono) -> Origin {
    Origin { time, tgid: 0, tid: 0, start_ns: 0 }
}

fn encode(kind: u16, origin: &Origin, body: &impl serde::Serialize) -> Vec<u8> {
    // Structs of strings and integers always serialise.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let len = size_of::<abi::Header>() + body.len();
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&(len as u32).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&origin.time.0.to_ne_bytes());
    out.extend_from_slice(&origin.tgid.to_ne_bytes());
    out.extend_from_slice(&origin.tid.to_ne_bytes());
    out.extend_from_slice(&origin.start_ns.to_ne_bytes());
    out.extend_from_slice(&body);
    out
}

/// Reads what one of them says.
pub(super) fn read<T: serde::de::DeserializeOwned>(r: &mut Reader<'_>, what: &'static str) -> Result<T, RecordError> {
    serde_json::from_slice(r.rest()).map_err(|_| RecordError::BadMember(what))
}
