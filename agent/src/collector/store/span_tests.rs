use inferscope_proto::{
    Message as _,
    otlp::{
        common::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any},
        trace::{Span, Status, span::Event, span::Link},
    },
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::collector::store::testing::{attribute, list, span, text};

fn read_all(bytes: &[u8]) -> Result<(Call<'_>, Vec<Range<usize>>), Malformed> {
    let mut content = Vec::new();
    read(bytes, &mut content).map(|call| (call, content))
}

#[test]
fn what_is_known_of_a_call_is_read() {
    let mut whole = span(4);
    whole.parent_span_id = vec![9; 8];
    whole.attributes.extend([
        attribute("gen_ai.response.model", text("gpt-4o-2024")),
        attribute("gen_ai.conversation.id", text("c-1")),
        attribute("gen_ai.usage.cache_read.input_tokens", Any::IntValue(7)),
        attribute("inferscope.time_per_output_token", Any::DoubleValue(0.02)),
        attribute("inferscope.gpu.energy.joules", Any::IntValue(3)),
        attribute("inferscope.chunk.count", Any::IntValue(12)),
        attribute("inferscope.chunk.gap.max", Any::DoubleValue(0.5)),
        attribute("inferscope.slow", list(&["chunk_gap"])),
        attribute("inferscope.cause.kinds", list(&["cpu_run_queue", "gpu_busy"])),
        attribute("http.response.status_code", Any::IntValue(200)),
        attribute("error.type", text("timeout")),
        attribute("process.pid", Any::IntValue(42)),
        attribute("server.address", text("api")),
    ]);
    let bytes = whole.encode_to_vec();
    let (call, content) = read_all(&bytes).unwrap();
    assert!(content.is_empty());
    assert_eq!((&call.trace_id[..], &call.span_id[..]), (&whole.trace_id[..], &whole.span_id[..]));
    assert_eq!((call.parent_id, call.kind, call.status), (Some([9; 8]), 3, 1));
    assert_eq!(call.start, whole.start_time_unix_nano as i64);
    assert_eq!(call.duration(), Some(5.0));
    assert_eq!((call.name, call.provider, call.model), (Some("chat gpt-4o"), Some("openai"), Some("claude")));
    assert_eq!((call.input_tokens, call.output_tokens, call.cache_read), (Some(104), Some(10), Some(7)));
    assert_eq!((call.cache_write, call.reasoning), (None, None));
    assert_eq!((call.ttft, call.tpot, call.energy_joules), (Some(0.1 + 4.0 / 1000.0), Some(0.02), Some(3.0)));
    assert_eq!((call.chunks, call.gap_max, call.cost_usd), (Some(12), Some(0.5), Some(0.25)));
    assert_eq!(
        (call.is_slow, call.causes[0], call.causes[1], call.causes[2]),
        (true, Some("cpu_run_queue"), Some("gpu_busy"), None)
    );
    assert_eq!((call.conversation, call.response_model), (Some("c-1"), Some("gpt-4o-2024")));
    assert_eq!((call.http_status, call.error_type, call.pid), (Some(200), Some("timeout"), Some(42)));
    assert_eq!((call.user, call.executable, call.server_address), (Some(1000), Some("python3"), Some("api")));
}

#[test]
fn what_makes_no_sense_is_unknown() {
    let mut odd = span(0);
    odd.attributes = vec![
        attribute("gen_ai.usage.input_tokens", Any::IntValue(-1)),
        attribute("gen_ai.usage.output_tokens", text("many")),
        attribute("inferscope.time_to_first_token", Any::DoubleValue(f64::NAN)),
        attribute("inferscope.time_per_output_token", Any::DoubleValue(-0.5)),
        attribute("inferscope.cost.usd", Any::DoubleValue(f64::INFINITY)),
        attribute("gen_ai.request.model", text("")),
        KeyValue { key: "gen_ai.provider.name".to_owned(), value: None, ..KeyValue::default() },
    ];
    odd.end_time_unix_nano = odd.start_time_unix_nano - 1;
    odd.kind = 77;
    let bytes = odd.encode_to_vec();
    let (call, _) = read_all(&bytes).unwrap();
    assert_eq!((call.input_tokens, call.output_tokens, call.ttft, call.tpot), (None, None, None, None));
    assert_eq!((call.cost_usd, call.model, call.provider, call.duration(), call.kind), (None, None, None, None, 0));
}

#[test]
fn a_span_without_ids_or_beyond_time_is_none() {
    for odd in [
        Span { trace_id: vec![], ..span(1) },
        Span { trace_id: vec![0; 16], ..span(1) },
        Span { span_id: vec![0; 8], ..span(1) },
        Span { span_id: vec![1; 9], ..span(1) },
        Span { parent_span_id: vec![1; 3], ..span(1) },
        Span { end_time_unix_nano: u64::MAX, ..span(1) },
    ] {
        assert!(read_all(&odd.encode_to_vec()).is_err());
    }
}

#[test]
fn content_is_apart_and_both_parts_together_are_the_span() {
    let mut whole = span(4);
    whole.attributes.insert(2, attribute("gen_ai.input.messages", text("what is asked")));
    whole.attributes.push(attribute("gen_ai.output.messages", text("what is answered")));
    whole.attributes.push(attribute("gen_ai.tool.call.arguments", text("{}")));
    let bytes = whole.encode_to_vec();
    let (_, content) = read_all(&bytes).unwrap();
    let (mut rest, mut apart) = (Vec::new(), Vec::new());
    split(&bytes, &content, &mut rest, &mut apart);
    let contents = Span::decode(&apart[..]).unwrap();
    assert_eq!(contents, Span { attributes: contents.attributes.clone(), ..Span::default() });
    assert_eq!(contents.attributes.len(), 3);
    let bare = Span::decode(&rest[..]).unwrap();
    assert!(bare.attributes.iter().all(|attribute| !is_content(&attribute.key)));
    assert!(!rest.windows(4).any(|word| word == b"what"));
    let both = Span::decode(&[rest, apart].concat()[..]).unwrap();
    assert_eq!(both.attributes.len(), whole.attributes.len());
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        ".{0,8}".prop_map(|text| Some(Any::StringValue(text))),
        any::<bool>().prop_map(|is| Some(Any::BoolValue(is))),
        any::<i64>().prop_map(|number| Some(Any::IntValue(number))),
        any::<f64>().prop_map(|number| Some(Any::DoubleValue(number))),
        vec(any::<u8>(), 0..4).prop_map(|bytes| Some(Any::BytesValue(bytes))),
    ];
    let leaf = leaf.prop_map(|value| AnyValue { value });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3)
                .prop_map(|values| AnyValue { value: Some(Any::ArrayValue(ArrayValue { values })) }),
            vec(pair(inner), 0..3)
                .prop_map(|values| AnyValue { value: Some(Any::KvlistValue(KeyValueList { values })) }),
        ]
    })
}

fn pair(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    let key = prop_oneof![proptest::sample::select(names::ALL).prop_map(str::to_owned), "[a-z.]{0,12}",];
    (key, value).prop_map(|(key, value)| KeyValue { key, value: Some(value), ..KeyValue::default() })
}

fn any_span() -> impl Strategy<Value = Span> {
    (vec(pair(any_value()), 0..12), vec(pair(any_value()), 0..3), 1..50_u64, ".{0,8}").prop_map(
        |(attributes, others, n, message)| Span {
            attributes,
            events: vec![Event { name: message.clone(), attributes: others.clone(), ..Event::default() }],
            links: vec![Link { trace_id: vec![1; 16], attributes: others, flags: 3, ..Link::default() }],
            status: Some(Status { message, code: 2 }),
            flags: 1,
            ..span(n)
        },
    )
}

proptest! {
    #[test]
    fn a_span_that_is_accepted_decodes_and_a_whole_one_is_accepted(
        whole in any_span(),
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
        cut in any::<Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = whole.encode_to_vec();
        prop_assert!(read_all(&bytes).is_ok());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok((_, content)) = read_all(&bytes) {
            let whole = Span::decode(&bytes[..]);
            prop_assert!(whole.is_ok(), "{:?}", whole);
            let (mut rest, mut apart) = (Vec::new(), Vec::new());
            split(&bytes, &content, &mut rest, &mut apart);
            let parts = [Span::decode(&rest[..]).unwrap(), Span::decode(&apart[..]).unwrap()];
            let n: usize = parts.iter().map(|part| part.attributes.len()).sum();
            prop_assert_eq!(n, whole.unwrap().attributes.len());
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        if read_all(&bytes).is_ok() {
            prop_assert!(Span::decode(&bytes[..]).is_ok());
        }
    }
}
