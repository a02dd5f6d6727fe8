//! The meaning of the kernel's answers.

use std::io;

use io_uring::cqueue;

use super::super::optable::{Op, OpPhase};
use super::super::types::{BufId, Completion, OpKey, Received};
use super::Uring;
use super::entries::op_key;

impl Uring {
    /// Handles one completion; adds at most one to `out`.
    pub(super) fn complete(&mut self, entry: &cqueue::Entry, out: &mut Vec<Completion>) {
        let Some(key) = op_key(entry.user_data()) else {
            return;
        };
        let buf = self.acquire_buffer(entry);
        let more = cqueue::more(entry.flags());
        let Some((_, phase, op)) = self.ops.get(key) else {
            debug_assert!(false, "a completion after the terminal one of {key:?}");
            return self.release_buffer(buf);
        };
        if phase == OpPhase::Orphaned {
            self.release_buffer(buf);
            if !more && let Some(Op::Send(op)) = self.ops.remove(key) {
                out.push(Completion::Orphan { buf: op.buf });
            }
            return;
        }
        match op {
            Op::Recv { .. } => self.complete_recv(key, entry.result(), buf, more, out),
            Op::Send(_) => self.complete_send(key, entry.result(), out),
            &Op::Poll { token, .. } => {
                self.ops.remove(key);
                out.push(Completion::Poll { token, result: mask(entry.result()) });
            }
        }
    }

    /// Takes over the buffer that a completion names, if it names one.
    pub(super) fn acquire_buffer(&mut self, entry: &cqueue::Entry) -> Option<BufId> {
        let id = cqueue::buffer_select(entry.flags())?;
        self.buffers.acquire();
        Some(BufId { id, len: u32::try_from(entry.result()).unwrap_or(0) })
    }

    pub(super) fn release_buffer(&mut self, buf: Option<BufId>) {
        if let Some(buf) = buf {
            self.buffers.release(buf.id);
        }
    }

    fn complete_recv(
        &mut self,
        key: OpKey,
        result: i32,
        buf: Option<BufId>,
        more: bool,
        out: &mut Vec<Completion>,
    ) {
        let Some((_, _, &mut Op::Recv { token, ref mut by_poll, ref mut ended, .. })) = self.ops.get_mut(key)
        else {
            return;
        };
        let was_poll = std::mem::take(by_poll);
        let was_ended = *ended && !more;
        *ended &= more;
        match (result, buf) {
            (1.., Some(buf)) => {
                out.push(Completion::Recv { token, outcome: Received::Data(buf) });
                if !more {
                    self.park(key);
                }
                return;
            }
            // The poll that stood in for it fired.
            (1.., None) if was_poll => return self.park(key),
            (result, buf) => {
                self.release_buffer(buf);
                match -result {
                    libc::EINTR => return self.park(key),
                    libc::ECANCELED if was_ended => return self.park(key),
                    libc::ENOBUFS => return self.park_for_buffer(key),
                    libc::EAGAIN => return self.recv_by_poll(key),
                    _ if more => return,
                    _ => {}
                }
            }
        }
        self.ops.remove(key);
        let outcome =
            if result >= 0 { Received::Eof } else { Received::Err(io::Error::from_raw_os_error(-result)) };
        out.push(Completion::Recv { token, outcome });
    }

    /// Parks a reception that has ended although it is to go on: for the kernel's reasons (short of memory, completion
    /// queue full), or because it has had its share. Where others wait for buffers, it waits behind them.
    fn park(&mut self, key: OpKey) {
        self.ops.set_phase(key, OpPhase::Parked);
        if self.awaiting_buffer.is_empty() {
            self.to_rearm.push(key);
        } else {
            self.awaiting_buffer.push_back(key);
        }
    }

    fn park_for_buffer(&mut self, key: OpKey) {
        self.enobufs += 1;
        self.ops.set_phase(key, OpPhase::Parked);
        self.awaiting_buffer.push_back(key);
    }

    /// Waits by a poll for a descriptor that is non-blocking (the application may have made it so): the kernel does
    /// not wait by itself.
    fn recv_by_poll(&mut self, key: OpKey) {
        if let Some((_, _, Op::Recv { by_poll, .. })) = self.ops.get_mut(key) {
            *by_poll = true;
        }
        self.push_op(key);
    }

    fn complete_send(&mut self, key: OpKey, result: i32, out: &mut Vec<Completion>) {
        let Some((_, _, Op::Send(op))) = self.ops.get_mut(key) else {
            return;
        };
        let was_poll = std::mem::take(&mut op.by_poll);
        let result = match result {
            0.. if was_poll => return self.push_op(key),
            1.. => {
                op.sent += result as usize;
                if !op.is_done() {
                    return self.push_op(key);
                }
                Ok(())
            }
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ => match -result {
                libc::EINTR => return self.push_op(key),
                libc::EAGAIN => {
                    op.by_poll = true;
                    return self.push_op(key);
                }
                errno => Err(io::Error::from_raw_os_error(errno)),
            },
        };
        if let Some(Op::Send(op)) = self.ops.remove(key) {
            out.push(Completion::Sent { token: op.token, result, buf: op.buf });
        }
    }
}

/// Reads a poll's answer: a mask, or an errno.
pub(super) fn mask(result: i32) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
