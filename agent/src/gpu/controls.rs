//! What the agent wants of the sampler's threads, as state that they take and not as a queue.
//!
//! Owns the merging: a hundred pokes before the thread looks are one, of changes of a device's activity the last one counts.
//! So it has no cap to reach, and whoever calls never waits for the driver.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{nvml::MAX_DEVICES, schedule::Which};

/// The wishes, shared by the handle and the threads.
#[derive(Default)]
pub(super) struct Controls {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

/// What was asked for since the polling thread last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Activity of all devices, before those of single ones.
    pub(super) all: Option<bool>,
    /// Activity of single devices, up to [`MAX_DEVICES`] of them.
    pub(super) active: BTreeMap<u32, bool>,
    /// Lists of processes are wanted.
    pub(super) poke: bool,
    /// The devices may have changed: they are to be looked for again.
    pub(super) look_again: bool,
    /// It is over. Stays.
    pub(super) end: bool,
}

impl Controls {
    pub(super) fn poke(&self) {
        self.lock().poke = true;
        self.changed.notify_all();
    }

    pub(super) fn set_active(&self, which: Which<'_>, active: bool) {
        let mut wishes = self.lock();
        match which {
            Which::All => {
                wishes.all = Some(active);
                wishes.active.clear();
            }
            Which::These(devices) => {
                for &device in devices {
                    if wishes.active.len() < MAX_DEVICES || wishes.active.contains_key(&device) {
                        wishes.active.insert(device, active);
                    }
                }
            }
        }
        drop(wishes);
        self.changed.notify_all();
    }

    pub(super) fn look_again(&self) {
        self.lock().look_again = true;
        self.changed.notify_all();
    }

    pub(super) fn end(&self) {
        self.lock().end = true;
        self.changed.notify_all();
    }

    /// Takes what was asked for.
    pub(super) fn take(&self) -> Wishes {
        let mut wishes = self.lock();
        let end = wishes.end;
        let taken = std::mem::take(&mut *wishes);
        wishes.end = end;
        taken
    }

    /// Waits until something is asked for, or so long.
    pub(super) fn wait(&self, time: Duration) {
        let idle = |wishes: &mut Wishes| *wishes == Wishes::default();
        let _ = self.changed.wait_timeout_while(self.lock(), time, idle);
    }

    /// Waits until it is over, or so long; whether it is.
    pub(super) fn wait_for_end(&self, time: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), time, |wishes| !wishes.end);
        waited.unwrap_or_else(PoisonError::into_inner).0.end
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_many_times_is_taken_once() {
        let controls = Controls::default();
        controls.poke();
        controls.poke();
        controls.set_active(Which::These(&[1, 2]), true);
        controls.set_active(Which::These(&[2]), false);
        let Wishes { all, active, poke, look_again, end } = controls.take();
        assert_eq!((all, poke, look_again, end), (None, true, false, false));
        assert_eq!(active, BTreeMap::from([(1, true), (2, false)]));
        assert_eq!(controls.take(), Wishes::default());
    }

    #[test]
    fn all_devices_outdo_single_ones_that_came_before() {
        let controls = Controls::default();
        controls.set_active(Which::These(&[1]), true);
        controls.set_active(Which::All, false);
        controls.set_active(Which::These(&[2]), true);
        let Wishes { all, active, .. } = controls.take();
        assert_eq!((all, active), (Some(false), BTreeMap::from([(2, true)])));
    }

    #[test]
    fn devices_that_nobody_has_do_not_pile_up() {
        let controls = Controls::default();
        controls.set_active(Which::These(&(0..100_000).collect::<Vec<_>>()), true);
        assert_eq!(controls.take().active.len(), MAX_DEVICES);
    }

    #[test]
    fn the_end_stays() {
        let controls = Controls::default();
        controls.end();
        assert!(controls.take().end && controls.take().end);
        assert!(controls.wait_for_end(Duration::from_secs(100)));
    }
}
