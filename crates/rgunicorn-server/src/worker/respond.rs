//! The one command that answers a request whose application has given everything, and what a response that goes on in
//! pieces asks for instead.

use rgunicorn_io::driver::{SendBuf, Urgency};
use rgunicorn_io::sys::clock;

use crate::response::{BodyItem, HeadContext, Outgoing, Pieces, Response};

use super::conn::io::ConnIo;
use super::ids::RequestId;
use super::message::Flow;
use super::reactor::Reactor;

/// Output that is queued and larger than this is waited for before the request counts as over.
const AWAITED_ITEM_BYTES_MIN: usize = 64 * 1024;

/// A response that has everything: its last item, its end, and what becomes of its connection.
pub struct Whole<'a> {
    /// Its state.
    pub response: &'a mut Response,
    /// Bytes that were appended before; `None`: there are none.
    pub pieces: Option<Pieces>,
    /// The last item of the body.
    pub item: Option<&'a dyn BodyItem>,
    /// The response may leave together with those of other connections, and small ones are not waited for.
    pub batch: bool,
    /// The caller can wait until the client has taken it.
    pub waits: bool,
    /// A connection that stays is free for its next request at once; otherwise [`Reactor::finish`] says when.
    pub frees: bool,
}

/// The state of a response after [`Reactor::respond`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responded {
    /// The application has not called `start_response`: nothing was sent.
    NotStarted,
    /// All of it is queued and to be waited for; [`Reactor::finish`] follows.
    Waiting,
    /// All of it was sent, or will be without the caller.
    Done,
}

impl Reactor {
    /// Sends what is left of a response, ends it, and sees to its connection.
    pub fn respond(&self, id: RequestId, whole: Whole<'_>) -> Responded {
        self.core().parts(&self.setup).io.respond(id, whole)
    }

    /// Returns what the head of a response says about its connection and the time.
    pub fn head_context(&self, id: RequestId) -> HeadContext {
        self.core().parts(&self.setup).io.head_context(id)
    }

    /// Sends pieces of a response that goes on, in their order; see [`Self::send`].
    pub fn send_pieces(&self, id: RequestId, pieces: Pieces) -> Flow {
        self.core().parts(&self.setup).io.push_pieces(id, pieces, Urgency::Now)
    }
}

impl ConnIo<'_> {
    /// Sends what is left of a response, ends it, and sees to its connection.
    fn respond(&mut self, id: RequestId, whole: Whole<'_>) -> Responded {
        let Whole { response, pieces, item, batch, waits, frees } = whole;
        let mut pieces = pieces.unwrap_or_else(|| Pieces::new(self.memory.buffer()));
        let large = item.is_some_and(is_large_item);
        if let Some(item) = item {
            response.append(|| self.head_context(id), &mut pieces, item);
        }
        if !response.end(|| self.head_context(id), &mut pieces) {
            self.memory.recycle(pieces.into_parts().1);
            return Responded::NotStarted;
        }
        response.close();
        let urgency = self.turn.urgency(batch && !large);
        let flow = self.push_pieces(id, pieces, urgency);
        if flow == Flow::Queued && waits && (large || !batch) {
            return Responded::Waiting;
        }
        let keep = response.keeps_alive();
        if frees || !keep {
            self.finish(id, keep);
        }
        Responded::Done
    }

    /// Returns what the head of a response says about its connection and the time.
    fn head_context(&mut self, id: RequestId) -> HeadContext {
        let detached = self.conns.request(id).is_some_and(|conn| conn.detached);
        let date = self.memory.date(clock::unix_now().as_secs());
        HeadContext { keep_alive: self.setup.keeps_alive() && !detached, date }
    }

    /// Sends pieces in their order.
    fn push_pieces(&mut self, id: RequestId, pieces: Pieces, urgency: Urgency) -> Flow {
        let (ready, tail) = pieces.into_parts();
        let mut flow = Flow::Sent;
        // Also when the client has left meanwhile: the connection keeps the memory of the application's for a
        // place where it may be dropped.
        for piece in ready {
            flow = self.push_piece(id, piece, urgency);
        }
        if tail.is_empty() {
            self.memory.recycle(tail);
            return flow;
        }
        self.push_piece(id, tail.into(), urgency)
    }

    /// Sends one piece of a response, unless that is over: then it is discarded.
    pub(crate) fn push_piece(&mut self, id: RequestId, piece: Outgoing, urgency: Urgency) -> Flow {
        if self.conns.running(id).is_none() {
            if let Outgoing::Bytes { head, body } = piece {
                self.memory.discard(SendBuf { head, body });
            }
            return Flow::Gone;
        }
        self.push_out(id.conn, piece, urgency)
    }
}

/// Tells whether an item is so large that its response is sent at once and waited for.
pub fn is_large_item(item: &dyn BodyItem) -> bool {
    item.bytes().len() > AWAITED_ITEM_BYTES_MIN
}
