#![no_main]

inferscope_fuzz::target!("record");
