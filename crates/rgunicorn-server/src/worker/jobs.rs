//! Work for the application.

use super::ids::RequestId;
use super::message::Request;

/// Work for the application, in order of arrival.
#[derive(Debug)]
pub(crate) enum Job {
    /// A complete request.
    Call(Request),
    /// A parked response may go on, or there is something to read of a request body.
    Resume(RequestId),
    /// The client has left of one that waits.
    Abandon(RequestId),
    /// A request was answered by us with this status: log it.
    Refused(Request, u16),
}

impl Job {
    /// Returns the request that it is about.
    pub(crate) fn id(&self) -> RequestId {
        match self {
            Self::Call(request) | Self::Refused(request, _) => request.id,
            Self::Resume(id) | Self::Abandon(id) => *id,
        }
    }
}
