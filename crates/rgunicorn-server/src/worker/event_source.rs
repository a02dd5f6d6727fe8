//! Tokens: which operation of the driver a completion is of.

use rgunicorn_io::driver::{Completion, Token};

use super::ids::ConnId;

/// What a completion's token names.
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

/// The bit of a token that says that an operation is not the reactor's but was started by whoever shares its driver
/// ([`Reactor::driver`]); the 63 others are free for them.
pub const EXTERNAL: u64 = 1 << 63;

/// The completion is of an operation with a [`EXTERNAL`] token. An orphan is the reactor's, whoever sent it.
pub fn is_external(completion: &Completion) -> bool {
    match completion {
        Completion::Recv { token, .. } | Completion::Sent { token, .. } | Completion::Poll { token, .. } => {
            token.0 & EXTERNAL != 0
        }
        Completion::Orphan { .. } => false,
    }
}

/// A generation is the part of a token that is left beside its kind and a slot.
pub(crate) const GENERATION_MASK: u32 = 0x00ff_ffff;

impl EventSource {
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
