//! Opening a directory, whatever is in it.
//!
//! Owns how a log's position is found. Headers of segments say which are there; the newest file that can have had items of this
//! life says, by its frames, which seq comes next. Where its end is damaged, as many seqs are left out as it can have had there:
//! a seq never gets other bytes. Older segments are read when somebody reads them. What is none of the log's is moved to
//! quarantine and reported.

use std::{
    any::Any,
    io,
    path::{Path, PathBuf},
};

use super::{
    files::{Entry, Files, read_small},
    format::{Epoch, Head, NOTE_BYTES, Note, NoteFault, SegmentHeader, first_seq_of, frames_within},
    reader::is_name,
    report::{Fault, Finding, OpenReport, WalError, keep},
    scan::{Cipher, Frames, Opened, Step},
    seal::MasterKey,
    settings::Layout,
    shared::HALF,
    table::{Cursor, Gap, GapReason, Segment, Table, push_gap},
};

/// How often something is read before it is taken for unreadable: what fails once in a while must not cost a backlog.
const TRIES: u32 = 5;

/// How often another name is tried when one is taken.
const NAMES: u32 = 1000;

/// A log's state when it was opened.
pub(crate) struct Recovered {
    pub epoch: Epoch,
    pub next_seq: u64,
    /// The identity on disk is not this epoch's.
    pub nameless: bool,
    pub table: Table,
    pub report: OpenReport,
    pub quarantine_bytes: u64,
    pub foreign_items: u64,
    pub lock: Box<dyn Any + Send + Sync>,
}

/// What a file that has, or had, items says of them.
struct Evidence {
    first_seq: u64,
    len: u64,
    path: PathBuf,
    what: What,
}

enum What {
    /// A segment, which is locked when this key does not open it.
    Segment { locked: bool },
    /// Had items, as its name says.
    Lost(GapReason),
}

/// Opens the directory. `draw` gives a new epoch.
pub(crate) fn recover(
    files: &dyn Files,
    layout: &Layout,
    key: Option<&MasterKey>,
    draw: impl FnOnce() -> Result<Epoch, WalError>,
) -> Result<Recovered, WalError> {
    again(|| files.make_dir(&layout.dir)).map_err(WalError::directory(&layout.dir))?;
    let lock = lock(files, layout)?;
    let mut recovery =
        Recovery { files, layout, key, report: OpenReport::default(), evidence: Vec::new(), quarantine_bytes: 0 };
    for dir in [&layout.quarantine, &layout.segments, &layout.cursors] {
        recovery.make_dir(dir)?;
    }
    if let Err(error) = files.sync_dir(&layout.dir) {
        recovery.find(&layout.dir, Fault::Io(error.to_string()));
    }
    // What is in a new directory is worth nothing if that goes itself. One that may not be read was not made by us.
    if let Some(parent) = layout.dir.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        if let Err(error) = files.sync_dir(parent) {
            tracing::debug!(%error, dir = %parent.display(), "a directory cannot be synced");
        }
    }
    let note = recovery.identity();
    let found = recovery.segments()?;
    let newest = found.iter().rev().find_map(|(_, header)| header.as_ref().map(|header| header.epoch));
    // Every segment carries the epoch: a lost identity costs nothing while there is one.
    let known = note.or(newest);
    let foreign_items = recovery.classify(found, known);
    recovery.evidence.sort_by_key(|evidence| evidence.first_seq);
    let (epoch, new_epoch) = match known {
        // A life without a trace of an item: nothing was ever given its seqs, or nobody knows which.
        Some(epoch) if !recovery.evidence.is_empty() => (epoch, false),
        Some(_) | None => (draw()?, true),
    };
    recovery.report.epoch = epoch;
    recovery.report.new_epoch = new_epoch;
    let evicted = recovery.evicted(epoch);
    let cursors = recovery.cursors(epoch)?;
    let (next_seq, table) = recovery.table(evicted, cursors);
    let nameless = note != Some(epoch);
    let Recovery { mut report, quarantine_bytes, .. } = recovery;
    (report.next_seq, report.oldest_seq, report.bytes) = (next_seq, table.oldest(), table.used());
    let missing: u64 = report.gaps.iter().filter(|gap| gap.first_seq >= report.oldest_seq).map(Gap::items).sum();
    report.items = (next_seq - report.oldest_seq).saturating_sub(missing);
    Ok(Recovered { epoch, next_seq, nameless, table, report, quarantine_bytes, foreign_items, lock })
}

fn lock(files: &dyn Files, layout: &Layout) -> Result<Box<dyn Any + Send + Sync>, WalError> {
    let path = layout.lock();
    let locked = match again(|| files.lock(&path)) {
        // What is no file is no lock either. A file is left where it is, whatever the error: somebody may hold it.
        Err(_) if is_strange(files, &path) => {
            let _ = files.rename(&path, &free_name(files, &path, "foreign"));
            again(|| files.lock(&path))
        }
        locked => locked,
    };
    let locked = locked.map_err(WalError::directory(&path))?;
    locked.ok_or_else(|| WalError::Locked { dir: layout.dir.clone() })
}

/// Whether it is there and no file, so that nothing can be put in its place.
fn is_strange(files: &dyn Files, path: &Path) -> bool {
    let entries = path.parent().and_then(|dir| files.list(dir).ok()).unwrap_or_default();
    entries.iter().any(|entry| Some(&*entry.name) == path.file_name() && !entry.is_file)
}

/// A name beside `path` that nothing has.
fn free_name(files: &dyn Files, path: &Path, reason: &str) -> PathBuf {
    let taken = path.parent().and_then(|dir| files.list(dir).ok()).unwrap_or_default();
    let name = |n: u32| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(match n {
            0 => format!(".{reason}"),
            n => format!(".{reason}.{n}"),
        });
        name
    };
    let free = (0..NAMES).map(name).find(|name| !taken.iter().any(|entry| entry.name == *name));
    path.with_file_name(free.unwrap_or_else(|| name(NAMES)))
}

struct Recovery<'a> {
    files: &'a dyn Files,
    layout: &'a Layout,
    key: Option<&'a MasterKey>,
    report: OpenReport,
    evidence: Vec<Evidence>,
    quarantine_bytes: u64,
}

impl Recovery<'_> {
    fn find(&mut self, path: &Path, fault: Fault) {
        keep(&mut self.report.findings, Finding { path: path.to_owned(), fault, moved_to: None });
    }

    /// Moves something to quarantine and says where it is now.
    fn put_aside(&mut self, path: &Path, reason: &str, fault: Fault) -> PathBuf {
        let wanted = self.layout.quarantine.join(path.file_name().unwrap_or_default());
        let to = free_name(self.files, &wanted, reason);
        let moved = self.files.rename(path, &to);
        let moved_to = moved.is_ok().then(|| to.clone());
        keep(&mut self.report.findings, Finding { path: path.to_owned(), fault, moved_to });
        match moved {
            Ok(()) => to,
            Err(error) => {
                self.find(path, Fault::Io(format!("it cannot be moved to quarantine: {error}")));
                path.to_owned()
            }
        }
    }

    fn make_dir(&mut self, dir: &Path) -> Result<(), WalError> {
        if again(|| self.files.make_dir(dir)).is_ok() {
            return Ok(());
        }
        // Only what is surely no directory, such as a file or a link to nothing, is moved: others may hold a backlog.
        let other = self.files.list(dir).err().map(|error| error.kind());
        if matches!(other, Some(io::ErrorKind::NotADirectory | io::ErrorKind::NotFound)) {
            let aside = free_name(self.files, dir, "foreign");
            if self.files.rename(dir, &aside).is_ok() {
                let finding = Finding { path: dir.to_owned(), fault: Fault::Foreign, moved_to: Some(aside) };
                keep(&mut self.report.findings, finding);
            }
        }
        self.files.make_dir(dir).map_err(WalError::directory(dir))
    }

    /// What a note says, if it is there and right. Reports what is wrong with it.
    fn note(&mut self, path: &Path) -> Option<Note> {
        let fault = match again(|| read_small(self.files, path, NOTE_BYTES + 1)) {
            Ok(bytes) => match Note::decode(&bytes) {
                Ok(note) => return Some(note),
                Err(NoteFault::Damaged) => Fault::Damaged,
                Err(NoteFault::Newer(version)) => Fault::Newer(version),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(_) if is_strange(self.files, path) => Fault::Foreign,
            Err(error) => {
                self.find(path, Fault::Io(error.to_string()));
                return None;
            }
        };
        // So that a new one can take its place, and the old one is there for whoever wants to know.
        self.put_aside(path, "note", fault);
        None
    }

    fn identity(&mut self) -> Option<Epoch> {
        self.note(&self.layout.identity()).map(|note| note.epoch)
    }

    fn evicted(&mut self, epoch: Epoch) -> u64 {
        self.note(&self.layout.evicted()).filter(|note| note.epoch == epoch).map_or(0, |note| note.seq)
    }

    /// What may be a segment, by first seq, with its header where it is one. The rest goes to quarantine.
    fn segments(&mut self) -> Result<Vec<(Evidence, Option<SegmentHeader>)>, WalError> {
        let mut found = Vec::new();
        for Entry { name, is_file, len } in list(self.files, &self.layout.quarantine)? {
            self.quarantine_bytes += if is_file { len } else { 0 };
            let path = self.layout.quarantine.join(&name);
            let Some((seq, rest)) = name.to_str().and_then(|name| name.split_once(".seg.")) else { continue };
            let reason = match rest.split('.').next() {
                Some("unreadable") => GapReason::Unreadable,
                Some("damaged") => GapReason::Corrupt,
                Some(_) | None => continue,
            };
            let Some(first_seq) = first_seq_of(seq, "").filter(|_| is_file) else { continue };
            let header = match again(|| Opened::at(self.files, &path)).map(|opened| opened.head) {
                Ok(Head::Segment(header)) => Some(header),
                Ok(Head::Newer(_) | Head::Cut | Head::Foreign) | Err(_) => None,
            };
            found.push((Evidence { first_seq, len, path, what: What::Lost(reason) }, header));
        }
        for Entry { name, is_file, len } in list(self.files, &self.layout.segments)? {
            let path = self.layout.segments.join(&name);
            let Some(first_seq) = name.to_str().and_then(|name| first_seq_of(name, ".seg")).filter(|_| is_file) else {
                self.put_aside(&path, "foreign", Fault::Foreign);
                self.quarantine_bytes += if is_file { len } else { 0 };
                continue;
            };
            found.extend(self.segment(first_seq, len, path));
        }
        found.sort_by_key(|(evidence, _)| evidence.first_seq);
        Ok(found)
    }

    /// What a file with a segment's name is.
    fn segment(&mut self, first_seq: u64, len: u64, path: PathBuf) -> Option<(Evidence, Option<SegmentHeader>)> {
        let lost = |path, reason| Some((Evidence { first_seq, len, path, what: What::Lost(reason) }, None));
        let opened = match again(|| Opened::at(self.files, &path)) {
            Ok(opened) => opened,
            // It may be read later; a reader that cannot says so.
            Err(error) => {
                self.find(&path, Fault::Io(error.to_string()));
                return Some((Evidence { first_seq, len, path, what: What::Segment { locked: false } }, None));
            }
        };
        match opened.head {
            Head::Segment(header) if header.first_seq == first_seq => {
                let what = What::Segment { locked: matches!(Cipher::of(&header, self.key), Cipher::Locked) };
                Some((Evidence { first_seq, len: opened.len, path, what }, Some(header)))
            }
            // Its making was cut off before anything could be in it.
            Head::Cut if opened.len == 0 => {
                if let Err(error) = self.files.remove(&path) {
                    self.find(&path, Fault::Io(error.to_string()));
                }
                None
            }
            Head::Newer(version) => {
                self.find(&path, Fault::Newer(version));
                lost(path, GapReason::Unreadable)
            }
            head => {
                let fault = if head == Head::Cut { Fault::Cut } else { Fault::Damaged };
                let reason = if head == Head::Cut { "cut" } else { "damaged" };
                let at = self.put_aside(&path, reason, fault);
                self.quarantine_bytes += len;
                // Its name was the next seq, and nothing had it yet.
                if head == Head::Cut { None } else { lost(at, GapReason::Corrupt) }
            }
        }
    }

    /// Keeps what is of this life. Segments of another go to quarantine; says how many items those have.
    fn classify(&mut self, found: Vec<(Evidence, Option<SegmentHeader>)>, epoch: Option<Epoch>) -> u64 {
        let mut foreign = 0;
        let firsts: Vec<u64> = found.iter().map(|(evidence, _)| evidence.first_seq).collect();
        for (at, (mut evidence, header)) in found.into_iter().enumerate() {
            let other = header.is_some_and(|header| Some(header.epoch) != epoch);
            match &evidence.what {
                What::Lost(_) if other => continue,
                What::Segment { .. } if other => {
                    let most = frames_within(evidence.len);
                    let items = firsts.get(at + 1).map_or(most, |next| (next - evidence.first_seq).min(most));
                    foreign += items;
                    self.quarantine_bytes += evidence.len;
                    self.put_aside(&evidence.path, "epoch", Fault::OtherEpoch { items });
                    continue;
                }
                What::Segment { locked: true } => {
                    evidence.path = self.put_aside(&evidence.path, "unreadable", Fault::OtherKey);
                    evidence.what = What::Lost(GapReason::Unreadable);
                    self.quarantine_bytes += evidence.len;
                }
                What::Segment { .. } | What::Lost(_) => {}
            }
            self.evidence.push(evidence);
        }
        foreign
    }

    fn cursors(&mut self, epoch: Epoch) -> Result<Vec<(String, Option<u64>)>, WalError> {
        let mut cursors = Vec::new();
        for Entry { name, is_file, .. } in list(self.files, &self.layout.cursors)? {
            let path = self.layout.cursors.join(&name);
            match name.to_str() {
                Some(half) if half.ends_with(HALF) && is_file => {
                    if let Err(error) = self.files.remove(&path) {
                        self.find(&path, Fault::Io(error.to_string()));
                    }
                }
                Some(name) if is_name(name) => {
                    let note = self.note(&path);
                    // Of another life: of this one it has nothing.
                    let through = note.map(|note| if note.epoch == epoch { note.seq } else { 0 });
                    cursors.push((name.to_owned(), through));
                }
                Some(_) | None => {
                    self.put_aside(&path, "foreign", Fault::Foreign);
                }
            }
        }
        Ok(cursors)
    }

    /// The seq behind everything that the newest file can have had.
    fn end_of_newest(&mut self) -> io::Result<u64> {
        let Some(Evidence { first_seq, len, path, .. }) = self.evidence.last() else { return Ok(1) };
        let (first_seq, len, path) = (*first_seq, *len, path.clone());
        let opened = again(|| Opened::at(self.files, &path))?;
        let header = match opened.head {
            Head::Segment(header) => header,
            // A newer format may have smaller frames.
            Head::Newer(_) => return Ok(first_seq + len),
            Head::Cut | Head::Foreign => return Ok(first_seq + frames_within(len)),
        };
        // Positions need no key.
        let mut frames = Frames::new(opened.file, &header, Cipher::Locked, opened.len);
        let mut failures = 0;
        let (last, lost) = loop {
            match frames.step() {
                Ok(Step::Frame(_)) => {}
                Ok(Step::Cut(header)) => break (header.seq - 1, 1),
                Ok(Step::End { rest }) => break (frames.last(), frames_within(rest)),
                Err(error) => {
                    failures += 1;
                    if failures > len / 1024 + 16 {
                        return Err(error);
                    }
                }
            }
        };
        if last + lost < first_seq {
            // Its making was cut off behind the header. The name is the next segment's.
            if let Err(error) = self.files.remove(&path) {
                self.find(&path, Fault::Io(error.to_string()));
            }
            self.evidence.pop();
        }
        if lost > 0 {
            self.find(&path, Fault::TornTail { bytes: len.saturating_sub(frames.good_end()) });
            let gap = Gap { first_seq: last + 1, last_seq: last + lost, reason: GapReason::Corrupt };
            push_gap(&mut self.report.gaps, gap);
        }
        Ok(last + lost + 1)
    }

    fn table(&mut self, evicted: u64, cursors: Vec<(String, Option<u64>)>) -> (u64, Table) {
        let newest = self
            .evidence
            .last()
            .map(|evidence| (evidence.first_seq + frames_within(evidence.len), evidence.path.clone()));
        let end = match self.end_of_newest() {
            Ok(end) => end,
            Err(error) => {
                let (end, path) = newest.unwrap_or_default();
                self.find(&path, Fault::Io(error.to_string()));
                end.max(1)
            }
        };
        let passed = cursors.iter().filter_map(|(_, through)| *through).chain([evicted]).max().unwrap_or(0);
        let next_seq = end.max(passed + 1);
        let mut table = Table { durable: next_seq - 1, evicted, ..Default::default() };
        let firsts: Vec<u64> = self.evidence.iter().map(|evidence| evidence.first_seq).collect();
        for (at, evidence) in self.evidence.iter().enumerate() {
            let next = firsts.get(at + 1).copied().unwrap_or(next_seq);
            match &evidence.what {
                What::Segment { .. } => {
                    table.segments.push_back(Segment { first_seq: evidence.first_seq, bytes: evidence.len });
                }
                What::Lost(reason) if next > evidence.first_seq => {
                    let hole = Gap { first_seq: evidence.first_seq, last_seq: next - 1, reason: *reason };
                    push_gap(&mut table.holes, hole);
                }
                What::Lost(_) => {}
            }
        }
        self.report.gaps.extend(&table.holes);
        self.report.gaps.sort_by_key(|gap| gap.first_seq);
        self.sync(&table);
        // Nothing of it was told twice: what a lost cursor had is given again.
        let oldest = table.beginning() - 1;
        for (name, through) in cursors {
            let through = through.unwrap_or(oldest);
            table.cursors.insert(name, Cursor { through, told: through, ..Default::default() });
        }
        table.told = table.cursors.values().map(|cursor| cursor.through).max().unwrap_or(0);
        (next_seq, table)
    }

    /// What another process wrote may not be durable yet, and it is told as if it were. A segment is left only when all of
    /// it is durable, or for a new one that begins with what is not: the last two are all that can matter.
    fn sync(&mut self, table: &Table) {
        for segment in table.segments.iter().rev().take(2) {
            let path = self.layout.segment(segment.first_seq);
            if let Err(error) = self.files.sync_file(&path) {
                self.find(&path, Fault::Io(format!("it cannot be made durable: {error}")));
            }
        }
        // What was moved is in its new place for good before it is gone from the old one.
        for dir in [&self.layout.quarantine, &self.layout.segments] {
            if let Err(error) = self.files.sync_dir(dir) {
                self.find(dir, Fault::Io(error.to_string()));
            }
        }
    }
}

fn list(files: &dyn Files, dir: &Path) -> Result<Vec<Entry>, WalError> {
    again(|| files.list(dir)).map_err(WalError::directory(dir))
}

/// Tries a few times. What is not there is not there.
fn again<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1;
    loop {
        match attempt() {
            Err(error) if tries < TRIES && error.kind() != io::ErrorKind::NotFound => tries += 1,
            result => return result,
        }
    }
}
