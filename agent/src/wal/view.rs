//! Looking into a log without changing it: beside a running agent, or at what a dead one left.
//!
//! Owns what `inferscope wal` tells. Nothing is locked, moved or written. A segment that goes meanwhile is passed over: all
//! destinations had it. What can be read in quarantine is read as well, for that is the only way to its items.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    files::{Entry, Files, HostFiles, read_small},
    format::{Epoch, Head, NOTE_BYTES, Note, NoteFault, SegmentHeader, first_seq_of},
    reader::is_name,
    report::{Fault, Finding, keep},
    scan::{Cipher, Frames, Item, Lost, Opened, Step},
    seal::MasterKey,
    settings::Layout,
    table::{Gap, GapReason, push_gap},
};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Where frames are.
    Headers,
    /// All of them.
    Payloads,
}

/// A segment, or a file that was one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// The file.
    pub path: PathBuf,
    /// The log's life that it is of.
    pub epoch: Epoch,
    /// The first seq that its header tells.
    pub first_seq: u64,
    /// The seq of its last frame; `first_seq - 1` when it has none.
    pub last_seq: u64,
    /// Frames that hold: those whose seqs are in the next segment too are not among them.
    pub items: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its making, nanoseconds since the Unix epoch.
    pub created_unix_nano: u64,
    /// It is encrypted.
    pub encrypted: bool,
    /// The key opens it, or it needs none.
    pub readable: bool,
    /// It is in quarantine.
    pub quarantined: bool,
}

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorView {
    /// Its name.
    pub name: String,
    /// It has everything up to here; `None` when its cursor is damaged, or of another life.
    pub through: Option<u64>,
    /// Seqs that it has not.
    pub backlog: u64,
}

/// What is in a log's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The log's life; `None` when neither its identity nor a segment tells.
    pub epoch: Option<Epoch>,
    /// By place and first seq.
    pub segments: Vec<SegmentView>,
    /// By name.
    pub cursors: Vec<CursorView>,
    /// Up to here items went for want of room.
    pub evicted: Option<u64>,
    /// Missing seqs between the oldest and the newest.
    pub gaps: Vec<Gap>,
    /// What is not as it should be: the first thousand of it.
    pub findings: Vec<Finding>,
}

impl View {
    /// Whether items that should be there are damaged. The unfinished end of the newest segment is none: it is being written,
    /// or was when the agent died, and nobody was told that it is durable.
    pub fn is_damaged(&self) -> bool {
        let harmless = |fault: &Fault| matches!(fault, Fault::TornTail { .. } | Fault::Cut | Fault::OtherEpoch { .. });
        !self.gaps.is_empty() || self.findings.iter().any(|finding| !harmless(&finding.fault))
    }
}

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// There is no log, or it may not be read.
    #[error("the log's directory {} cannot be read", path.display())]
    Directory {
        /// It, or a directory in it.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Whoever takes the items takes no more.
    #[error("the items cannot be written")]
    Taken(#[source] io::Error),
}

/// Takes the items one by one, with the life that they are of.
pub type Take<'a> = dyn FnMut(&Epoch, Item) -> io::Result<()> + 'a;

/// Looks into the log in `dir`. With [`Depth::Payloads`] all items go to `take`, by place and seq.
pub fn view(dir: &Path, key: Option<&MasterKey>, depth: Depth, take: &mut Take<'_>) -> Result<View, ViewError> {
    let layout = Layout::of(dir);
    let mut viewer = Viewer { files: &HostFiles, key, depth, view: View::default() };
    let segments = viewer.find(&layout.segments, false)?;
    let identity = viewer.note(&layout.identity());
    viewer.view.epoch =
        identity.or(segments.last().map(|found| Note { epoch: found.header.epoch, seq: 0 })).map(|n| n.epoch);
    viewer.view.evicted = viewer.note(&layout.evicted()).map(|note| note.seq);
    viewer.read(segments, take)?;
    let set_aside = viewer.find(&layout.quarantine, true).or_else(none_is_none)?;
    viewer.read(set_aside, take)?;
    viewer.cursors(&layout.cursors).or_else(none_is_none)?;
    Ok(viewer.view)
}

/// A log that was never opened for writing has not all of its directories.
fn none_is_none<T: Default>(error: ViewError) -> Result<T, ViewError> {
    match &error {
        ViewError::Directory { source, .. } if source.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        ViewError::Directory { .. } | ViewError::Taken(_) => Err(error),
    }
}

struct Found {
    path: PathBuf,
    header: SegmentHeader,
    quarantined: bool,
}

struct Viewer<'a> {
    files: &'a dyn Files,
    key: Option<&'a MasterKey>,
    depth: Depth,
    view: View,
}

impl Viewer<'_> {
    fn fault(&mut self, path: &Path, fault: Fault) {
        keep(&mut self.view.findings, Finding { path: path.to_owned(), fault, moved_to: None });
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, ViewError> {
        let mut entries =
            self.files.list(dir).map_err(|source| ViewError::Directory { path: dir.to_owned(), source })?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn note(&mut self, path: &Path) -> Option<Note> {
        let fault = match read_small(self.files, path, NOTE_BYTES + 1) {
            Ok(bytes) => match Note::decode(&bytes) {
                Ok(note) => return Some(note),
                Err(NoteFault::Damaged) => Fault::Damaged,
                Err(NoteFault::Newer(version)) => Fault::Newer(version),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Fault::Io(error.to_string()),
        };
        self.fault(path, fault);
        None
    }

    fn cursors(&mut self, dir: &Path) -> Result<(), ViewError> {
        let newest = |segment: &&SegmentView| !segment.quarantined;
        let last = self.view.segments.iter().filter(newest).map(|segment| segment.last_seq).max().unwrap_or(0);
        for Entry { name, is_file, .. } in self.list(dir)? {
            let Some(name) = name.to_str().filter(|name| is_file && is_name(name)) else { continue };
            let note = self.note(&dir.join(name)).filter(|note| Some(note.epoch) == self.view.epoch);
            let through = note.map(|note| note.seq);
            let backlog = last.saturating_sub(through.unwrap_or(0));
            self.view.cursors.push(CursorView { name: name.to_owned(), through, backlog });
        }
        Ok(())
    }

    /// The segments of a directory, by first seq. What is none is a finding.
    fn find(&mut self, dir: &Path, quarantined: bool) -> Result<Vec<Found>, ViewError> {
        let mut found = Vec::new();
        for Entry { name, is_file, .. } in self.list(dir)? {
            let path = dir.join(&name);
            let wanted = name.to_str().and_then(|name| match quarantined {
                false => first_seq_of(name, ".seg"),
                true => first_seq_of(name.split_once(".seg.")?.0, ""),
            });
            if wanted.is_none() || !is_file {
                // In quarantine it has its place.
                if !quarantined {
                    self.fault(&path, Fault::Foreign);
                }
                continue;
            }
            match Opened::at(self.files, &path) {
                Ok(opened) => match opened.head {
                    Head::Segment(header) if Some(header.first_seq) == wanted => {
                        found.push(Found { path, header, quarantined });
                    }
                    _ if quarantined => {}
                    Head::Newer(version) => self.fault(&path, Fault::Newer(version)),
                    Head::Cut => self.fault(&path, Fault::Cut),
                    Head::Segment(_) | Head::Foreign => self.fault(&path, Fault::Damaged),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.fault(&path, Fault::Io(error.to_string())),
            }
        }
        found.sort_by_key(|found| found.header.first_seq);
        Ok(found)
    }

    fn read(&mut self, found: Vec<Found>, take: &mut Take<'_>) -> Result<(), ViewError> {
        let ends: Vec<(Epoch, u64)> = found.iter().map(|found| (found.header.epoch, found.header.first_seq)).collect();
        for (at, found) in found.into_iter().enumerate() {
            let Found { path, header, quarantined } = found;
            // Opened again: there may be more segments than a process may have files open.
            let opened = match Opened::at(self.files, &path) {
                Ok(opened) => opened,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.fault(&path, Fault::Io(error.to_string()));
                    continue;
                }
            };
            let this_life = !quarantined && Some(header.epoch) == self.view.epoch;
            let end = ends
                .get(at + 1)
                .filter(|(epoch, _)| *epoch == header.epoch && !quarantined)
                .map(|(_, first)| first - 1);
            let cipher = Cipher::of(&header, self.key);
            let readable = !matches!(cipher, Cipher::Locked);
            if !readable && !quarantined {
                self.fault(&path, Fault::OtherKey);
            }
            let mut segment = SegmentView {
                epoch: header.epoch,
                first_seq: header.first_seq,
                last_seq: header.first_seq - 1,
                items: 0,
                bytes: opened.len,
                created_unix_nano: header.created_unix_nano,
                encrypted: header.key_check.is_some(),
                path,
                readable,
                quarantined,
            };
            let mut frames = Frames::new(opened.file, &header, cipher, opened.len);
            let mut next = header.first_seq;
            self.read_segment(&mut frames, &mut segment, end, &mut next, take)?;
            if let Some(end) = end.filter(|end| *end >= next && this_life) {
                push_gap(&mut self.view.gaps, Gap { first_seq: next, last_seq: end, reason: GapReason::Corrupt });
            }
            if !quarantined && !this_life {
                self.fault(&segment.path, Fault::OtherEpoch { items: segment.items });
            }
            self.view.segments.push(segment);
        }
        Ok(())
    }

    fn read_segment(
        &mut self,
        frames: &mut Frames,
        segment: &mut SegmentView,
        end: Option<u64>,
        next: &mut u64,
        take: &mut Take<'_>,
    ) -> Result<(), ViewError> {
        let mut failures = 0;
        loop {
            let header = match frames.step() {
                Ok(Step::Frame(header)) if end.is_none_or(|end| header.seq <= end) => header,
                Ok(Step::End { rest: 0 } | Step::Frame(_)) => return Ok(()),
                Ok(Step::End { .. } | Step::Cut(_)) => {
                    let bytes = segment.bytes.saturating_sub(frames.good_end());
                    self.fault(&segment.path, Fault::TornTail { bytes });
                    return Ok(());
                }
                // A bad sector reads as damage after a few tries.
                Err(error) => {
                    failures += 1;
                    if failures > segment.bytes / 1024 + 16 {
                        self.fault(&segment.path, Fault::Io(error.to_string()));
                        return Ok(());
                    }
                    continue;
                }
            };
            let lost = match self.depth {
                Depth::Headers => None,
                Depth::Payloads => match frames.payload(&header) {
                    Ok(Ok(item)) => {
                        take(&segment.epoch, item).map_err(ViewError::Taken)?;
                        None
                    }
                    Ok(Err(Lost::Damaged)) => Some(GapReason::Corrupt),
                    Ok(Err(Lost::Unreadable)) => Some(GapReason::Unreadable),
                    Err(error) => {
                        self.fault(&segment.path, Fault::Io(error.to_string()));
                        Some(GapReason::Corrupt)
                    }
                },
            };
            if header.seq > *next && !segment.quarantined {
                let gap = Gap { first_seq: *next, last_seq: header.seq - 1, reason: GapReason::Corrupt };
                push_gap(&mut self.view.gaps, gap);
            }
            match lost {
                Some(reason) if !segment.quarantined => {
                    let gap = Gap { first_seq: header.seq, last_seq: header.seq, reason };
                    push_gap(&mut self.view.gaps, gap);
                }
                Some(_) => {}
                None => segment.items += 1,
            }
            *next = header.seq + 1;
            segment.last_seq = header.seq;
        }
    }
}
