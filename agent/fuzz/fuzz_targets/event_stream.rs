#![no_main]

inferscope_fuzz::target!("event_stream");
