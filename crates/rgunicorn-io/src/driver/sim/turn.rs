//! One turn of the simulation: the choice of the operations that complete, and of their results.

use std::io;
use std::os::fd::RawFd;

use super::super::optable::{Op, OpPhase};
use super::super::types::{Completion, OpKey, Received, Token};
use super::world::{SimCall, SimPoll};
use super::{Sim, send_rest};

impl Sim {
    /// Gives every operation its chance, in an order that the dice choose. True if something is due but late.
    pub(super) fn turn(&mut self, out: &mut Vec<Completion>) -> bool {
        let mut keys = self.ops.keys();
        let mut late = false;
        while !keys.is_empty() {
            let key = {
                let mut world = self.world.borrow_mut();
                keys.swap_remove(world.rng.below(keys.len()))
            };
            let before = out.len();
            let mut due = self.attempt(key, out);
            late |= due && out.len() == before;
            // A multishot reception may bring several results in one wait.
            while due && matches!(out.last(), Some(Completion::Recv { outcome: Received::Data(_), .. })) {
                let more = self.world.borrow_mut().rng.roll(500);
                due = more && out.len() > before && self.attempt_again(key, out);
            }
        }
        late
    }

    /// Gives a reception that has just brought data another chance. True if it brought something.
    fn attempt_again(&mut self, key: OpKey, out: &mut Vec<Completion>) -> bool {
        let before = out.len();
        self.attempt(key, out);
        out.len() > before
    }

    /// Gives one operation its chance. True if it was due.
    fn attempt(&mut self, key: OpKey, out: &mut Vec<Completion>) -> bool {
        let Some((fd, OpPhase::Armed, op)) = self.ops.get(key) else {
            return false;
        };
        match *op {
            Op::Recv { token, .. } => self.attempt_recv(key, fd, token, out),
            Op::Send(_) => self.attempt_send(key, fd, out),
            Op::Poll { token, mask, accept } => self.attempt_poll(key, fd, token, mask, accept, out),
        }
    }

    fn attempt_recv(&mut self, key: OpKey, fd: RawFd, token: Token, out: &mut Vec<Completion>) -> bool {
        let mut world = self.world.borrow_mut();
        let config = world.config.clone();
        if world.rng.roll(config.reset_per_mille)
            && let Ok(socket) = world.socket(fd)
        {
            socket.reset = true;
        }
        let ready = world.failing(SimCall::Recv).map_or_else(|| world.readiness(fd), Err);
        let outcome = match ready {
            Ok(mask) if mask & (libc::POLLIN as u32) == 0 => return false,
            Ok(_) if world.rng.roll(config.late_per_mille) => return true,
            Ok(_) if world.rng.roll(config.ended_per_mille) => {
                self.stats.rearms += 1;
                return true;
            }
            Ok(_) if !self.pool.has_free() => {
                self.stats.enobufs += 1;
                return false;
            }
            Ok(_) => match self.pool.fill(|into| world.recv(fd, into)) {
                Ok(Some(buf)) => Received::Data(buf),
                Ok(None) => Received::Eof,
                Err(error) => Received::Err(error),
            },
            Err(error) => Received::Err(error),
        };
        drop(world);
        if !matches!(outcome, Received::Data(_)) {
            self.ops.remove(key);
        }
        out.push(Completion::Recv { token, outcome });
        true
    }

    fn attempt_send(&mut self, key: OpKey, fd: RawFd, out: &mut Vec<Completion>) -> bool {
        let mut world = self.world.borrow_mut();
        let late = world.config.late_per_mille;
        if world.rng.roll(late) {
            return true;
        }
        let Some((_, _, Op::Send(op))) = self.ops.get_mut(key) else {
            return false;
        };
        let result = match send_rest(&mut world, fd, &op.buf, &mut op.sent) {
            Ok(false) => return false,
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        if let Some(Op::Send(op)) = self.ops.remove(key) {
            out.push(Completion::Sent { token: op.token, result, buf: op.buf });
        }
        true
    }

    fn attempt_poll(
        &mut self,
        key: OpKey,
        fd: RawFd,
        token: Token,
        mask: u32,
        accept: bool,
        out: &mut Vec<Completion>,
    ) -> bool {
        let mut world = self.world.borrow_mut();
        let waiter = SimPoll { driver: self.id, op: key };
        let woken =
            !accept || world.listeners.get(&fd).is_none_or(|listening| listening.woken.contains(&waiter));
        let always = (libc::POLLERR | libc::POLLHUP) as u32;
        let (late, canceled) = (world.config.late_per_mille, world.config.canceled_per_mille);
        let call = if accept { SimCall::PollListener } else { SimCall::Poll };
        let failure = world.failing(call);
        let result = match world.readiness(fd) {
            _ if failure.is_some() => failure.map_or(Ok(0), Err),
            _ if !woken => return false,
            Ok(ready) if !accept && ready & (mask | always) == 0 => return false,
            Ok(_) if world.rng.roll(late) => return true,
            Ok(_) if !accept && world.rng.roll(canceled) => {
                Err(io::Error::from_raw_os_error(libc::ECANCELED))
            }
            Ok(ready) if accept => Ok(ready | libc::POLLIN as u32),
            Ok(ready) => Ok(ready & (mask | always)),
            Err(error) => Err(error),
        };
        // It has come to its end, which is when it counts.
        let _ = world.call(call);
        if let Some(listening) = world.listeners.get_mut(&fd) {
            listening.woken.retain(|other| *other != waiter);
        }
        drop(world);
        self.ops.remove(key);
        out.push(Completion::Poll { token, result });
        true
    }
}
