//! Who used a GPU's energy: windows of 50 ms, each split among the calls that were served in it.
//!
//! Owns the arithmetic and its exactness: energy of the devices = idle + unattributed + shares + what is not yet given
//! out, in whole millijoules, always. A call takes its shares when it ends, because only then its tokens are known; what it
//! leaves is split among those that remain, and the last takes the rest of the window.
//!
//! Weights are tokens: one for each that was written in the window, and [`PROMPT_WEIGHT`] for each of the prompt that was
//! not in the cache, spread evenly over the time until the first token. The method, its error and how that was found are in
//! docs/energy.md.

use std::collections::VecDeque;

use crate::{
    call::progress::{portions, window_of},
    time::Mono,
};

/// What reading a token of the prompt weighs against writing one.
pub const PROMPT_WEIGHT: f64 = 0.15;

/// Windows that are kept open. Calls that are longer have taken their shares of what is older.
pub const MAX_WINDOWS: usize = 1200;

/// Energy of an engine's devices in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Window {
    /// What is not given out yet, millijoules.
    left: u64,
    /// Weight of those that have not taken their share.
    weight: f64,
    /// Their number.
    sharers: u32,
    /// Share of the devices' busy time that this engine explains; 0 where nothing was observed.
    explained: f32,
}

/// Sums of millijoules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Energy of the devices, over all windows.
    pub devices: u64,
    /// Of it, of the time in which nobody was served.
    pub idle: u64,
    /// Of it, of other processes, or of nobody that was seen.
    pub unattributed: u64,
    /// Of it, taken by calls.
    pub shared: u64,
    /// Of it, still to be taken.
    pub open: u64,
}

/// What a window had, when it is sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sealed {
    /// Energy of the devices, millijoules; absent if it was not observed.
    pub devices: Option<u64>,
    /// Of it, idle.
    pub idle: u64,
    /// Of it, for the engine's calls.
    pub active: u64,
    /// See [`Window::explained`].
    pub explained: f32,
}

/// Weights of one call by window, from its first one on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    first: u64,
    weights: VecDeque<f32>,
    /// Taken so far, millijoules: what was older than the windows that are kept.
    pub taken: u64,
    /// Sum of the explained shares, of the sharers and the number of the windows that were taken.
    explained: f64,
    sharers: f64,
    windows: u64,
}

impl Weights {
    /// Of a call that began in this window.
    pub fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    fn end(&self) -> u64 {
        self.first + self.weights.len() as u64
    }

    /// Mean share of GPU time that was explained, over its windows.
    pub fn coverage(&self) -> f64 {
        if self.windows == 0 { 0.0 } else { self.explained / self.windows as f64 }
    }

    /// Mean number of calls in its windows.
    pub fn concurrency(&self) -> f64 {
        if self.windows == 0 { 0.0 } else { self.sharers / self.windows as f64 }
    }
}

/// The windows of one engine.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    first: u64,
    windows: VecDeque<Window>,
    /// Windows before this one are sealed: their energy is known, or known to be unknown.
    sealed: u64,
    sums: Sums,
}

impl Windows {
    /// Sums so far.
    pub fn sums(&self) -> Sums {
        Sums { open: self.windows.iter().map(|window| window.left).sum(), ..self.sums }
    }

    /// The first window whose energy is not known yet.
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Makes a call a sharer of every window up to the one that `until` lies in.
    pub fn extend(&mut self, weights: &mut Weights, until: Mono) {
        if weights.weights.is_empty() {
            // What is no longer kept has been given out without it.
            weights.first = weights.first.max(self.first);
        }
        while weights.end() <= window_of(until) {
            if let Some(window) = self.window(weights.end()) {
                window.sharers += 1;
            }
            weights.weights.push_back(0.0);
        }
    }

    /// A call did something in a window. Counts in the nearest of its own windows that is still open.
    pub fn weigh(&mut self, weights: &mut Weights, window: u64, weight: f32) {
        let Some(last) = weights.weights.len().checked_sub(1) else { return };
        let at = (window.saturating_sub(weights.first) as usize).min(last);
        weights.weights[at] += weight;
        if let Some(window) = self.window(weights.first + at as u64) {
            window.weight += f64::from(weight);
        }
    }

    /// Multiplies what a call did from a window on: its tokens were counted by chunks, and now their number is known.
    pub fn rescale(&mut self, weights: &mut Weights, from: u64, factor: f32) {
        for at in (from.saturating_sub(weights.first) as usize)..weights.weights.len() {
            let more = weights.weights[at] * (factor - 1.0);
            weights.weights[at] += more;
            if let Some(window) = self.window(weights.first + at as u64) {
                window.weight += f64::from(more);
            }
        }
    }

    /// Spreads a weight over a time.
    pub fn spread(&mut self, weights: &mut Weights, from: Mono, to: Mono, weight: f64) {
        for (window, part) in portions(from, to) {
            self.weigh(weights, window, (weight * part) as f32);
        }
    }

    /// The energy of the next window is known. Windows are sealed one after the other.
    pub fn seal(&mut self, number: u64, sealed: Sealed) {
        self.sealed = number + 1;
        let Some(devices) = sealed.devices else { return };
        self.sums.devices += devices;
        let idle = sealed.idle.min(devices);
        let active = sealed.active.min(devices - idle);
        self.sums.idle += idle;
        self.sums.unattributed += devices - idle - active;
        match self.window(number) {
            Some(window) if window.sharers > 0 => {
                window.left = active;
                window.explained = sealed.explained;
            }
            _ => self.sums.unattributed += active,
        }
    }

    /// A call takes its share of each of its windows before `until`; all that have any are to be sealed.
    pub fn take(&mut self, weights: &mut Weights, until: u64) {
        while weights.first < until
            && let Some(own) = weights.weights.pop_front()
        {
            let number = weights.first;
            weights.first += 1;
            let Some(window) = self.window(number) else { continue };
            let share = if window.sharers <= 1 {
                window.left
            } else if window.weight > 0.0 {
                (window.left as f64 * f64::from(own).max(0.0) / window.weight.max(f64::from(own))) as u64
            } else {
                window.left / u64::from(window.sharers)
            };
            let share = share.min(window.left);
            window.left -= share;
            window.weight = (window.weight - f64::from(own)).max(0.0);
            let sharers = window.sharers;
            window.sharers = window.sharers.saturating_sub(1);
            let explained = window.explained;
            self.sums.shared += share;
            weights.taken += share;
            weights.explained += f64::from(explained);
            weights.sharers += f64::from(sharers);
            weights.windows += 1;
        }
    }

    /// A call turned out to be none: it takes nothing, and where it was alone nobody does.
    pub fn leave(&mut self, weights: &mut Weights) {
        while let Some(own) = weights.weights.pop_front() {
            let number = weights.first;
            weights.first += 1;
            let Some(window) = self.window(number) else { continue };
            window.weight = (window.weight - f64::from(own)).max(0.0);
            window.sharers = window.sharers.saturating_sub(1);
            if window.sharers == 0 {
                let left = std::mem::take(&mut window.left);
                self.sums.unattributed += left;
            }
        }
    }

    /// The first window that stays when those that are too old go. Whoever has shares before it is to take them first.
    pub fn horizon(&self) -> u64 {
        (self.first + self.windows.len() as u64).saturating_sub(MAX_WINDOWS as u64)
    }

    /// Forgets windows before the horizon, and those that are sealed and that nobody shares any more.
    pub fn forget(&mut self) {
        let horizon = self.horizon();
        while let Some(window) = self.windows.front()
            && (self.first < horizon || (window.sharers == 0 && self.first < self.sealed))
        {
            self.sums.unattributed += window.left;
            self.windows.pop_front();
            self.first += 1;
        }
    }

    /// A window that is kept, made if it is later than all.
    fn window(&mut self, number: u64) -> Option<&mut Window> {
        if self.windows.is_empty() {
            self.first = self.first.max(number);
        }
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        // Beyond it only a clock that jumps: nobody has 60,000 windows open.
        if at >= 100 * MAX_WINDOWS {
            return None;
        }
        while self.windows.len() <= at {
            self.windows.push_back(Window::default());
        }
        self.windows.get_mut(at)
    }
}

/// Error of nine in ten calls, as a share, in the simulation and against the mock engine, whichever is larger: what mixes in
/// a window depends on how many calls there are.
pub fn uncertainty(concurrency: f64, prompt_known: bool) -> f64 {
    match (concurrency < 20.0, prompt_known) {
        (_, true) => 0.16,
        (true, false) => 0.20,
        (false, false) => 0.32,
    }
}
