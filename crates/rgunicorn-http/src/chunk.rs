//! The line before a chunk (RFC 9112 7.1), read byte by byte: no buffer, and any split gives the same result.
//!
//! ```text
//! chunk-size [ BWS ";" BWS ext-name [ BWS "=" BWS ( token / quoted-string ) ] ]* CRLF
//! ```

use super::chars::{hex_digit, is_blank, is_field_value_byte, is_qdtext, is_tchar};
use super::error::HttpError;
use super::policy::BODY_BYTES_CAP;

/// The part of the line to which the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// The first digit.
    Start,
    Size,
    /// Blanks behind the size: only `;` may end them.
    SizeBlank,
    /// Behind `;`.
    NameStart,
    Name,
    /// Blanks behind a name: `=` or `;` must follow.
    NameBlank,
    /// Behind `=`.
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    /// Behind a closing quote.
    ValueEnd,
    /// Blanks behind a value: only `;` may end them.
    ValueBlank,
    /// Behind CR.
    LineFeed,
}

/// A chunk-size line, as far as it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkLine {
    size: u64,
    bytes: u32,
    position: Position,
}

impl ChunkLine {
    pub(super) fn new() -> Self {
        Self { size: 0, bytes: 0, position: Position::Start }
    }

    /// Takes one byte. `Some(size)` when it was the LF that ends the line. `bytes_max` bounds the line
    /// without CRLF.
    ///
    /// # Errors
    /// The byte does not fit the grammar, the size is beyond all sense, or the line is too long.
    pub(super) fn push(&mut self, byte: u8, bytes_max: usize) -> Result<Option<u64>, HttpError> {
        if self.position == Position::LineFeed {
            return if byte == b'\n' { Ok(Some(self.size)) } else { Err(HttpError::ChunkSize) };
        }
        self.bytes = self.bytes.saturating_add(1);
        if byte != b'\r' && self.bytes as usize > bytes_max {
            return Err(HttpError::ChunkSize);
        }
        self.position = match self.position {
            Position::Start | Position::Size => self.size_byte(byte)?,
            Position::SizeBlank => match byte {
                b';' => Position::NameStart,
                _ if is_blank(byte) => Position::SizeBlank,
                _ => return Err(HttpError::ChunkSize),
            },
            position => extension_byte(position, byte).ok_or(HttpError::ChunkExtension)?,
        };
        Ok(None)
    }

    /// Returns how many bytes the line has so far.
    pub(super) fn bytes(self) -> u32 {
        self.bytes
    }

    fn size_byte(&mut self, byte: u8) -> Result<Position, HttpError> {
        if let Some(digit) = hex_digit(byte) {
            // Cannot overflow: it is at most the cap before.
            self.size = (self.size << 4) | u64::from(digit);
            if self.size > BODY_BYTES_CAP {
                return Err(HttpError::BodyTooLarge);
            }
            return Ok(Position::Size);
        }
        match byte {
            _ if self.position == Position::Start => Err(HttpError::ChunkSize),
            b'\r' => Ok(Position::LineFeed),
            b';' => Ok(Position::NameStart),
            _ if is_blank(byte) => Ok(Position::SizeBlank),
            _ => Err(HttpError::ChunkSize),
        }
    }
}

/// Looks up the next position in the grammar of extensions; `None` where the byte does not fit.
fn extension_byte(position: Position, byte: u8) -> Option<Position> {
    match (position, byte) {
        (Position::Quoted, b'"') => Some(Position::ValueEnd),
        (Position::Quoted, b'\\') => Some(Position::QuotedPair),
        (Position::Quoted, _) => is_qdtext(byte).then_some(Position::Quoted),
        (Position::QuotedPair, _) => is_field_value_byte(byte).then_some(Position::Quoted),
        (Position::Name | Position::Value | Position::ValueEnd, b'\r') => Some(Position::LineFeed),
        (
            Position::Name
            | Position::NameBlank
            | Position::Value
            | Position::ValueEnd
            | Position::ValueBlank,
            b';',
        ) => Some(Position::NameStart),
        (Position::Name | Position::NameBlank, b'=') => Some(Position::ValueStart),
        (Position::ValueStart, b'"') => Some(Position::Quoted),
        (
            Position::NameStart | Position::NameBlank | Position::ValueStart | Position::ValueBlank,
            b' ' | b'\t',
        ) => Some(position),
        (Position::Name, b' ' | b'\t') => Some(Position::NameBlank),
        (Position::Value | Position::ValueEnd, b' ' | b'\t') => Some(Position::ValueBlank),
        (Position::NameStart | Position::Name, _) => is_tchar(byte).then_some(Position::Name),
        (Position::ValueStart | Position::Value, _) => is_tchar(byte).then_some(Position::Value),
        _ => None,
    }
}
