//! What the reader of the rings asks for before it sleeps, in the map `WAKE`: the payload bytes that are to wait for it
//! until a record wakes it; a process's first payload wakes it at once. At 0 none does.

/// Any record of either ring wakes the reader.
pub const ANY_RECORD: u32 = 1;
