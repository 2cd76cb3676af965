//! Costs of whole calls.

use super::*;
use crate::{export::testing::chat, llm::Modality};

/// 2026-11-01, after every change of price that the tests rely on.
const START: u64 = 1_793_491_200_000_000_000;

fn cost(pricing: &mut Pricing, change: impl FnOnce(&mut FinishedCall)) -> Option<Cost> {
    let mut call = chat();
    let facts = call.facts.as_mut().unwrap();
    facts.usage.input = Some(1_000_000);
    facts.usage.output = Some(100_000);
    change(&mut call);
    pricing.cost(&call, START)
}

fn facts(call: &mut FinishedCall) -> &mut Facts {
    call.facts.as_mut().unwrap()
}

fn with(text: &str) -> Pricing {
    let config: CostConfig = toml::from_str(text).unwrap();
    assert_eq!(config.check(), Ok(()));
    Pricing::new(&config)
}

fn usd(cost: Option<Cost>) -> f64 {
    // To a millionth of a cent: prices are sums of fractions.
    (cost.expect("a cost").usd * 1e8).round() / 1e8
}

#[test]
fn a_provider_s_call_is_priced_by_the_table() {
    let mut pricing = with("");
    let plain = cost(&mut pricing, |_| ());
    assert_eq!((usd(plain), plain.map(|cost| cost.source)), (3.5, Some(Source::Table)));
    let cached = cost(&mut pricing, |call| facts(call).usage.cache_read = Some(400_000));
    assert_eq!(usd(cached), 3.0);
    let reasoning = cost(&mut pricing, |call| facts(call).usage.reasoning = Some(90_000));
    assert_eq!(usd(reasoning), 3.5, "reasoning is part of the output");
    let tier = cost(&mut pricing, |call| facts(call).response.service_tier = Some("priority".to_owned()));
    assert_eq!(usd(tier), 5.95, "as the response says");
}

#[test]
fn cache_1h_5m_split() {
    let mut pricing = with("");
    let anthropic = |written: Option<u64>| {
        move |call: &mut FinishedCall| {
            call.http.host = Some("api.anthropic.com".to_owned());
            let facts = facts(call);
            facts.provider = "anthropic";
            facts.response.model = Some("claude-sonnet-5-5".to_owned());
            facts.usage.cache_write = Some(200_000);
            (facts.usage.cache_write_5m, facts.usage.cache_write_1h) = (written.map(|n| 200_000 - n), written);
        }
    };
    // 0.8 * 2 + 0.2 * 2.5 + 0.1 * 10, and 0.1 million of the written ones at 4.
    assert_eq!(usd(cost(&mut pricing, anthropic(None))), 3.1);
    assert_eq!(usd(cost(&mut pricing, anthropic(Some(100_000)))), 3.25);
}

#[test]
fn a_gateway_s_own_cost_wins() {
    let mut pricing = with("[prices.\"*/*\"]\ninput_per_mtok = 1\n");
    let reported = cost(&mut pricing, |call| facts(call).response.reported_cost = Some(0.25));
    assert_eq!(reported, Some(Cost { usd: 0.25, source: Source::Reported }));
    let lie = cost(&mut pricing, |call| facts(call).response.reported_cost = Some(f64::NAN));
    assert_eq!(lie.map(|cost| cost.source), Some(Source::Config));
}

#[test]
fn unknown_model_no_cost_and_counted() {
    let mut pricing = with("");
    let unknown = |call: &mut FinishedCall| {
        facts(call).response.model = Some("no-such-model".to_owned());
        facts(call).request.model = None;
    };
    assert_eq!((cost(&mut pricing, unknown), pricing.unknown()), (None, 1));
    let deployment = |call: &mut FinishedCall| facts(call).response.model = Some("no-such-model".to_owned());
    assert_eq!(usd(cost(&mut pricing, deployment)), 3.5, "what was asked for is known");
}

#[test]
fn what_was_not_counted_whole_has_no_cost() {
    let mut pricing = with("");
    assert_eq!(cost(&mut pricing, |call| facts(call).usage.output = None), None);
    assert_eq!(cost(&mut pricing, |call| facts(call).usage = Default::default()), None);
    let embedding = |call: &mut FinishedCall| {
        let facts = facts(call);
        (facts.operation, facts.usage.output) = ("embeddings", None);
        facts.response.model = Some("text-embedding-3-small".to_owned());
    };
    assert_eq!(usd(cost(&mut pricing, embedding)), 0.02);
    assert_eq!(pricing.unknown(), 0);
}

#[test]
fn parts_larger_than_the_whole_are_not_billed() {
    let mut pricing = with("");
    assert_eq!(usd(cost(&mut pricing, |call| facts(call).usage.cache_read = Some(2_000_000))), 3.5);
    let mut pricing = with("[prices.\"openai/*\"]\ninput_per_mtok = 1\ncache_read_per_mtok = 0\n");
    assert_eq!(usd(cost(&mut pricing, |call| facts(call).usage.cache_read = Some(2_000_000))), 1.0);
}

#[test]
fn local_engines_have_no_price_unless_configured() {
    let local = |call: &mut FinishedCall| call.http.host = Some("localhost:8000".to_owned());
    let mut pricing = with("");
    assert_eq!((cost(&mut pricing, local), pricing.unknown()), (None, 0), "though its model is called gpt-4o");
    let mut pricing =
        with("[prices.\"openai/gpt-4o*\"]\ninput_per_mtok = 0.5\noutput_per_mtok = 1\nper_call = 0.001\n");
    assert_eq!(cost(&mut pricing, local).map(|cost| cost.source), Some(Source::Config));
    assert_eq!(usd(cost(&mut pricing, local)), 0.601);
}

#[test]
fn the_most_exact_price_holds() {
    let mut pricing = with(
        "[prices.\"*/*\"]\ninput_per_mtok = 1\n[prices.\"openai/gpt-4o-2024*\"]\ninput_per_mtok = 2\n\
         [prices.\"*/gpt-4o-2024-08-06\"]\ninput_per_mtok = 3\n[prices.\"azure.ai.openai/gpt-4o-2024-08-06\"]\ninput_per_mtok = 4\n",
    );
    assert_eq!(usd(cost(&mut pricing, |_| ())), 3.0);
    assert_eq!(usd(cost(&mut pricing, |call| facts(call).response.model = Some("gpt-4o-2024-11-20".into()))), 2.0);
    assert_eq!(usd(cost(&mut pricing, |call| facts(call).provider = "azure.ai.openai")), 4.0);
}

#[test]
fn own_prices_split_cache_and_audio() {
    let mut pricing = with(
        "[prices.\"*/*\"]\ninput_per_mtok = 10\noutput_per_mtok = 100\ncache_read_per_mtok = 1\ncache_write_per_mtok = 20\n\
         cache_write_1h_per_mtok = 30\ninput_audio_per_mtok = 50\noutput_audio_per_mtok = 200\n",
    );
    let split = |call: &mut FinishedCall| {
        let usage = &mut facts(call).usage;
        (usage.cache_read, usage.cache_write, usage.cache_write_1h) = (Some(100_000), Some(200_000), Some(50_000));
        usage.audio = Modality { input: Some(100_000), output: Some(50_000), cache_read: None };
    };
    // 0.1 * 1 + 0.15 * 20 + 0.05 * 30 + 0.1 * 50 + 0.6 * 10 + 0.05 * 200 + 0.05 * 100
    assert_eq!(usd(cost(&mut pricing, split)), 30.6);
}

#[test]
fn one_end_of_a_call_has_the_cost() {
    let mut pricing = with("[prices.\"*/*\"]\ninput_per_mtok = 1\n");
    let server = |parent: Option<[u8; 8]>| {
        move |call: &mut FinishedCall| {
            call.side = Side::Server;
            call.ids.parent = parent;
        }
    };
    assert_eq!(cost(&mut pricing, server(Some([1; 8]))), None);
    assert_eq!(usd(cost(&mut pricing, server(None))), 1.0);
    let mut pricing = with("");
    assert_eq!(cost(&mut pricing, server(None)), None, "a gateway's own host is no provider's price");
}

#[test]
fn settings_switch_it_off_and_are_checked() {
    assert_eq!(cost(&mut with("enabled = false"), |call| facts(call).response.reported_cost = Some(1.0)), None);
    assert_eq!(cost(&mut with("table = false"), |_| ()), None);
    let check = |text: &str| toml::from_str::<CostConfig>(text).unwrap().check().unwrap_err().0;
    assert_eq!(check("[prices.\"a/b\"]\ninput_per_mtok = -1"), "cost.prices.\"a/b\".input_per_mtok");
    assert_eq!(check("[prices.b]\ninput_per_mtok = 1"), "cost.prices.\"b\"");
    assert!(toml::from_str::<CostConfig>("[prices.\"a/b\"]\ninput = 1").is_err());
}

#[test]
fn the_span_says_what_it_cost_and_by_which_price() {
    let mut span = Span::from_call(&chat(), crate::export::testing::ANCHOR);
    tell(&mut span, Cost { usd: 0.5, source: Source::Table });
    assert_eq!(span.get("inferscope.cost.usd"), Some(&Value::Double(0.5)));
    assert_eq!(span.get("inferscope.cost.source"), Some(&Value::Str("table".to_owned())));
    assert_eq!(span.get("inferscope.cost.price_date"), Some(&Value::Str(table::PRICE_DATE.to_owned())));
    let mut span = Span::from_call(&chat(), crate::export::testing::ANCHOR);
    tell(&mut span, Cost { usd: 0.5, source: Source::Config });
    assert_eq!(span.get("inferscope.cost.price_date"), None);
}
