//! Token counts of a call with several results.
//!
//! The engines' own APIs take several prompts at once and count for each of them. Counts grow while a result is made, so
//! the last report of each result holds, and the call's are their sums.

use super::facts::Usage;

/// Most results that are counted, as many as choices are kept. The counts of more are unknown, not partial.
const MAX_RESULTS: usize = 128;

/// Counts by result.
#[derive(Debug, Default)]
pub(crate) struct Results {
    list: Vec<Usage>,
    overflow: bool,
}

impl Results {
    /// Takes a report of the result at `index` and gives its output tokens before that.
    pub fn report(&mut self, index: u32, usage: Usage) -> Option<u64> {
        let at = index as usize;
        if at >= MAX_RESULTS {
            self.overflow = true;
            return None;
        }
        if self.list.len() <= at {
            self.list.resize(at + 1, Usage::default());
        }
        let known = self.list.get_mut(at)?;
        let before = known.output;
        known.input = usage.input.or(known.input);
        known.output = usage.output.or(known.output);
        known.cache_read = usage.cache_read.or(known.cache_read);
        known.reasoning = usage.reasoning.or(known.reasoning);
        before
    }

    /// The call's counts. Each prompt has `per_prompt` results in a row, which all report its tokens.
    pub fn total(&self, per_prompt: u64) -> Usage {
        if self.overflow {
            return Usage::default();
        }
        let per_prompt = usize::try_from(per_prompt).unwrap_or(usize::MAX).max(1);
        let sum = |step: usize, of: fn(&Usage) -> Option<u64>| {
            self.list.iter().step_by(step).filter_map(of).reduce(u64::saturating_add)
        };
        Usage {
            input: sum(per_prompt, |usage| usage.input),
            output: sum(1, |usage| usage.output),
            cache_read: sum(per_prompt, |usage| usage.cache_read),
            reasoning: sum(1, |usage| usage.reasoning),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input: Some(input), output: Some(output), ..Usage::default() }
    }

    #[test]
    fn the_last_report_of_each_is_added_up() {
        let mut results = Results::default();
        assert_eq!(results.total(1), Usage::default());
        assert_eq!(results.report(0, usage(5, 1)), None);
        assert_eq!(results.report(1, usage(5, 1)), None);
        assert_eq!(results.report(1, Usage { output: Some(3), ..Usage::default() }), Some(1));
        assert_eq!((results.total(1), results.total(2)), (usage(10, 4), usage(5, 4)));
    }

    #[test]
    fn more_than_are_counted_are_unknown() {
        let mut results = Results::default();
        results.report(0, usage(1, 1));
        results.report(u32::MAX, usage(1, 1));
        assert_eq!(results.total(0), Usage::default());
    }
}
