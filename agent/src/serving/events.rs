//! What the kernel tells of processes and connections beside the calls.
//!
//! Owns where each event goes: to the engine that it is of, to the connection, to the load that it belongs to. What it means for
//! a call is `causes`', `steps`' and `loads`'.

use super::{Limited, ModelLoad, Serving};
use crate::{
    call::link::End,
    record::{Address, CudaStep, FileOpen, Origin},
    time::Mono,
};

impl Serving {
    /// A process ended.
    pub fn exited(&mut self, at: Mono, pid: u32, status: u32) {
        self.changed(pid);
        self.stirred |= self.loads.exited(pid) || self.machines.servers().contains(&pid);
        if let Some(notice) = self.machines.exited(at, pid, status) {
            self.notice(notice);
        }
    }

    /// Something about a process has changed: if it belongs to an engine, who else does may have too.
    pub fn changed(&mut self, pid: u32) {
        if self.machines.engine_of(pid).is_some() {
            self.changes += 1;
            self.stirred = true;
        }
    }

    /// The kernel chose a process to be killed for want of memory.
    pub fn oom_victim(&mut self, pid: u32) {
        self.machines.oom_victim(pid);
    }

    /// Another program began in a process.
    pub fn exec(&mut self, at: Mono, pid: u32) {
        self.loads.exec(at, pid);
        self.changed(pid);
    }

    /// A process began to listen: a part of an engine may have become reachable.
    pub fn listened(&mut self, at: Mono, pid: u32) {
        self.loads.listened(at, pid);
        self.changed(pid);
    }

    /// A process opened a file with weights.
    pub fn weights_opened(&mut self, at: Mono, pid: u32, open: &FileOpen<'_>) {
        self.stirred |= self.loads.opened(at, pid, open);
        self.tell_opens();
    }

    /// Engines learn which of their processes opened weights.
    pub(super) fn tell_opens(&mut self) {
        for (pid, at, path) in self.loads.untold(|pid| self.machines.engine_of(pid).is_some()) {
            if let Some((_, engine)) = self.machines.serving_mut(pid) {
                engine.opened(at, path);
            }
        }
    }

    /// Notes the loads that are over by a time.
    pub(super) fn tell_loads(&mut self, now: Mono) {
        let machines = &self.machines;
        let engine = |pid| {
            let number = machines.engine_of(pid)?;
            Some((number, machines.engine(number)?.pids()))
        };
        for (number, mut load) in self.loads.finished(now, engine) {
            if let Some(engine) = machines.engine(number) {
                load.engine = Some(engine.facts());
                load.model = engine.identity.model.clone();
            }
            load.process = machines.identity(load.process.pid);
            self.loaded.push(load);
            self.stirred = true;
        }
    }

    /// Models that were loaded since this was last asked.
    pub fn loaded(&mut self) -> Vec<ModelLoad> {
        std::mem::take(&mut self.loaded)
    }

    /// A process has made a step on its GPU.
    pub fn stepped(&mut self, origin: &Origin, step: &CudaStep) {
        self.steps.stepped(origin, step);
    }

    /// A process did not get so much memory of a GPU.
    pub fn gpu_memory_refused(&mut self, origin: &Origin, size: u64) {
        self.steps.refused(origin, size);
    }

    /// Segments of a connection were sent again.
    pub fn retransmitted(&mut self, at: Mono, local: &Address, peer: &Address, count: u64) {
        if let (Some(local), Some(peer)) = (End::of(local), End::of(peer)) {
            self.sockets.retransmitted(at, local, peer, count);
        }
    }

    /// Sending on a connection has waited for so long.
    pub fn send_limited(&mut self, at: Mono, local: &Address, peer: &Address, since: Limited) {
        if let (Some(local), Some(peer)) = (End::of(local), End::of(peer)) {
            self.sockets.limited(at, local, peer, since);
        }
    }
}
