//! What the kernel side is told before it is loaded.

/// What to load the programs with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Trace only these thread groups and their children; empty together with `comms`: every process.
    pub pids: Vec<u32>,
    /// Trace processes with these names (`comm`).
    pub comms: Vec<String>,
    /// Capture every HTTP exchange, not only POSTs.
    pub all_http: bool,
    /// Size of the bulk ring in bytes, a power of two; `None` takes the object's default.
    pub ring_bytes: Option<u32>,
}

impl Settings {
    /// Whether only listed processes are traced.
    pub fn listed_only(&self) -> bool {
        !self.pids.is_empty() || !self.comms.is_empty()
    }
}
