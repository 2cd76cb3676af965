//! Where finished calls go: the terminal, files, OTLP.
//!
//! Owns the turning of a call into a span, once, and its distribution. Runs on a thread of its own behind a bounded
//! queue; ends when the queue's other end is gone.

use std::{
    fs::File,
    io::{self, Write},
    ops::ControlFlow,
};

use crate::{
    call::FinishedCall,
    export::{jsonl::JsonLines, otlp::OtlpHandle, pretty::Pretty, span::Span},
    time::WallAnchor,
};

/// What standard output shows.
pub enum Display {
    /// Lines for people.
    Pretty(Pretty),
    /// JSON lines.
    JsonLines,
    /// Nothing.
    Quiet,
}

/// Every place that calls go to.
pub struct Outputs {
    anchor: WallAnchor,
    display: Display,
    file: Option<JsonLines<File>>,
    otlp: Option<OtlpHandle>,
    lost: u64,
    shown: bool,
}

impl Outputs {
    /// Standard output as `display` says, and nothing else yet.
    pub fn new(anchor: WallAnchor, display: Display) -> Self {
        Self { anchor, display, file: None, otlp: None, lost: 0, shown: false }
    }

    /// Adds a file of JSON lines.
    pub fn with_file(mut self, file: Option<JsonLines<File>>) -> Self {
        self.file = file;
        self
    }

    /// Adds an OTLP receiver.
    pub fn with_otlp(mut self, otlp: Option<OtlpHandle>) -> Self {
        self.otlp = otlp;
        self
    }

    /// Sends a call everywhere. `Break` when standard output is closed: nobody watches any more.
    pub fn deliver(&mut self, call: &FinishedCall) -> ControlFlow<()> {
        let span = Span::from_call(call, self.anchor);
        if let Some(file) = &mut self.file
            && let Err(error) = file.write(&span)
        {
            if self.lost == 0 {
                tracing::error!(%error, "calls cannot be written to the JSON lines file");
            }
            self.lost += 1;
        }
        if let Some(otlp) = &self.otlp {
            // What it does not take it counts itself.
            otlp.offer(&span);
        }
        match self.show(call, &span) {
            Ok(flow) => flow,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ControlFlow::Break(()),
            Err(error) => {
                tracing::error!(%error, "standard output");
                ControlFlow::Break(())
            }
        }
    }

    /// Calls that the file did not take.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn show(&mut self, call: &FinishedCall, span: &Span) -> io::Result<ControlFlow<()>> {
        match &self.display {
            Display::Quiet => Ok(ControlFlow::Continue(())),
            Display::JsonLines => JsonLines::new(io::stdout().lock()).write(span),
            Display::Pretty(pretty) => {
                let mut out = io::stdout().lock();
                // With the first call and not before: a run that fails leaves standard output empty.
                if !self.shown {
                    self.shown = true;
                    out.write_all(pretty.header().as_bytes())?;
                }
                out.write_all(pretty.call(call, span).as_bytes())?;
                out.flush()?;
                Ok(ControlFlow::Continue(()))
            }
        }
    }
}
