//! Log lines for debugging the kernel side, with the cargo feature `log` only. Without it a line is nothing at all:
//! each one is code that the verifier walks, and none may stand on a path that runs per message.

/// Logs at debug level through aya-log.
macro_rules! log {
    ($ctx:expr, $($argument:tt)*) => {{
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!($ctx, $($argument)*);
        #[cfg(not(feature = "log"))]
        let _ = &$ctx;
    }};
}

pub(crate) use log;
