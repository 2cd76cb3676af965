//! Addresses that the code calls.

use std::ops::Range;

use memchr::memchr_iter;

use super::{Unsearchable, memory::Memory};

/// Targets that may be found. The ranges that are asked about have some thousand functions.
const MAX_TARGETS: usize = 1 << 17;

/// A `call rel32`.
const CALL: usize = 5;

/// Targets of direct calls that lie in one of the ranges, in order. By the bytes alone: few are none.
pub fn targets(memory: &Memory<'_>, ranges: impl Iterator<Item = Range<u64>>) -> Result<Vec<u64>, Unsearchable> {
    let ranges = merged(ranges);
    let mut found = Vec::new();
    memory.each_window(
        |segment| segment.executable,
        CALL - 1,
        |address, bytes| {
            for at in memchr_iter(0xe8, bytes) {
                let Some(distance) = bytes.get(at + 1..at + CALL).and_then(|bytes| bytes.first_chunk()) else { break };
                let next = address.wrapping_add((at + CALL) as u64);
                let target = next.wrapping_add_signed(i64::from(i32::from_le_bytes(*distance)));
                let place = ranges.partition_point(|range| range.end <= target);
                if ranges.get(place).is_some_and(|range| range.contains(&target)) {
                    found.push(target);
                }
            }
            // The same few are called again and again.
            if found.len() > MAX_TARGETS {
                found.sort_unstable();
                found.dedup();
            }
            if found.len() > MAX_TARGETS { Err(Unsearchable::TooMany) } else { Ok(()) }
        },
    )?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn merged(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = ranges.collect();
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
