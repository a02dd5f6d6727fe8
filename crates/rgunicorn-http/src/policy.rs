//! The choices of an operator about requests, already normalised: the parser never meets a zero that means
//! "none".

/// Bounds on a request head, made by [`HeadLimits::new`] from the values of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// The most bytes of the request line, without its CRLF (`limit_request_line`). Over it: 414.
    pub request_line_bytes_max: usize,
    /// The most field lines of a head or a trailer section, dropped names included (`limit_request_fields`).
    /// Over it: 431.
    pub fields_max: usize,
    /// The most bytes of one field, CRLF included (`limit_request_field_size`). Over it: 431.
    pub field_bytes_max: usize,
}

impl HeadLimits {
    /// Gunicorn's default for the request line: the 4 KiB page of the first servers, less CRLF.
    pub const REQUEST_LINE_BYTES_DEFAULT: usize = 4094;
    /// The most that Gunicorn lowers greater request lines to, the default of Apache.
    pub const REQUEST_LINE_BYTES_CAP: usize = 8190;
    /// The value of "unlimited" (setting 0): a bound that no client reaches, so that offsets fit 32 bits.
    pub const REQUEST_LINE_BYTES_UNLIMITED: usize = 1 << 28;
    /// Gunicorn's default number of fields, as in Apache.
    pub const FIELDS_DEFAULT: usize = 100;
    /// Gunicorn's upper bound, and the value of 0.
    pub const FIELDS_CAP: usize = 32_768;
    /// Gunicorn's default field size, and the value of 0 (its manual says "unlimited", its code does not).
    pub const FIELD_BYTES_DEFAULT: usize = 8190;
    /// The bound of one field whatever the setting says: with it, offsets into a head fit 32 bits.
    pub const FIELD_BYTES_CAP: usize = 1 << 28;
    /// The bound of a whole head beyond the product of the other limits (`32768 * 8192` at their caps): a
    /// head that needs more is refused with 431, so that offsets fit 32 bits whatever the settings say.
    pub const HEAD_BYTES_CAP: usize = 1 << 30;

    /// Normalises the three settings: line 0 = unlimited and above 8190 = 8190; fields 0 or above 32768 = 32768;
    /// field bytes 0 = 8190.
    #[must_use]
    pub fn new(request_line_bytes: usize, fields: usize, field_bytes: usize) -> Self {
        Self {
            request_line_bytes_max: match request_line_bytes {
                0 => Self::REQUEST_LINE_BYTES_UNLIMITED,
                n => n.min(Self::REQUEST_LINE_BYTES_CAP),
            },
            fields_max: match fields {
                0 => Self::FIELDS_CAP,
                n => n.min(Self::FIELDS_CAP),
            },
            field_bytes_max: match field_bytes {
                0 => Self::FIELD_BYTES_DEFAULT,
                n => n.min(Self::FIELD_BYTES_CAP),
            },
        }
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self::new(Self::REQUEST_LINE_BYTES_DEFAULT, Self::FIELDS_DEFAULT, Self::FIELD_BYTES_DEFAULT)
    }
}

/// The treatment of field names that contain `_` (`header_map`). In a WSGI environ `a_b` and `a-b` become the
/// same key, so a client could pass for the proxy in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderMap {
    /// Leave the field out silently.
    #[default]
    Drop,
    /// Refuse the request: 400.
    Refuse,
    /// Keep it: both spellings meet in the environ.
    Dangerous,
}

/// The most bytes of a body or a chunk where no setting says less: 1 PiB, which no disk of today takes and no client
/// means. Over it: 413.
pub const BODY_BYTES_CAP: u64 = 1 << 50;

/// All choices of an operator about reading requests. The default is Gunicorn's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Bounds of the head.
    pub limits: HeadLimits,
    /// Join folded field lines by one space instead of refusing them.
    pub permit_obsolete_folding: bool,
    /// Drop blanks between a field's name and its colon instead of refusing them.
    pub strip_header_spaces: bool,
    /// Lift Gunicorn's method rules (3-20 characters, no lower case, no `#`). The token rule of RFC 9110 stays.
    pub permit_unconventional_http_method: bool,
    /// Accept every version of the form `digit.digit`, not only 1.0 up to 1.9.
    pub permit_unconventional_http_version: bool,
    /// Upper-case the method after it was checked.
    pub casefold_http_method: bool,
    /// The treatment of names with `_`.
    pub header_map: HeaderMap,
    /// Upper-case names with `_` that a trusted peer may send whatever `header_map` says; `*` stands for all.
    pub forwarder_headers: Vec<String>,
    /// Upper-case field name and the exact value by which a trusted peer says that its client used TLS.
    pub secure_scheme_headers: Vec<(String, String)>,
}

impl Policy {
    /// Makes Gunicorn's defaults with other limits.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Returns whether a head has to be rewritten before it can be parsed.
    pub(super) fn rewrites(&self) -> bool {
        self.permit_obsolete_folding || self.strip_header_spaces
    }

    /// Returns whether a trusted peer may send this name although it contains `_`.
    pub(super) fn forwards(&self, name: &[u8]) -> bool {
        self.forwarder_headers
            .iter()
            .any(|allowed| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(name))
    }
}

impl Default for Policy {
    fn default() -> Self {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            limits: HeadLimits::default(),
            permit_obsolete_folding: false,
            strip_header_spaces: false,
            permit_unconventional_http_method: false,
            permit_unconventional_http_version: false,
            casefold_http_method: false,
            header_map: HeaderMap::Drop,
            forwarder_headers: vec!["SCRIPT_NAME".to_owned(), "PATH_INFO".to_owned()],
            secure_scheme_headers: vec![
                pair("X-FORWARDED-PROTOCOL", "ssl"),
                pair("X-FORWARDED-PROTO", "https"),
                pair("X-FORWARDED-SSL", "on"),
            ],
        }
    }
}
