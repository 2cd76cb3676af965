//! `inferscope trace`

use std::io::IsTerminal as _;

use anyhow::Context as _;

use super::live::{self, Plan};
use crate::{
    capture::Session,
    cli::{Format, ShowArgs, TraceArgs},
    cost::{CostConfig, Pricing},
    export::{json_file::JsonFile, pretty::Pretty},
    output::{Display, Outputs},
};

/// Shows calls until it is stopped.
pub fn trace(args: TraceArgs) -> anyhow::Result<()> {
    let session = Session::new()?;
    let file = match &args.also_jsonl {
        Some(path) => {
            Some(JsonFile::append_to(path, None).with_context(|| format!("{} cannot be opened", path.display()))?)
        }
        None => None,
    };
    let pricing = Pricing::new(&CostConfig::default());
    let outputs = Outputs::new(session.anchor, display(&args.show)).with_pricing(pricing).with_file(file);
    let plan = Plan::of(args.targets, args.show.all_http, args.show.content, args.duration).with_infer(args.show.infer);
    let (ledger, finish) = live::runtime()?.block_on(live::capture(plan, &session, outputs, None, None, None))?;
    live::say_ledger(&ledger);
    drop(finish);
    Ok(())
}

/// How calls are shown on standard output.
pub fn display(show: &ShowArgs) -> Display {
    match show.output {
        Format::Jsonl => Display::JsonLines,
        Format::Pretty => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            Display::Pretty(Pretty { colour, content: show.content })
        }
    }
}
