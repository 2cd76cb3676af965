#![no_main]

inferscope_fuzz::target!("encoding");
