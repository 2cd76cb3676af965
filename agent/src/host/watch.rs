//! Reading who a process is, once, while it is there to be asked.

use std::collections::HashMap;

use procfs::process::Process;

use super::{ProcessIdentity, container};
use crate::record::{self, Origin, Record};

/// Processes remembered. Beyond it the memory starts over, which costs reading again.
const MAX_PROCESSES: usize = 65_536;

/// Watches the stream of records for processes that are new, and reads `/proc` for them before their first record
/// is passed on: a short-lived program may be gone a moment later.
#[derive(Default)]
pub struct ProcessWatch {
    known: HashMap<u32, u64>,
}

impl ProcessWatch {
    /// A [`Record::Process`], encoded, that must go before this record; `None` nearly always.
    pub fn before(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        match record {
            Record::Data(origin, _) | Record::TlsHeader(origin, _) => {
                if self.known.get(&origin.tgid) == Some(&origin.start_ns) {
                    return None;
                }
                if self.known.len() >= MAX_PROCESSES {
                    self.known.clear();
                }
                self.known.insert(origin.tgid, origin.start_ns);
                Some(record::encode_process(origin, &read(origin)))
            }
            // Another program under the same pid.
            Record::Exec { origin } | Record::Exit { origin, .. } => {
                self.known.remove(&origin.tgid);
                None
            }
            _ => None,
        }
    }
}

/// What `/proc` says now. Absent is what could not be read.
fn read(origin: &Origin) -> ProcessIdentity {
    let mut identity = ProcessIdentity { pid: origin.tgid, start_boottime_ns: origin.start_ns, ..Default::default() };
    let Ok(process) = i32::try_from(origin.tgid).map_err(drop).and_then(|pid| Process::new(pid).map_err(drop)) else {
        return identity;
    };
    identity.uid = process.status().ok().map(|status| status.ruid);
    identity.comm = process.stat().ok().map(|stat| stat.comm);
    identity.executable = process.exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    identity.container_id = process
        .cgroups()
        .ok()
        .and_then(|groups| groups.into_iter().find_map(|group| container::id_of(&group.pathname).map(str::to_owned)));
    identity
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Data, Direction, ObjectId, Source},
        time::Mono,
    };

    fn data(tgid: u32, start_ns: u64) -> Record<'static> {
        let origin = Origin { time: Mono(1), tgid, tid: tgid, start_ns };
        let data = Data {
            stream: ObjectId { address: 1, generation: 1 },
            offset: 0,
            skipped: 0,
            total: 0,
            turn: 0,
            direction: Direction::Read,
            source: Source::Syscall,
            overhead: 0,
            payload: b"",
        };
        Record::Data(origin, data)
    }

    #[test]
    fn a_process_is_read_once_and_again_after_its_exec_or_a_reuse_of_its_pid() {
        let mut watch = ProcessWatch::default();
        let me = std::process::id();
        let encoded = watch.before(&data(me, 5)).unwrap();
        let Ok(Record::Process(_, identity)) = record::parse(&encoded) else { panic!("no process record") };
        assert!(identity.comm.is_some() && identity.executable.is_some() && identity.uid.is_some());
        assert_eq!(watch.before(&data(me, 5)), None);
        assert!(watch.before(&data(me, 6)).is_some());
        let origin = Origin { time: Mono(2), tgid: me, tid: me, start_ns: 6 };
        assert_eq!(watch.before(&Record::Exec { origin }), None);
        assert!(watch.before(&data(me, 6)).is_some());
    }
}
