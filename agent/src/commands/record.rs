//! `inferscope record`

use anyhow::Context as _;

use super::{
    live::{self, Plan},
    say,
};
use crate::{
    capture::Session,
    cli::RecordArgs,
    kernel,
    output::{Display, Outputs},
    recording::Recorder,
};

/// Records until it is stopped.
pub fn record(args: RecordArgs) -> anyhow::Result<()> {
    // Before the file is made: a recording that cannot begin leaves none behind.
    kernel::check_privilege()?;
    let session = Session::new()?;
    let recorder = Recorder::create(&args.file, session.anchor, session.epoch)
        .with_context(|| format!("{} cannot be made", args.file.display()))?;
    say(&format!(
        "inferscope: WARNING: {} will hold everything that is captured: prompts, answers, and the credentials in \
         request headers. It can be read by its owner only (mode 0600); delete it when you are done.",
        args.file.display()
    ));
    let plan = Plan::of(args.targets, args.all_http, false, args.duration).with_infer(args.infer);
    let outputs = Outputs::new(session.anchor, Display::Quiet);
    let (ledger, finish) =
        live::runtime()?.block_on(live::capture(plan, &session, outputs, Some(recorder), None, None))?;
    live::say_ledger(&ledger);
    finish.recording.with_context(|| format!("{} is incomplete", args.file.display()))?;
    drop(finish.discovery);
    Ok(())
}
