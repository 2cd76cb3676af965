//! Redaction of a text that is there as a whole.
//!
//! One pass finds the places where something may stand: the fixed parts that issuers put into their keys, single
//! characters that no address, number or assignment is without, and the configuration's patterns. Plain code then
//! decides what stands there and how far it reaches. Each decision looks at a bounded part of the text, so that the
//! time taken grows with the text's length only, whatever a hostile text repeats, and so that
//! [`Stream`](super::Stream) finds the same in any pieces.

use std::{borrow::Cow, ops::Range, sync::LazyLock};

use regex::{Regex, RegexBuilder};

use super::{
    credential::{literal, sign},
    hit::{Hit, Kind, LOOKBACK, Rest, View, WINDOW},
    mark::mark,
    personal,
    policy::{Operator, Policy, plain_name},
    shapes::{ESCAPED, MARKS, SHAPES, bearer},
    stream::{End, Stream},
};

/// Largest compiled pattern of the configuration, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// Replaces credentials by `[REDACTED:<kind>]`, and what else the policy says.
#[derive(Debug)]
pub struct Redactor {
    policy: Policy,
    literals: Regex,
    patterns: Vec<Regex>,
    /// Names of fields whose values go, as [`plain_name`] makes them.
    fields: Vec<String>,
    /// The characters where something may stand that has no fixed part.
    signs: [bool; 256],
}

/// What is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything that the policy names.
    All,
    /// Credentials alone.
    Credentials,
}

impl Redactor {
    /// How much more of a text has to be read than is to be kept of it: its last bytes may be the beginning of
    /// something that cannot be told yet, and are not given out.
    pub const MARGIN: usize = WINDOW + LOOKBACK;

    /// Compiles a policy. The error is the name of a setting and what is wrong with it.
    pub fn new(policy: Policy) -> Result<Self, (String, &'static str)> {
        policy.check()?;
        let mut patterns = Vec::with_capacity(policy.patterns.len());
        for (n, pattern) in policy.patterns.iter().enumerate() {
            let wrong = |reason| (format!("patterns[{n}].regex"), reason);
            let regex = RegexBuilder::new(&pattern.regex)
                .size_limit(MAX_COMPILED)
                .build()
                .map_err(|_| wrong("must be a regular expression that compiles to 1 MiB at most"))?;
            if regex.is_match("") {
                return Err(wrong("must not match where there is nothing"));
            }
            patterns.push(regex);
        }
        let fixed = SHAPES.iter().map(|shape| shape.prefix).chain(MARKS).map(regex::escape).collect::<Vec<_>>();
        let literals = Regex::new(&fixed.join("|")).expect("the patterns are constants and compiled by the tests");
        let numbers = [policy.phone, policy.card, policy.iban, policy.ip].iter().any(|&of| of != Operator::Off);
        let mut signs = [false; 256];
        for (byte, is_sign) in (0..=u8::MAX).zip(&mut signs) {
            *is_sign = match byte {
                b'?' | b'&' | b'=' | b':' => true,
                b'@' => policy.email != Operator::Off,
                b'0'..=b'9' => numbers,
                _ => false,
            };
        }
        let fields = policy.fields.iter().map(|field| plain_name(field)).collect();
        Ok(Self { policy, literals, patterns, fields, signs })
    }

    /// The one with the default policy.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Redactor> = LazyLock::new(Redactor::default);
        &SHARED
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// `text` without credentials and without what the policy names.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.apply(text, Scope::All)
    }

    /// `text` without credentials. For names and ids: their digits are no telephone numbers.
    pub fn credentials<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.apply(text, Scope::Credentials)
    }

    /// The beginning of a longer text, redacted; its last [`Self::MARGIN`] bytes are not given out.
    pub(super) fn redact_cut(&self, text: &str) -> String {
        let mut out = String::new();
        let mut stream = Stream::new(self);
        stream.push(text, &mut |piece| out.push_str(piece));
        stream.finish(End::Cut, &mut |piece| out.push_str(piece));
        out
    }

    fn apply<'t>(&self, text: &'t str, scope: Scope) -> Cow<'t, str> {
        let mut out = String::new();
        match self.each(text, scope, &mut |piece, _| out.push_str(piece)) {
            true => Cow::Owned(out),
            false => Cow::Borrowed(text),
        }
    }

    /// Gives out the pieces of the redacted text and says of each whether it is a mark. Without anything to redact
    /// there are none, and the answer is no.
    pub(super) fn each(&self, text: &str, scope: Scope, sink: &mut dyn FnMut(&str, bool)) -> bool {
        let mut walk = Walk::new(self, scope, 0);
        let mut view = View { text, free: 0, last: true };
        let mut found = false;
        while let Some(Hit { kind, range, mut rest }) = walk.next(view, text.len()) {
            sink(view.slice(view.free..range.start), false);
            sink(&self.mark(kind, view.slice(range.clone())), true);
            let tail = view.slice(range.end..text.len());
            let more = rest.as_mut().map_or(Some(0), |rest| rest.take(tail));
            view.free = more.map_or(text.len(), |more| range.end + more);
            walk.skip_to(view.free);
            found = true;
        }
        if found {
            sink(view.slice(view.free..text.len()), false);
        }
        found
    }

    /// What is written in place of `value`.
    pub(super) fn mark(&self, kind: Kind, value: &str) -> Cow<'static, str> {
        mark(&self.policy, kind, value)
    }

    /// Whether the configuration names any field.
    pub(super) fn names_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Whether the configuration names this field.
    pub(super) fn is_named(&self, field: &str) -> bool {
        self.names_fields() && self.fields.contains(&plain_name(field))
    }

    /// What is found at a sign.
    fn at_sign(&self, view: View<'_>, at: usize, scope: Scope) -> Option<Hit> {
        let Policy { email, phone, card, iban, ip, .. } = &self.policy;
        let found = |operator: &Operator, kind, find: fn(View<'_>, usize) -> Option<Range<usize>>| {
            (*operator != Operator::Off).then(|| find(view, at)).flatten().map(|range| Hit::new(kind, range))
        };
        let is_personal = scope == Scope::All;
        match view.byte(at)? {
            b'@' if is_personal => found(email, Kind::Email, personal::email),
            b'0'..=b'9' if is_personal && !view.before(at).is_some_and(|b| b.is_ascii_digit()) => {
                found(iban, Kind::Iban, personal::iban)
                    .or_else(|| found(card, Kind::Card, personal::card))
                    .or_else(|| found(ip, Kind::Ip, personal::ipv4))
                    .or_else(|| found(phone, Kind::Phone, personal::phone))
            }
            b':' if is_personal => sign(view, at).or_else(|| found(ip, Kind::Ip, personal::ipv6)),
            b'?' | b'&' | b'=' | b':' => sign(view, at),
            _ => None,
        }
    }

    /// What is found at a fixed part.
    fn at_literal(&self, view: View<'_>, found: Range<usize>) -> Option<Hit> {
        match view.slice(found.clone()) {
            ESCAPED => self.escaped(view, found.start),
            _ => literal(view, found),
        }
    }

    /// A credential of which characters were escaped (`\u0073k-…`): the whole word goes.
    fn escaped(&self, view: View<'_>, at: usize) -> Option<Hit> {
        let word = |b: u8| bearer(b) || b == b':';
        let start = view.run_back(at, LOOKBACK, word);
        let (mut plain, mut end) = (String::new(), start);
        while end < start + WINDOW - ESCAPED.len() {
            let escape = view.slice(end..end + ESCAPED.len() + 2).strip_prefix(ESCAPED);
            let (b, len) = match escape {
                Some(digits) => (u8::from_str_radix(digits, 16).ok(), ESCAPED.len() + 2),
                None => (view.byte(end), 1),
            };
            let Some(b) = b.filter(|&b| word(b)) else { break };
            plain.push(char::from(b));
            end += len;
        }
        let inner = View { text: &plain, free: 0, last: view.last && end == view.text.len() };
        let Hit { kind, .. } = Walk::new(self, Scope::Credentials, 0).next(inner, plain.len())?;
        Some(Hit { kind, range: start..end, rest: Some(Rest::Run(|b| bearer(b) || b == b'\\')) })
    }

    /// The match of a pattern that begins at `at`, by the text of one window.
    fn at_match(&self, view: View<'_>, at: usize, index: usize) -> Option<Hit> {
        let end = view.text.floor_char_boundary(at + WINDOW);
        let found = self.patterns.get(index)?.find_at(view.slice(0..end), at)?;
        (found.start() == at && !found.is_empty()).then(|| Hit::new(Kind::Pattern(index), found.range()))
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new(Policy::default()).expect("the default policy has no patterns that could be wrong")
    }
}

impl PartialEq for Redactor {
    fn eq(&self, other: &Self) -> bool {
        self.policy == other.policy
    }
}

impl Eq for Redactor {}

impl Default for &'static Redactor {
    fn default() -> Self {
        Redactor::shared()
    }
}

/// A walk over a text, from one place where something may stand to the next.
pub(super) struct Walk<'r> {
    redactor: &'r Redactor,
    scope: Scope,
    literal: Ahead,
    sign: Ahead,
    patterns: Vec<Ahead>,
}

/// The next place of one kind.
#[derive(Clone, Default)]
struct Ahead {
    /// Where the search for it goes on.
    from: usize,
    /// What the search gave, if it was made.
    found: Option<Option<Range<usize>>>,
}

impl Ahead {
    fn peek(&mut self, find: impl FnOnce(usize) -> Option<Range<usize>>) -> Option<Range<usize>> {
        self.found.get_or_insert_with(|| find(self.from)).clone()
    }

    /// Goes on at `at`, unless what was found lies behind it.
    fn skip_to(&mut self, at: usize) {
        self.from = self.from.max(at);
        if self.found.as_ref().is_some_and(|found| found.as_ref().is_some_and(|range| range.start < at)) {
            self.found = None;
        }
    }
}

impl<'r> Walk<'r> {
    /// A walk that begins at `from`.
    pub(super) fn new(redactor: &'r Redactor, scope: Scope, from: usize) -> Self {
        let start = Ahead { from, found: None };
        let n = if scope == Scope::All { redactor.patterns.len() } else { 0 };
        Self { redactor, scope, literal: start.clone(), sign: start.clone(), patterns: vec![start; n] }
    }

    /// What is found next at a place before `limit`.
    pub(super) fn next(&mut self, view: View<'_>, limit: usize) -> Option<Hit> {
        let Self { redactor, scope, literal, sign, patterns } = self;
        loop {
            let at_literal = literal.peek(|from| redactor.literals.find_at(view.text, from).map(|found| found.range()));
            let at_sign = sign.peek(|from| {
                let bytes = view.text.as_bytes().get(from..limit)?;
                let at = from + bytes.iter().position(|&b| redactor.signs.get(usize::from(b)) == Some(&true))?;
                Some(at..at + 1)
            });
            let mut at_match = None;
            for (n, (ahead, regex)) in patterns.iter_mut().zip(&redactor.patterns).enumerate() {
                let found = ahead.peek(|from| regex.find_at(view.text, from).map(|found| found.range()));
                if let Some(range) = found
                    && at_match.is_none_or(|(start, _)| range.start < start)
                {
                    at_match = Some((range.start, n));
                }
            }
            let start = |range: &Option<Range<usize>>| range.as_ref().map_or(usize::MAX, |range| range.start);
            let places = [start(&at_literal), start(&at_sign), at_match.map_or(usize::MAX, |(start, _)| start)];
            let first = places.into_iter().min().filter(|&first| first < limit)?;
            let hit = match (at_literal, at_match) {
                (Some(range), _) if range.start == first => {
                    literal.skip_to(first + 1);
                    redactor.at_literal(view, range)
                }
                (_, Some((start, n))) if start == first => {
                    let next = view.text.ceil_char_boundary(first + 1);
                    patterns.get_mut(n).into_iter().for_each(|ahead| ahead.skip_to(next));
                    redactor.at_match(view, first, n)
                }
                _ => {
                    sign.skip_to(first + 1);
                    redactor.at_sign(view, first, *scope)
                }
            };
            if hit.is_some() {
                return hit;
            }
        }
    }

    /// Goes on behind what was found.
    pub(super) fn skip_to(&mut self, at: usize) {
        let Self { redactor: _, scope: _, literal, sign, patterns } = self;
        [literal, sign].into_iter().chain(patterns).for_each(|ahead| ahead.skip_to(at));
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
