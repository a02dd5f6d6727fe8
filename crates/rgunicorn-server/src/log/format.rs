//! The form of an access record: JSON, or Python's %-format with names, compiled once. A conversion that its
//! value does not take, which Python finds at each record, is found here at the start.

use std::fmt;

use super::atoms::Atom;
use super::exclude::AccessExclude;

/// The most a width or a precision may ask for, in characters. Python has no bound; no log has such fields, and a slip
/// of the finger must not cost gigabytes per request.
const FIELD_CHARS_MAX: usize = 4096;

/// The form in which requests are recorded, and the requests that are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFormat {
    pub(super) record: RecordFormat,
    pub(super) exclude: AccessExclude,
}

/// The form of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordFormat {
    /// A compiled format string.
    Fields(Vec<Piece>),
    /// One JSON object.
    Json,
}

/// A part of the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    Field(Atom, Spec),
}

/// The form of a value: Python's flags, width, precision and conversion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spec {
    /// `-`
    pub left: bool,
    /// `+`
    pub plus: bool,
    /// blank
    pub blank: bool,
    /// `0`
    pub zero: bool,
    /// `#`
    pub alternate: bool,
    pub width: usize,
    pub precision: Option<usize>,
    pub conversion: Conversion,
}

/// The letter at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Conversion {
    /// `s`
    #[default]
    Text,
    /// `d`, `i`, `u`
    Decimal,
    /// `x`
    Hex,
    /// `X`
    UpperHex,
    /// `o`
    Octal,
    /// `f`, `F`
    Fixed,
}

/// A format string that cannot be used. Display names the place, the fault and the allowed forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// The place where the bad conversion begins, in characters from 0.
    pub position: usize,
    fault: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, fault } = self;
        write!(
            f,
            "access_log_format: at character {position}: {fault} (allowed: %(NAME)s, %% and plain text)"
        )
    }
}

impl std::error::Error for FormatError {}

impl AccessFormat {
    /// Makes a format of one JSON object a line. Keys: `time` (RFC 3339, local with its offset),
    /// `remote_addr`, `method`, `path`, `query`, `protocol`, `status`, `bytes`, `duration_us`, `referer`,
    /// `user_agent`, `pid`, `request_line`.
    pub fn json() -> Self {
        Self { record: RecordFormat::Json, exclude: AccessExclude::default() }
    }

    /// Leaves out the records of the requests that `exclude` names.
    pub fn excluding(self, exclude: AccessExclude) -> Self {
        Self { exclude, ..self }
    }

    /// Compiles a format string.
    ///
    /// # Errors
    /// A conversion that has no name, is cut short or unknown, or demands a number where the value is text.
    pub fn compile(text: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('%') {
            let (literal, conversion) = rest.split_at(start);
            push_literal(&mut pieces, literal);
            let mut parser = Parser { rest: conversion.get(1..).unwrap_or_default() };
            let piece = parser.piece().map_err(|fault| FormatError {
                position: text[..text.len() - conversion.len()].chars().count(),
                fault,
            })?;
            match piece {
                Piece::Literal(percent) => push_literal(&mut pieces, &percent),
                field => pieces.push(field),
            }
            rest = parser.rest;
        }
        push_literal(&mut pieces, rest);
        Ok(Self { record: RecordFormat::Fields(pieces), exclude: AccessExclude::default() })
    }
}

/// Adds `text` to the literal at the end, so that the renderer copies as few times as possible.
fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Literal(last)) => last.push_str(text),
        _ => pieces.push(Piece::Literal(text.to_owned())),
    }
}

/// A parser of one conversion, behind its `%`.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn piece(&mut self) -> Result<Piece, String> {
        if self.take('%') {
            return Ok(Piece::Literal("%".to_owned()));
        }
        let name = self.name()?;
        let mut spec = self.flags();
        spec.width = self.number()?.unwrap_or(0);
        if self.take('.') {
            // A point without digits is a precision of 0.
            spec.precision = Some(self.number()?.unwrap_or(0));
        }
        // Length letters of C; Python reads one and ignores it.
        let _ = self.take('h') || self.take('l') || self.take('L');
        let letter = self.next().ok_or("the conversion is cut short")?;
        let name = name.ok_or_else(|| format!("%{letter} has no name in parentheses"))?;
        let atom = Atom::by_name(name);
        spec.conversion = conversion(letter).ok_or_else(|| format!("unsupported conversion {letter:?}"))?;
        if spec.conversion != Conversion::Text && !atom.is_number() {
            return Err(format!("%({name}){letter} demands a number and {name} is a text, use %({name})s"));
        }
        Ok(Piece::Field(atom, spec))
    }

    /// Parses the name in parentheses, which may contain balanced ones.
    fn name(&mut self) -> Result<Option<&'a str>, String> {
        let Some(inside) = self.rest.strip_prefix('(') else {
            return Ok(None);
        };
        let mut depth = 1usize;
        for (at, c) in inside.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let (name, rest) = inside.split_at(at);
                self.rest = rest.get(1..).unwrap_or_default();
                return Ok(Some(name));
            }
        }
        Err("the parenthesis is not closed".to_owned())
    }

    fn flags(&mut self) -> Spec {
        let mut spec = Spec::default();
        loop {
            let flag = match self.rest.chars().next() {
                Some('-') => &mut spec.left,
                Some('+') => &mut spec.plus,
                Some(' ') => &mut spec.blank,
                Some('0') => &mut spec.zero,
                Some('#') => &mut spec.alternate,
                _ => return spec,
            };
            *flag = true;
            self.next();
        }
    }

    fn number(&mut self) -> Result<Option<usize>, String> {
        if self.rest.starts_with('*') {
            return Err("* takes its number from nowhere here".to_owned());
        }
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        if digits.is_empty() {
            return Ok(None);
        }
        let number = digits.parse().ok().filter(|number| *number <= FIELD_CHARS_MAX);
        number.map(Some).ok_or_else(|| format!("{digits} is more than {FIELD_CHARS_MAX} characters"))
    }

    fn take(&mut self, wanted: char) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }
}

fn conversion(letter: char) -> Option<Conversion> {
    match letter {
        's' => Some(Conversion::Text),
        'd' | 'i' | 'u' => Some(Conversion::Decimal),
        'x' => Some(Conversion::Hex),
        'X' => Some(Conversion::UpperHex),
        'o' => Some(Conversion::Octal),
        'f' | 'F' => Some(Conversion::Fixed),
        _ => None,
    }
}
