//! Tokens: which operation of the driver a completion is of.

use rgunicorn_io::driver::{Completion, Token};

use super::ids::ConnId;

/// The origin of a completion, as its token names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventSource {
    Listener(u32),
    Recv(ConnId),
    Send(ConnId),
    Writable(ConnId),
    Wake,
    Mail,
    SiblingWakeup,
}

/// The bit of a token that says that an operation is not the reactor's but was started by another user of its driver
/// ([`Reactor::driver`](super::Reactor::driver)); the 63 others are free for them.
pub const EXTERNAL: u64 = 1 << 63;

/// Tells whether a completion is of an operation with an [`EXTERNAL`] token. An orphan is the reactor's,
/// whichever user of the driver sent it.
pub fn is_external(completion: &Completion) -> bool {
    token_of(completion).is_some_and(|token| token.0 & EXTERNAL != 0)
}

/// A generation is the part of a token that is left beside its kind and a slot.
pub(crate) const GENERATION_MASK: u32 = 0x00ff_ffff;

/// Returns the token of a completion, if it has an owner.
pub(crate) fn token_of(completion: &Completion) -> Option<Token> {
    match completion {
        Completion::Recv { token, .. } | Completion::Sent { token, .. } | Completion::Poll { token, .. } => {
            Some(*token)
        }
        Completion::Orphan { .. } => None,
    }
}

impl EventSource {
    /// Returns the connection that it is about.
    pub(crate) fn conn(self) -> Option<ConnId> {
        match self {
            Self::Recv(id) | Self::Send(id) | Self::Writable(id) => Some(id),
            Self::Listener(_) | Self::Wake | Self::Mail | Self::SiblingWakeup => None,
        }
    }

    /// Packs it into a token.
    pub(crate) fn token(self) -> Token {
        let pack = |kind: u64, id: ConnId| {
            Token(kind << 56 | u64::from(id.generation & GENERATION_MASK) << 32 | u64::from(id.index))
        };
        match self {
            Self::Listener(index) => Token(1 << 56 | u64::from(index)),
            Self::Recv(id) => pack(2, id),
            Self::Send(id) => pack(3, id),
            Self::Writable(id) => pack(4, id),
            Self::Wake => Token(5 << 56),
            Self::Mail => Token(6 << 56),
            Self::SiblingWakeup => Token(7 << 56),
        }
    }

    /// Unpacks a token; `None` if it is not one of these.
    pub(crate) fn from_token(token: Token) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "fields of the packed token")]
        let id = ConnId { index: token.0 as u32, generation: (token.0 >> 32) as u32 & GENERATION_MASK };
        match token.0 >> 56 {
            1 => Some(Self::Listener(id.index)),
            2 => Some(Self::Recv(id)),
            3 => Some(Self::Send(id)),
            4 => Some(Self::Writable(id)),
            5 => Some(Self::Wake),
            6 => Some(Self::Mail),
            7 => Some(Self::SiblingWakeup),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_their_source_again() {
        let id = ConnId { index: 0xfedc_ba98, generation: 0x00ab_cdef };
        for source in [
            EventSource::Listener(7),
            EventSource::Recv(id),
            EventSource::Send(id),
            EventSource::Writable(id),
            EventSource::Wake,
            EventSource::Mail,
            EventSource::SiblingWakeup,
        ] {
            assert_eq!(EventSource::from_token(source.token()), Some(source));
        }
        assert_eq!(EventSource::from_token(Token(0)), None);
        for low in [0, EventSource::Recv(id).token().0, EXTERNAL - 1] {
            assert_eq!(EventSource::from_token(Token(EXTERNAL | low)), None);
        }
    }
}
