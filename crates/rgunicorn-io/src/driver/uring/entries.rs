//! Submission entries, and the 64 bits that lead an answer back to its operation: kind 8 | generation 24 | index 32.

use std::num::NonZeroU32;

use io_uring::{opcode, squeue, types};

use super::super::optable::{GENERATION_MASK, Op};
use super::super::sendop::SendVectors;
use super::super::types::OpKey;
use super::Uring;
use super::bufring::GROUP;

/// The entry that a completion answers.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum OpKind {
    /// The operation's own.
    Op = 1,
    /// A cancellation's; comes only if it failed, because the operation was over already.
    Cancel = 2,
    /// A listener's poll removal, which `disarm_accept` waits for.
    PollRemove = 3,
}

pub(super) fn user_data(kind: OpKind, key: OpKey) -> u64 {
    (kind as u64) << 56 | u64::from(key.generation.get()) << 32 | u64::from(key.index)
}

/// Returns the key of a completion if it is the operation's own.
pub(super) fn op_key(user_data: u64) -> Option<OpKey> {
    let generation = NonZeroU32::new((user_data >> 32) as u32 & GENERATION_MASK)?;
    (user_data >> 56 == OpKind::Op as u64).then_some(OpKey { index: user_data as u32, generation })
}

pub(super) fn cancel(key: OpKey) -> squeue::Entry {
    opcode::AsyncCancel::new(user_data(OpKind::Op, key))
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(user_data(OpKind::Cancel, key))
}

pub(super) fn poll_remove(key: OpKey) -> squeue::Entry {
    opcode::PollRemove::new(user_data(OpKind::Op, key)).build().user_data(user_data(OpKind::PollRemove, key))
}

impl Uring {
    /// Queues the entry of a live operation.
    pub(super) fn push_op(&mut self, key: OpKey) {
        let now = self.ring.round();
        let Some((fd, _, op)) = self.ops.get_mut(key) else {
            return;
        };
        if let Op::Recv { round, .. } = op {
            *round = now;
        }
        let fd = types::Fd(fd);
        let entry = match op {
            Op::Recv { by_poll: false, single: false, .. } => opcode::RecvMulti::new(fd, GROUP).build(),
            // The length is that of the buffer.
            Op::Recv { by_poll: false, single: true, .. } => opcode::Recv::new(fd, std::ptr::null_mut(), 0)
                .buf_group(GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Op::Recv { by_poll: true, .. } => opcode::PollAdd::new(fd, libc::POLLIN as u32).build(),
            Op::Poll { mask, .. } => opcode::PollAdd::new(fd, *mask).build(),
            Op::Send(send) if send.by_poll => opcode::PollAdd::new(fd, libc::POLLOUT as u32).build(),
            Op::Send(send) => {
                // MSG_WAITALL: the kernel itself goes on after a short send, so one completion is the normal case.
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
                match send.vectors() {
                    SendVectors::One(bytes, len) => opcode::Send::new(fd, bytes, len).flags(flags).build(),
                    SendVectors::Two(message) => {
                        opcode::SendMsg::new(fd, message).flags(flags as u32).build()
                    }
                }
            }
        };
        let entry = entry.user_data(user_data(OpKind::Op, key));
        // SAFETY: a send's memory lies in its boxed operation, which leaves the table only at the terminal completion;
        // received bytes go to the registered buffers; polls name no memory.
        unsafe { self.ring.push(entry) };
        // A full queue was submitted before this entry came into it.
        let round = self.ring.round();
        if round != now {
            self.stamp(key, round);
        }
    }

    #[cold]
    fn stamp(&mut self, key: OpKey, now: u16) {
        if let Some((_, _, Op::Recv { round, .. })) = self.ops.get_mut(key) {
            *round = now;
        }
    }

    /// Queues a cancellation.
    pub(super) fn push_cancel(&mut self, key: OpKey) {
        // SAFETY: a cancellation names no memory, only the user data of another entry.
        unsafe { self.ring.push(cancel(key)) };
    }
}
