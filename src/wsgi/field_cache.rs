//! Status and header fields that the application gives again: `("Content-Type", "text/plain")`, written down in its
//! source, is the same two objects each time. A `str` does not change, so what was checked once need not be checked
//! again.
//!
//! Found are objects, not texts: a place holds a reference to both, so that no other object can have their addresses.

use pyo3::prelude::*;
use pyo3::types::PyString;

use rgunicorn_http::{PreparedField, PreparedStatus, ResponseError, ResponseHead};

use crate::py::GilCell;

/// Fields that are remembered, by their addresses: an application has a few dozen.
const CACHED_FIELDS: usize = 64;
/// The longest text that is: longer ones are hardly ever given twice.
const TEXT_BYTES_MAX: usize = 128;
/// Fields that are not kept, as a power of two, for those before them were kept in vain. A new object may lie where the
/// last one has just been freed, and look like one that comes again.
const SKIPPED_POWER_MAX: u32 = 8;

/// The fields that applications of this process have given.
pub(super) struct FieldCache {
    places: GilCell<Box<[FieldPlace]>>,
    /// The status that has come twice in a row.
    status: GilCell<StatusPlace>,
}

#[derive(Default)]
struct StatusPlace {
    /// The address that was seen last.
    seen: usize,
    known: Option<(Py<PyAny>, PreparedStatus)>,
}

/// The place for one field.
#[derive(Default)]
struct FieldPlace {
    rule: KeepRule,
    known: Option<KnownField>,
}

/// The rule by which a place keeps fields: those that come twice in a row. Nothing but time hangs on it.
#[derive(Default)]
struct KeepRule {
    /// The addresses that were seen last.
    seen: (usize, usize),
    /// How many in a row were kept in vain, and how many are not to be kept for that.
    vain: u32,
    skipped: u32,
}

impl KeepRule {
    /// Notes a field that is not known; tells whether to keep it.
    fn note(&mut self, name: usize, value: usize) -> bool {
        let again = std::mem::replace(&mut self.seen, (name, value)) == (name, value);
        if again && self.skipped > 0 {
            self.skipped -= 1;
            return false;
        }
        again
    }

    /// Notes that a field was kept. `in_vain`: the one before was never found.
    fn kept(&mut self, in_vain: bool) {
        self.vain = if in_vain { SKIPPED_POWER_MAX.min(self.vain + 1) } else { 0 };
        self.skipped = (1 << self.vain) - 1;
    }
}

struct KnownField {
    name: Py<PyAny>,
    value: Py<PyAny>,
    field: PreparedField,
    was_found: bool,
}

impl FieldCache {
    pub(super) fn new() -> Self {
        let places = (0..CACHED_FIELDS).map(|_| FieldPlace::default()).collect();
        Self { places: GilCell::new(places), status: GilCell::new(StatusPlace::default()) }
    }

    /// Gives a head its status if that is known.
    pub(super) fn set_status(&self, head: &mut ResponseHead, status: &Bound<'_, PyAny>) -> Lookup {
        self.status.with(status.py(), |StatusPlace { seen, known }| match known {
            Some((known, prepared)) if known.is(status) => {
                head.prepared_status(prepared);
                Lookup::Added(Ok(()))
            }
            _ => {
                let address = status.as_ptr() as usize;
                Lookup::Unknown { again: std::mem::replace(seen, address) == address }
            }
        })
    }

    /// Keeps the status that a head has accepted.
    #[cold]
    pub(super) fn keep_status(&self, head: &ResponseHead, status: &Bound<'_, PyAny>) {
        if plain(status).is_some() {
            let known = (status.clone().unbind(), PreparedStatus::of(head));
            let before = self.status.with(status.py(), |place| place.known.replace(known));
            if let Some((before, _)) = before {
                before.drop_ref(status.py());
            }
        }
    }

    /// Adds a field to a head if it is known.
    pub(super) fn add(
        &self,
        head: &mut ResponseHead,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> Lookup {
        let addresses = (name.as_ptr() as usize, value.as_ptr() as usize);
        self.places.with(name.py(), |places| {
            let at = place_of(addresses.0, addresses.1);
            for at in [at, other_place(at)] {
                if let Some(known) = &mut places[at].known
                    && known.name.is(name)
                    && known.value.is(value)
                {
                    known.was_found = true;
                    return Lookup::Added(head.prepared(&known.field));
                }
            }
            Lookup::Unknown { again: places[at].rule.note(addresses.0, addresses.1) }
        })
    }

    /// Keeps a field that a head has accepted. Of anything but plain texts nothing is known.
    #[cold]
    pub(super) fn keep(&self, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) {
        let py = name.py();
        let (Some(name), Some(value)) = (plain(name), plain(value)) else { return };
        let Some(field) = PreparedField::new(name.1, value.1) else { return };
        let addresses = (name.0.as_ptr() as usize, value.0.as_ptr() as usize);
        let known = KnownField {
            name: name.0.clone().into_any().unbind(),
            value: value.0.clone().into_any().unbind(),
            field,
            was_found: false,
        };
        let before = self.places.with(py, |places| {
            let first = place_of(addresses.0, addresses.1);
            // One that is of use stays, until it was not found between two others that want its place.
            let is_used =
                places[first].known.as_mut().is_some_and(|known| std::mem::take(&mut known.was_found));
            let at = if is_used { other_place(first) } else { first };
            let before = places[at].known.replace(known);
            places[first].rule.kept(before.as_ref().is_some_and(|before| !before.was_found));
            before
        });
        if let Some(before) = before {
            before.name.drop_ref(py);
            before.value.drop_ref(py);
        }
    }
}

/// The outcome for a field.
pub(super) enum Lookup {
    /// Known, and part of the head now if that may have it.
    Added(Result<(), ResponseError>),
    /// Still to be read. `again`: it has come twice in a row.
    Unknown { again: bool },
}

/// Returns the place for a name and a value at these addresses.
fn place_of(name: usize, value: usize) -> usize {
    // Objects lie at multiples of 16; neighbours get different places.
    ((name >> 4) ^ (value >> 4).rotate_left(3) ^ (value >> 10)) % CACHED_FIELDS
}

/// Returns the second place for a field: two fields of one answer may have the same first one.
fn other_place(at: usize) -> usize {
    at ^ 1
}

fn plain<'a, 'py>(object: &'a Bound<'py, PyAny>) -> Option<(&'a Bound<'py, PyString>, &'a [u8])> {
    let text = object.cast_exact::<PyString>().ok()?;
    let bytes = text.to_str().ok()?.as_bytes();
    (bytes.is_ascii() && bytes.len() <= TEXT_BYTES_MAX).then_some((text, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what is kept of so many fields that come twice in a row.
    fn kept(rule: &mut KeepRule, fields: usize, in_vain: bool) -> usize {
        let mut count = 0;
        for field in 1..=fields {
            assert!(!rule.note(1, field), "it was not seen before");
            if rule.note(1, field) {
                count += 1;
                rule.kept(in_vain);
            }
        }
        count
    }

    #[test]
    fn what_is_kept_in_vain_is_kept_ever_more_seldom_and_at_once_when_it_was_of_use() {
        let mut rule = KeepRule::default();
        assert_eq!(kept(&mut rule, 100, false), 100);
        let powers: usize = (0..SKIPPED_POWER_MAX).map(|power| 1 << power).sum();
        assert_eq!(kept(&mut rule, powers, true), SKIPPED_POWER_MAX as usize);
        assert_eq!(kept(&mut rule, 10 << SKIPPED_POWER_MAX, true), 10);
        assert_eq!(kept(&mut rule, 1 << SKIPPED_POWER_MAX, false), 1);
        assert_eq!(kept(&mut rule, 100, false), 100);
    }
}
