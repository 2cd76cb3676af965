#![no_main]

inferscope_fuzz::target!("websocket");
