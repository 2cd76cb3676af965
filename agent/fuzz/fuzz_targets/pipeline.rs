#![no_main]

inferscope_fuzz::target!("pipeline");
