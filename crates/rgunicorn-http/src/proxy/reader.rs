//! The reader of a header that comes in pieces.

use super::error::ProxyError;
use super::header::{Detect, ProxyHeader};
use super::{ProxyMode, detect, v1, v2};

/// The most that is kept of a header that is not complete. Extensions are not kept, but skipped.
const KEPT_BYTES_MAX: usize =
    if v1::LINE_BYTES_MAX > v2::KEPT_BYTES_MAX { v1::LINE_BYTES_MAX } else { v2::KEPT_BYTES_MAX };

/// The reader of one connection's header.
#[derive(Debug, Default)]
pub struct ProxyReader {
    /// The part of the header that has come.
    pub(super) held: Vec<u8>,
    /// The header, once it is understood, and how many bytes of it are still to be skipped.
    rest: Option<(ProxyHeader, usize)>,
}

/// The outcome of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyStep {
    /// All of it is taken, more is needed.
    NeedMore,
    /// There is no header. The bytes were taken by earlier calls and come before the input, of which none is
    /// taken.
    Absent(Vec<u8>),
    /// The header is complete; what follows it is left in the input.
    Header(ProxyHeader),
}

impl ProxyReader {
    /// Takes the next piece. `allowed`: this peer may send a header. To be called with the same `mode` each
    /// time, and not again after a [`ProxyStep::Absent`] or [`ProxyStep::Header`].
    ///
    /// # Errors
    /// A header that is forbidden or not acceptable; the connection is of no use after it.
    pub fn advance(
        &mut self,
        mode: ProxyMode,
        allowed: bool,
        input: &mut &[u8],
    ) -> Result<ProxyStep, ProxyError> {
        if let Some((header, bytes)) = self.rest {
            return Ok(self.skip(header, bytes, input));
        }
        let before = self.held.len();
        let joined = if before == 0 {
            *input
        } else {
            let room = KEPT_BYTES_MAX.saturating_sub(before);
            self.held.extend_from_slice(&input[..input.len().min(room)]);
            &self.held
        };
        match detect(mode, allowed, joined)? {
            Detect::NeedMore => {
                if before == 0 {
                    self.held = input.to_vec();
                }
                *input = &[];
                Ok(ProxyStep::NeedMore)
            }
            Detect::Absent => {
                self.held.truncate(before);
                Ok(ProxyStep::Absent(std::mem::take(&mut self.held)))
            }
            Detect::Header(header, bytes) => Ok(self.skip(header, bytes.saturating_sub(before), input)),
        }
    }

    fn skip(&mut self, header: ProxyHeader, bytes: usize, input: &mut &[u8]) -> ProxyStep {
        let taken = bytes.min(input.len());
        *input = &input[taken..];
        if taken == bytes {
            return ProxyStep::Header(header);
        }
        self.held = Vec::new();
        self.rest = Some((header, bytes - taken));
        ProxyStep::NeedMore
    }
}
