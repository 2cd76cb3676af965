//! Where finished calls go: the terminal, files, OTLP, metrics.
//!
//! Owns the turning of a call into a span, once, and its distribution. Runs on a thread of its own behind a bounded
//! queue; ends when the queue's other end is gone.

use std::{
    fs::File,
    io::{self, Write},
    ops::ControlFlow,
    sync::Arc,
};

use crate::{
    call::FinishedCall,
    cost::{self, Pricing},
    export::{jsonl::JsonLines, otlp::OtlpHandle, pretty::Pretty, span::Span},
    metrics::Metrics,
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
    metrics: Option<Arc<Metrics>>,
    pricing: Pricing,
    report: OutputReport,
    /// Whether the header was shown.
    shown: bool,
    /// Whether standard output is closed.
    closed: bool,
}

impl Outputs {
    /// Standard output as `display` says, and nothing else yet.
    pub fn new(anchor: WallAnchor, display: Display) -> Self {
        Self {
            anchor,
            display,
            file: None,
            otlp: None,
            metrics: None,
            pricing: Pricing::default(),
            report: OutputReport::default(),
            shown: false,
            closed: false,
        }
    }

    /// Adds what calls cost.
    pub fn with_pricing(mut self, pricing: Pricing) -> Self {
        self.pricing = pricing;
        self
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

    /// Adds metrics, which count every call.
    pub fn with_metrics(mut self, metrics: Option<Arc<Metrics>>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Sends a call everywhere. `Break` once standard output is closed or broken: nobody watches any more. Files and
    /// receivers go on getting calls even then.
    pub fn deliver(&mut self, call: &FinishedCall) -> ControlFlow<()> {
        let mut span = Span::from_call(call, self.anchor);
        if let Some(cost) = self.pricing.cost(call, span.start_time_unix_nano) {
            cost::tell(&mut span, cost);
        }
        if let Some(metrics) = &self.metrics {
            metrics.on_call(&span);
        }
        if let Some(file) = &mut self.file {
            match file.write(&span) {
                Ok(ControlFlow::Continue(())) => {}
                // The other end of a pipe has gone: as lost as on a full disk.
                Ok(ControlFlow::Break(())) => self.report.file_lost += 1,
                Err(error) => {
                    if self.report.file_lost == 0 {
                        tracing::error!(%error, "calls cannot be written to the JSON lines file");
                    }
                    self.report.file_lost += 1;
                }
            }
        }
        if let Some(otlp) = &self.otlp {
            // What it does not take it counts itself.
            otlp.offer(&span);
        }
        if self.closed {
            self.report.not_shown += 1;
            return ControlFlow::Break(());
        }
        let flow = match self.show(call, &span) {
            Ok(flow) => flow,
            // `| head` is a way to say enough, and no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ControlFlow::Break(()),
            Err(error) => {
                self.report.error = Some(error);
                ControlFlow::Break(())
            }
        };
        if flow.is_break() {
            self.closed = true;
            self.report.not_shown += 1;
        }
        flow
    }

    /// How it went.
    pub fn finish(mut self) -> OutputReport {
        self.report.unpriced = self.pricing.unknown();
        self.report
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

/// How the outputs went.
#[derive(Debug, Default)]
pub struct OutputReport {
    /// Calls that the file did not take.
    pub file_lost: u64,
    /// Calls that standard output did not take.
    pub not_shown: u64,
    /// Calls whose model has no price.
    pub unpriced: u64,
    /// Why standard output broke, unless its reader went away.
    pub error: Option<io::Error>,
}

impl OutputReport {
    /// The ledger's entries.
    pub fn entries(&self) -> [(String, u64); 2] {
        [("file_write_failed".into(), self.file_lost), ("not_shown".into(), self.not_shown)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::testing::{ANCHOR, chat},
        time::Mono,
    };

    #[test]
    fn every_call_is_counted_even_when_nobody_watches() {
        let metrics = Metrics::new(ANCHOR);
        let mut outputs = Outputs::new(ANCHOR, Display::Quiet).with_metrics(Some(Arc::clone(&metrics)));
        outputs.closed = true;
        for _ in 0..2 {
            assert!(outputs.deliver(&chat()).is_break());
        }
        let snapshot = metrics.snapshot(Mono(0));
        let finished =
            snapshot.families.iter().find(|family| family.metric.name == "inferscope.calls.finished").unwrap();
        assert_eq!(finished.points[0].value, crate::metrics::Value::Int(2));
        assert_eq!(outputs.finish().not_shown, 2);
    }
}
