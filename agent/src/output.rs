//! Where finished calls go: the terminal, files, OTLP, metrics.
//!
//! Owns the turning of a call into a span, once, and its distribution. Runs on a thread of its own behind a bounded
//! queue; ends when the queue's other end is gone.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    sync::Arc,
};

use crate::{
    call::FinishedCall,
    cost::{self, Pricing},
    export::{
        durable::DurableSpans,
        json_file::{FileErrors, JsonFile},
        jsonl::JsonLines,
        otlp::{self, OtlpHandle},
        pretty::Pretty,
        sample::Sampling,
        span::Span,
    },
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
    file: Option<JsonFile>,
    otlp: Vec<OtlpHandle>,
    log: Option<DurableSpans>,
    sampling: Sampling,
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
            otlp: Vec::new(),
            log: None,
            sampling: Sampling::default(),
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
    pub fn with_file(mut self, file: Option<JsonFile>) -> Self {
        self.file = file;
        self
    }

    /// Adds OTLP receivers.
    pub fn with_otlp(mut self, otlp: Vec<OtlpHandle>) -> Self {
        self.otlp = otlp;
        self
    }

    /// Adds the log, which delivers from the disk.
    pub fn with_log(mut self, log: Option<DurableSpans>) -> Self {
        self.log = log;
        self
    }

    /// Adds sampling of what goes to files and receivers. Metrics count every call, and standard output shows it.
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
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
        self.export(&span);
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

    /// Sends the span to the file and the receivers, unless it is sampled out.
    fn export(&mut self, span: &Span) {
        if self.file.is_none() && self.otlp.is_empty() && self.log.is_none() {
            return;
        }
        let Some(span) = self.sampling.sample(span) else {
            self.report.sampled_out += 1;
            if let Some(log) = &self.log {
                log.sampled_out();
            }
            return;
        };
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
        // What a receiver's queue does not take it counts itself.
        otlp::offer_to_all(&self.otlp, &span);
        if let Some(log) = &self.log {
            log.offer(&span);
        }
    }

    /// How it went.
    pub fn finish(mut self) -> OutputReport {
        self.report.file_errors = self.file.as_ref().map(JsonFile::errors).unwrap_or_default();
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
    /// What else went wrong with it.
    pub file_errors: FileErrors,
    /// Calls that no file and no receiver got because their trace is not in the share.
    pub sampled_out: u64,
    /// Calls that standard output did not take.
    pub not_shown: u64,
    /// Calls whose model has no price.
    pub unpriced: u64,
    /// Why standard output broke, unless its reader went away.
    pub error: Option<io::Error>,
}

impl OutputReport {
    /// The ledger's entries.
    pub fn entries(&self) -> [(String, u64); 5] {
        let Self { file_lost, file_errors: FileErrors { rotate, reopen }, sampled_out, not_shown, .. } = *self;
        [
            ("file_write_failed".into(), file_lost),
            ("file_rotate_failed".into(), rotate),
            ("file_reopen_failed".into(), reopen),
            ("sampled_out".into(), sampled_out),
            ("not_shown".into(), not_shown),
        ]
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
    fn what_is_sampled_out_is_counted_and_in_the_metrics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let metrics = Metrics::new(ANCHOR);
        let mut outputs = Outputs::new(ANCHOR, Display::Quiet)
            .with_metrics(Some(Arc::clone(&metrics)))
            .with_sampling(Sampling::new(0.5, None))
            .with_file(Some(JsonFile::append_to(&path, None).unwrap()));
        let call = |trace: u8, status| {
            let mut call = chat();
            (call.ids.trace, call.http.status) = ([trace; 16], Some(status));
            call
        };
        for call in [call(0, 200), call(0xff, 200), call(0, 500)] {
            assert!(outputs.deliver(&call).is_continue());
        }
        let report = outputs.finish();
        assert_eq!((report.sampled_out, report.file_lost), (1, 0));
        assert!(report.entries().contains(&("sampled_out".to_owned(), 1)));
        let text = std::fs::read_to_string(&path).unwrap();
        let rates: Vec<_> = text.lines().map(|line| line.contains("\"inferscope.sampling.rate\":0.5")).collect();
        assert_eq!(rates, [true, false]);
        assert_eq!(finished(&metrics), 3);
    }

    fn finished(metrics: &Metrics) -> u64 {
        let snapshot = metrics.snapshot(Mono(0));
        let finished =
            snapshot.families.iter().find(|family| family.metric.name == "inferscope.calls.finished").unwrap();
        let count = |value: &crate::metrics::Value| match value {
            crate::metrics::Value::Int(count) => *count,
            other => panic!("{other:?}"),
        };
        finished.points.iter().map(|point| count(&point.value)).sum()
    }

    #[test]
    fn every_call_is_counted_even_when_nobody_watches() {
        let metrics = Metrics::new(ANCHOR);
        let mut outputs = Outputs::new(ANCHOR, Display::Quiet).with_metrics(Some(Arc::clone(&metrics)));
        outputs.closed = true;
        for _ in 0..2 {
            assert!(outputs.deliver(&chat()).is_break());
        }
        assert_eq!(finished(&metrics), 2);
        assert_eq!(outputs.finish().not_shown, 2);
    }
}
