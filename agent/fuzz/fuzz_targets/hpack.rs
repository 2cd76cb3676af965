#![no_main]

inferscope_fuzz::target!("hpack");
