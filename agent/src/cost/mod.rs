//! What a call cost, in US dollars.
//!
//! Owns where a price comes from, in this order: the provider's own word (gateways report what they charged), the
//! operator's prices (`own`), the table that comes with the program (`table`). A model that none of them knows has no
//! cost, and is counted: an invented price is worse than none. Stands at the edge of the pure core, because the table
//! is another crate's and slow to load.
//!
//! One call has one cost. Of the two ends of a call on one host the client's has it. The table is only asked about
//! calls to hosts of providers: a local engine may call its model whatever it likes.

mod own;
mod table;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use crate::{
    call::{FinishedCall, Side},
    export::{
        attributes as names,
        span::{Span, Value},
    },
    llm::{Facts, is_provider},
};
use own::OwnPrices;
pub use own::Price;

/// Calls that put nothing out: their input alone has a price.
const WITHOUT_OUTPUT: [&str; 3] = ["embeddings", "rerank", "moderation"];

/// `[cost]`
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CostConfig {
    /// Whether calls get a cost at all.
    pub enabled: bool,
    /// Whether the table that comes with the program is used.
    pub table: bool,
    /// `[cost.prices."provider/model"]`: the operator's prices, which go before the table's. `*` stands for any
    /// provider, and at the end of a model for any rest of its name.
    pub prices: std::collections::BTreeMap<String, Price>,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self { enabled: true, table: true, prices: Default::default() }
    }
}

impl CostConfig {
    /// What is wrong with the settings: the setting's name, and why.
    pub fn check(&self) -> Result<(), (String, &'static str)> {
        for (name, price) in &self.prices {
            price.check().map_err(|(key, reason)| (format!("cost.prices.\"{name}\".{key}"), reason))?;
            if !name.contains('/') {
                return Err((format!("cost.prices.\"{name}\""), "must be named PROVIDER/MODEL"));
            }
        }
        Ok(())
    }
}

/// What a call cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// US dollars.
    pub usd: f64,
    /// Where the price comes from.
    pub source: Source,
}

/// Where a price comes from (`inferscope.cost.source`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The answer said it.
    Reported,
    /// The operator's prices.
    Config,
    /// The table that comes with the program.
    Table,
}

impl Source {
    /// As exported.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Config => "config",
            Self::Table => "table",
        }
    }
}

/// Prices calls.
#[derive(Debug, Default)]
pub struct Pricing {
    enabled: bool,
    table: bool,
    own: OwnPrices,
    unknown: u64,
}

impl Pricing {
    /// By these settings. The table is not loaded before the first call that needs it.
    pub fn new(config: &CostConfig) -> Self {
        let CostConfig { enabled, table, prices } = config;
        Self { enabled: *enabled, table: *table, own: OwnPrices::new(prices), unknown: 0 }
    }

    /// Calls to a provider that reported their usage and whose model has no price.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// The cost of a call that began at `start`, nanoseconds since the Unix epoch; absent where it is not known.
    pub fn cost(&mut self, call: &FinishedCall, start: u64) -> Option<Cost> {
        let facts = call.facts.as_ref().filter(|_| self.enabled)?;
        // The other end of the same call has it.
        if call.side == Side::Server && call.ids.parent.is_some() {
            return None;
        }
        let reported = facts.response.reported_cost.filter(|usd| usd.is_finite() && *usd >= 0.0);
        if let Some(usd) = reported {
            return Some(Cost { usd, source: Source::Reported });
        }
        if !is_counted(facts) {
            return None;
        }
        if let Some(usd) = self.own.cost(facts) {
            return Some(Cost { usd, source: Source::Config });
        }
        let host = call.http.host.as_deref().filter(|_| self.table && call.side == Side::Client)?;
        if !is_provider(host) {
            return None;
        }
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(start);
        let usd = table::cost(facts, at);
        self.unknown += u64::from(usd.is_none());
        Some(Cost { usd: usd?, source: Source::Table })
    }
}

/// Whether everything was counted that has a price. Half a usage would give half a cost.
fn is_counted(facts: &Facts) -> bool {
    let usage = &facts.usage;
    let units = usage.search_units.or(usage.web_searches).is_some() || facts.response.audio_seconds.is_some();
    let output = usage.output.is_some() || WITHOUT_OUTPUT.contains(&facts.operation);
    (usage.input.is_some() && output) || units
}

/// Adds a call's cost to its span.
pub fn tell(span: &mut Span, cost: Cost) {
    let Cost { usd, source } = cost;
    span.attributes.push((names::INFERSCOPE_COST_USD, Value::Double(usd)));
    span.attributes.push((names::INFERSCOPE_COST_SOURCE, Value::Str(source.as_str().to_owned())));
    if source == Source::Table {
        span.attributes.push((names::INFERSCOPE_COST_PRICE_DATE, Value::Str(table::PRICE_DATE.to_owned())));
    }
}
