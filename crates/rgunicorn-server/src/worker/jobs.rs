//! Work for the application.

use super::ids::RequestId;
use super::message::Request;

/// A piece of work for the application; new ones come before resumptions, each in order of arrival.
#[derive(Debug)]
pub(crate) enum Job {
    /// A complete request.
    Call(Box<Request>),
    /// A parked response may go on, or there is something to read of a request body.
    Resume(RequestId),
    /// The client has left of one that waits.
    Abandon(RequestId),
    /// The server has answered a request by itself with this status: log it.
    Refused(Box<Request>, u16),
}

impl Job {
    /// Returns the request, if it is to be begun.
    pub(crate) fn call(&self) -> Option<&Request> {
        if let Self::Call(request) = self { Some(request) } else { None }
    }

    /// Counts the memory of a request that waits for the application.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Call(request) => request.held_bytes,
            Self::Resume(_) | Self::Abandon(_) | Self::Refused(..) => 0,
        }
    }

    /// Returns the request that it is about.
    pub(crate) fn id(&self) -> RequestId {
        match self {
            Self::Call(request) | Self::Refused(request, _) => request.id,
            Self::Resume(id) | Self::Abandon(id) => *id,
        }
    }
}

/// The next thing to do for the application.
#[derive(Debug)]
pub(crate) enum NextJob {
    Run(Job),
    /// No further request is begun.
    Abort(RequestId),
    /// The client no longer waits for the answer.
    Drop(Box<Request>),
}

impl NextJob {
    /// Returns the request that it is about.
    pub(crate) fn id(&self) -> RequestId {
        match self {
            Self::Run(job) => job.id(),
            Self::Abort(id) => *id,
            Self::Drop(request) => request.id,
        }
    }
}
