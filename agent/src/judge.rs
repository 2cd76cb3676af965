//! Judging processes while a capture runs: each that runs another program, when the kernel reports it.
//!
//! Owns what was decided of whom, and tells the kernel. Between the exec and the decision the kernel copies; what it
//! copied of a process that is not wanted is kept out here, before a recording or the pipeline has it. The meaning of
//! the selectors is that of `targets`.

use std::collections::HashMap;

use inferscope_common::targets::{EXCLUDED, WANTED};

use crate::{
    host,
    kernel::TargetTable,
    record::Record,
    targets::{Subject, Targets},
};

/// Processes whose judgement is remembered. Beyond it the memory starts over: the kernel's list still holds.
const MAX_JUDGED: usize = 65_536;

/// Who is told. The kernel's list is the only one that there is outside of tests.
pub trait Listing {
    /// Flags of a process, 0 if it is not listed.
    fn flags(&self, tgid: u32) -> u32;
    /// Replaces what was listed of a process.
    fn judge(&self, tgid: u32, flags: u32);
}

impl Listing for TargetTable {
    fn flags(&self, tgid: u32) -> u32 {
        self.flags(tgid)
    }

    fn judge(&self, tgid: u32, flags: u32) {
        self.judge(tgid, flags);
    }
}

/// Decides per record.
pub struct Judge<L = TargetTable> {
    targets: Targets,
    table: L,
    judged: HashMap<u32, u32>,
    look: fn(u32) -> Subject,
}

impl<L: Listing> Judge<L> {
    /// A judge, if the kernel's list alone does not decide.
    pub fn new(targets: &Targets, table: L) -> Option<Self> {
        targets.needs_judge().then(|| Self {
            targets: targets.clone(),
            table,
            judged: HashMap::new(),
            look: host::subject,
        })
    }

    /// Whether a record may go on. Judges on the way.
    pub fn admits(&mut self, record: &Record<'_>) -> bool {
        match record {
            Record::Exec { origin } => {
                self.judge(origin.tgid);
                true
            }
            Record::Fork { origin, child, .. } => {
                match self.judged.get(&origin.tgid).copied() {
                    Some(flags) => {
                        self.remember(*child, flags);
                        // It may have been made before its parent was judged.
                        if !self.is_wanted(flags) {
                            self.table.judge(*child, flags);
                        }
                    }
                    None => {
                        self.judged.remove(child);
                    }
                }
                true
            }
            Record::Exit { origin, .. } => {
                self.judged.remove(&origin.tgid);
                true
            }
            Record::Data(origin, _)
            | Record::Socket(origin, _)
            | Record::TlsBind { origin, .. }
            | Record::TlsRecords(origin, _)
            | Record::TlsPlain { origin, .. }
            | Record::TlsHeader(origin, _)
            | Record::TlsHello(origin, _)
            | Record::FileOpen(origin, _)
            | Record::Listen(origin, _)
            | Record::CudaStep(origin, _)
            | Record::CudaAllocFailed(origin, _)
            | Record::TlsClose { origin, .. } => {
                // Who was not judged was running before and was listed then, or would not be heard of.
                self.judged.get(&origin.tgid).is_none_or(|&flags| self.is_wanted(flags))
            }
            Record::SocketState(..)
            | Record::Retransmit(..)
            | Record::SendLimits(..)
            | Record::OomVictim { .. }
            | Record::Process(..)
            | Record::Host(..)
            | Record::Gpu(..) => true,
        }
    }

    fn judge(&mut self, tgid: u32) {
        let known = self.judged.get(&tgid).copied().unwrap_or(0) | self.table.flags(tgid);
        let subject = (self.look)(tgid);
        let chosen = known & WANTED != 0 || self.targets.include.matches(&subject);
        let excluded = self.targets.exclude.matches(&subject);
        let flags = if chosen { WANTED } else { 0 } | if excluded { EXCLUDED } else { 0 };
        self.remember(tgid, flags);
        self.table.judge(tgid, flags);
    }

    fn remember(&mut self, tgid: u32, flags: u32) {
        if self.judged.len() >= MAX_JUDGED {
            self.judged.clear();
        }
        self.judged.insert(tgid, flags);
    }

    fn is_wanted(&self, flags: u32) -> bool {
        flags & EXCLUDED == 0 && (flags & WANTED != 0 || self.targets.include.has_no_process())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use crate::{
        record::{ObjectId, Origin},
        targets::Selectors,
        time::Mono,
    };

    #[derive(Clone, Default)]
    struct List(Rc<RefCell<HashMap<u32, u32>>>);

    impl Listing for List {
        fn flags(&self, tgid: u32) -> u32 {
            self.0.borrow().get(&tgid).copied().unwrap_or(0)
        }

        fn judge(&self, tgid: u32, flags: u32) {
            self.0.borrow_mut().insert(tgid, flags);
        }
    }

    /// Even pids run what is wanted.
    fn look(pid: u32) -> Subject {
        let exe = if pid.is_multiple_of(2) { "/opt/wanted" } else { "/opt/other" };
        Subject { pid, exe: exe.to_owned(), ..Subject::default() }
    }

    fn of(tgid: u32) -> Origin {
        Origin { time: Mono(0), tgid, tid: tgid, start_ns: 1 }
    }

    fn traffic(tgid: u32) -> Record<'static> {
        Record::TlsClose { origin: of(tgid), tls: ObjectId { address: 1, generation: 1 } }
    }

    fn judge(include: &[&str], exclude: &[&str]) -> (Judge<List>, List) {
        let exes = |patterns: &[&str]| Selectors {
            exes: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            ..Selectors::default()
        };
        let targets = Targets { include: exes(include), exclude: exes(exclude) };
        let list = List::default();
        let mut judge = Judge::new(&targets, list.clone()).unwrap();
        judge.look = look;
        (judge, list)
    }

    #[test]
    fn what_names_decide_needs_no_judge() {
        let named =
            Selectors { comms: vec!["curl".to_owned()], pids: vec![1], ports: vec![80], ..Selectors::default() };
        let targets = Targets { include: named, exclude: Selectors::default() };
        assert!(Judge::new(&targets, List::default()).is_none());
    }

    #[test]
    fn each_program_is_judged_when_it_begins() {
        let (mut judge, list) = judge(&["/opt/wanted"], &[]);
        for pid in [2, 3] {
            assert!(judge.admits(&Record::Exec { origin: of(pid) }));
        }
        assert!(judge.admits(&traffic(2)) && !judge.admits(&traffic(3)));
        assert_eq!((list.flags(2), list.flags(3)), (WANTED, 0));
        assert!(judge.admits(&traffic(5)), "listed before the agent could judge");
    }

    #[test]
    fn a_child_is_what_its_parent_is_until_it_runs_another_program() {
        let (mut judge, list) = judge(&["/opt/wanted"], &["/opt/other"]);
        for (parent, child) in [(2, 7), (3, 8)] {
            judge.admits(&Record::Exec { origin: of(parent) });
            judge.admits(&Record::Fork { origin: of(parent), child, child_start_ns: 2 });
        }
        assert!(judge.admits(&traffic(7)) && !judge.admits(&traffic(8)));
        judge.admits(&Record::Exec { origin: of(8) });
        assert!(judge.admits(&traffic(8)));
        // Its child was chosen with it, but runs what is excluded.
        judge.admits(&Record::Exec { origin: of(7) });
        assert!(!judge.admits(&traffic(7)));
        assert_eq!(list.flags(7), WANTED | EXCLUDED);
    }

    #[test]
    fn an_end_is_forgotten() {
        let (mut judge, _) = judge(&[], &["/opt/other"]);
        judge.admits(&Record::Exec { origin: of(3) });
        assert!(!judge.admits(&traffic(3)));
        judge.admits(&Record::Exit { origin: of(3), status: 0 });
        assert!(judge.admits(&traffic(3)), "another process with its pid");
    }
}
