//! Relay connections: a cursor names a place in the list's order, and a page is an index seek from there, however deep.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::pages::Place;
use cryptopay_entity::payment_order::Seek;

use super::failure::Failure;
use super::limits::{DEFAULT_PAGE, MAX_PAGE};
use crate::error::{ApiError, Faults};

/// The four arguments of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct PageArguments {
    pub(super) first: Option<i32>,
    pub(super) after: Option<String>,
    pub(super) last: Option<i32>,
    pub(super) before: Option<String>,
}

/// Which page of a list to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageWindow {
    /// What to read: one more than the page, to know whether the list goes on.
    pub(super) seek: Seek,
    from_end: bool,
    /// Whether the list was entered behind a cursor, on the side where reading begins.
    entered: bool,
}

/// A page that was read, in the list's own order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageRead<T> {
    pub(super) rows: Vec<T>,
    pub(super) has_next: bool,
    pub(super) has_previous: bool,
}

impl PageArguments {
    /// Judges the arguments for a list that is sorted by creation.
    ///
    /// # Errors
    /// Every argument at fault.
    pub(super) fn window(&self, oldest_first: bool) -> Result<PageWindow, Failure> {
        let mut faults = Faults::new();
        let mut fault = |name: &str, problem: String| faults.entry(name.to_owned()).or_default().push(problem);
        let mut count = |name: &str, asked: Option<i32>| match asked.map(u64::try_from) {
            Some(Ok(count)) if count <= MAX_PAGE => Some(count),
            Some(_) => {
                fault(name, format!("Must lie between 0 and {MAX_PAGE}."));
                None
            }
            None => None,
        };
        let (first, last) = (count("first", self.first), count("last", self.last));
        if self.first.is_some() && self.last.is_some() {
            fault("last", "Give either first or last.".to_owned());
        }
        let mut place = |name: &str, cursor: Option<&String>| {
            let place = parse_cursor(cursor?);
            if place.is_none() {
                fault(name, "This is no cursor of this list; use one from its edges or pageInfo.".to_owned());
            }
            place
        };
        let (after, before) = (place("after", self.after.as_ref()), place("before", self.before.as_ref()));
        if !faults.is_empty() {
            return Err(ApiError::fields(faults).into());
        }
        let from_end = last.is_some();
        let (newer_than, older_than) = if oldest_first { (after, before) } else { (before, after) };
        let limit = last.or(first).unwrap_or(DEFAULT_PAGE).saturating_add(1);
        let seek = Seek { newer_than, older_than, oldest_first: oldest_first != from_end, limit };
        Ok(PageWindow { seek, from_end, entered: if from_end { before } else { after }.is_some() })
    }
}

impl PageWindow {
    /// The page, from what was read.
    pub(super) fn page<T>(&self, mut rows: Vec<T>) -> PageRead<T> {
        let size = usize::try_from(self.seek.limit.saturating_sub(1)).unwrap_or(usize::MAX);
        let goes_on = rows.len() > size;
        rows.truncate(size);
        if self.from_end {
            rows.reverse();
            PageRead { rows, has_next: self.entered, has_previous: goes_on }
        } else {
            PageRead { rows, has_next: goes_on, has_previous: self.entered }
        }
    }
}

/// The cursor of a place. Opaque to clients.
pub(super) fn cursor(place: Place) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", place.created_at.as_micros(), place.id))
}

fn parse_cursor(text: &str) -> Option<Place> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (micros, id) = std::str::from_utf8(&bytes).ok()?.split_once('.')?;
    Some(Place { created_at: Timestamp::from_micros(micros.parse().ok()?), id: id.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arguments(first: Option<i32>, last: Option<i32>) -> PageArguments {
        PageArguments { first, last, ..PageArguments::default() }
    }

    #[test]
    fn a_page_from_the_end_is_read_backwards_and_shown_forwards() {
        let window = arguments(None, Some(2)).window(false).unwrap();
        assert!(window.seek.oldest_first);
        assert_eq!(window.page(vec![1, 2, 3]), PageRead { rows: vec![2, 1], has_next: false, has_previous: true });
    }

    #[test]
    fn sizes_beyond_the_limits_are_refused() {
        for (first, last) in [(Some(-1), None), (Some(101), None), (None, Some(101)), (Some(1), Some(1))] {
            assert!(arguments(first, last).window(false).is_err(), "{first:?} {last:?}");
        }
        assert_eq!(arguments(Some(100), None).window(false).unwrap().seek.limit, 101);
        assert_eq!(arguments(None, None).window(false).unwrap().seek.limit, 21);
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_and_nothing_else_makes_it_panic(micros in any::<i64>(), id in any::<i64>(), text in ".{0,40}") {
            let place = Place { created_at: Timestamp::from_micros(micros), id };
            prop_assert_eq!(parse_cursor(&cursor(place)), Some(place));
            let _ = parse_cursor(&text);
        }
    }
}
