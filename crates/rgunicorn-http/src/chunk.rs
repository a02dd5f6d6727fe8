//! The line before a chunk (RFC 9112 7.1), read byte by byte: no buffer, and any split gives the same result.
//!
//! ```text
//! chunk-size [ BWS ";" BWS ext-name [ BWS "=" BWS ( token / quoted-string ) ] ]* CRLF
//! ```

use super::HttpError;
use super::chars::{is_blank, is_field_value_byte, is_qdtext, is_tchar};
use super::target::hex_digit;

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
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

/// A chunk-size line as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkLine {
    size: u64,
    bytes: u32,
    place: Place,
}

impl ChunkLine {
    pub(super) fn new() -> Self {
        Self { size: 0, bytes: 0, place: Place::Start }
    }

    /// Takes one byte. `Some(size)` when it was the LF that ends the line. `bytes_max` bounds the line without CRLF.
    pub(super) fn push(&mut self, byte: u8, bytes_max: usize) -> Result<Option<u64>, HttpError> {
        if self.place == Place::LineFeed {
            return if byte == b'\n' { Ok(Some(self.size)) } else { Err(HttpError::ChunkSize) };
        }
        self.bytes = self.bytes.saturating_add(1);
        if byte != b'\r' && self.bytes as usize > bytes_max {
            return Err(HttpError::ChunkSize);
        }
        self.place = match self.place {
            Place::Start | Place::Size => self.size_byte(byte)?,
            Place::SizeBlank => match byte {
                b';' => Place::NameStart,
                _ if is_blank(byte) => Place::SizeBlank,
                _ => return Err(HttpError::ChunkSize),
            },
            place => extension_byte(place, byte).ok_or(HttpError::ChunkExtension)?,
        };
        Ok(None)
    }

    fn size_byte(&mut self, byte: u8) -> Result<Place, HttpError> {
        if let Some(digit) = hex_digit(byte) {
            self.size = self.size.checked_mul(16).ok_or(HttpError::ChunkSize)? | u64::from(digit);
            return Ok(Place::Size);
        }
        match byte {
            _ if self.place == Place::Start => Err(HttpError::ChunkSize),
            b'\r' => Ok(Place::LineFeed),
            b';' => Ok(Place::NameStart),
            _ if is_blank(byte) => Ok(Place::SizeBlank),
            _ => Err(HttpError::ChunkSize),
        }
    }
}

/// The grammar of extensions as a table; `None` where the byte does not fit.
fn extension_byte(place: Place, byte: u8) -> Option<Place> {
    match (place, byte) {
        (Place::Quoted, b'"') => Some(Place::ValueEnd),
        (Place::Quoted, b'\\') => Some(Place::QuotedPair),
        (Place::Quoted, _) => is_qdtext(byte).then_some(Place::Quoted),
        (Place::QuotedPair, _) => is_field_value_byte(byte).then_some(Place::Quoted),
        (Place::Name | Place::Value | Place::ValueEnd, b'\r') => Some(Place::LineFeed),
        (Place::Name | Place::NameBlank | Place::Value | Place::ValueEnd | Place::ValueBlank, b';') => {
            Some(Place::NameStart)
        }
        (Place::Name | Place::NameBlank, b'=') => Some(Place::ValueStart),
        (Place::ValueStart, b'"') => Some(Place::Quoted),
        (Place::NameStart | Place::NameBlank | Place::ValueStart | Place::ValueBlank, b' ' | b'\t') => {
            Some(place)
        }
        (Place::Name, b' ' | b'\t') => Some(Place::NameBlank),
        (Place::Value | Place::ValueEnd, b' ' | b'\t') => Some(Place::ValueBlank),
        (Place::NameStart | Place::Name, _) => is_tchar(byte).then_some(Place::Name),
        (Place::ValueStart | Place::Value, _) => is_tchar(byte).then_some(Place::Value),
        _ => None,
    }
}
