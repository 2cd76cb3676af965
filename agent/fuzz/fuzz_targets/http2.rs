#![no_main]

inferscope_fuzz::target!("http2");
