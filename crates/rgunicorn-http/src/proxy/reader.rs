//! A header that comes in pieces.

use super::{Header, Look, Mode, ProxyError, look, v1, v2};

/// The most that is kept of a header that is not complete. Extensions are not kept, but skipped.
const KEPT_BYTES_MAX: usize =
    if v1::LINE_BYTES_MAX > v2::KEPT_BYTES_MAX { v1::LINE_BYTES_MAX } else { v2::KEPT_BYTES_MAX };

/// Reads the header of one connection.
#[derive(Debug, Default)]
pub struct Reader {
    /// What has come of it.
    pub(super) held: Vec<u8>,
    /// It is understood, and of so many bytes nothing else is wanted than that they go by.
    rest: Option<(Header, usize)>,
}

/// What a piece came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All of it is taken, more is needed.
    NeedMore,
    /// There is no header. These bytes were taken by earlier calls and come before the input, of which none is taken.
    Absent(Vec<u8>),
    /// The header is complete; what follows it is left in the input.
    Header(Header),
}

impl Reader {
    /// Takes the next piece. `allowed`: this peer may send a header. To be called with the same `mode` each time, and not
    /// again after a [`Step::Absent`] or [`Step::Header`].
    ///
    /// # Errors
    /// A header that is forbidden or not acceptable; the connection is of no use after it.
    pub fn advance(&mut self, mode: Mode, allowed: bool, input: &mut &[u8]) -> Result<Step, ProxyError> {
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
        match look(mode, allowed, joined)? {
            Look::NeedMore => {
                if before == 0 {
                    self.held = input.to_vec();
                }
                *input = &[];
                Ok(Step::NeedMore)
            }
            Look::Absent => {
                self.held.truncate(before);
                Ok(Step::Absent(std::mem::take(&mut self.held)))
            }
            Look::Header(header, bytes) => Ok(self.skip(header, bytes.saturating_sub(before), input)),
        }
    }

    fn skip(&mut self, header: Header, bytes: usize, input: &mut &[u8]) -> Step {
        let taken = bytes.min(input.len());
        *input = &input[taken..];
        if taken == bytes {
            return Step::Header(header);
        }
        self.held = Vec::new();
        self.rest = Some((header, bytes - taken));
        Step::NeedMore
    }
}
