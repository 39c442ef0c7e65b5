//! Parts of lines that were written before: values that come again need not be escaped again.
//!
//! What comes in: the values of some fields that belong together (who asked, or what decided), and how to write them. What
//! goes out: their text, copied where the same values were written lately. Most lines of a proxy differ in a few numbers
//! only, and what does not differ is three quarters of their bytes.
//!
//! INVARIANT: values are compared byte by byte, so that what is copied is what writing would have given. That is why nothing
//! here has to hear of new configurations.

/// LIMIT: places for different values. A sidecar has few neighbours; those of a gateway with many replace each other, which
/// costs what writing costs.
const PLACES: usize = 32;

/// LIMIT: bytes, values and text together, that are kept at a place. Longer ones come from strangers.
const KEPT_BYTES_MAX: usize = 2048;

/// A large odd number with as many ones as zeros, by which multiplying spreads what differs over the high bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The text of `N` values that belong together, for the values that came lately.
#[derive(Debug)]
pub(crate) struct Memo<const N: usize> {
    /// Empty until something is written.
    places: Vec<Place<N>>,
    /// The place that was used last: mostly that of the next values too.
    last: usize,
}

#[derive(Debug, Clone)]
struct Place<const N: usize> {
    lengths: [usize; N],
    /// The values, one behind the other, then their text. Empty: nothing is here.
    bytes: Vec<u8>,
}

impl<const N: usize> Memo<N> {
    pub(crate) fn new() -> Self {
        Memo { places: Vec::new(), last: 0 }
    }

    /// Appends the text of `values`: a copy, or else what `write` appends.
    pub(crate) fn append(&mut self, values: [&[u8]; N], out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(text) = self.text(self.last, &values) {
            return out.extend_from_slice(text);
        }
        let place = place_of(&values);
        self.last = place;
        if let Some(text) = self.text(place, &values) {
            return out.extend_from_slice(text);
        }
        let start = out.len();
        write(out);
        self.keep(place, &values, out.get(start..).unwrap_or_default());
    }

    fn text(&self, place: usize, values: &[&[u8]; N]) -> Option<&[u8]> {
        self.places.get(place)?.text(values)
    }

    fn keep(&mut self, place: usize, values: &[&[u8]; N], text: &[u8]) {
        if values.iter().map(|value| value.len()).sum::<usize>() + text.len() > KEPT_BYTES_MAX {
            return;
        }
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || Place { lengths: [0; N], bytes: Vec::new() });
        }
        let Some(place) = self.places.get_mut(place) else { return };
        place.lengths = values.map(<[u8]>::len);
        place.bytes.clear();
        values.iter().for_each(|value| place.bytes.extend_from_slice(value));
        place.bytes.extend_from_slice(text);
    }
}

impl<const N: usize> Place<N> {
    /// The text, if it is that of these values.
    fn text(&self, values: &[&[u8]; N]) -> Option<&[u8]> {
        if self.lengths != values.map(<[u8]>::len) || self.bytes.is_empty() {
            return None;
        }
        values.iter().try_fold(self.bytes.as_slice(), |rest, value| rest.strip_prefix(*value))
    }
}

/// Where values belong. Looks at the lengths and the ends alone: names in a cluster begin alike.
fn place_of<const N: usize>(values: &[&[u8]; N]) -> usize {
    let mut hash = 0_u64;
    for value in values {
        let mut words = value.first().map_or(0, |first| u64::from(*first)) ^ value.len() as u64;
        for word in value.rchunks_exact(8).take(3) {
            words = words.rotate_left(23) ^ u64::from_le_bytes(word.try_into().unwrap_or_default());
        }
        hash = (hash.rotate_left(23) ^ words).wrapping_mul(SPREAD);
    }
    (hash >> (u64::BITS - PLACES.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is appended for two values, and whether it was written.
    fn append(memo: &mut Memo<2>, values: [&str; 2]) -> (String, bool) {
        let (mut out, mut written) = (b"before ".to_vec(), false);
        memo.append(values.map(str::as_bytes), &mut out, |out| {
            written = true;
            out.extend_from_slice(values.join("+").as_bytes());
        });
        (String::from_utf8(out).expect("text"), written)
    }

    #[test]
    fn values_that_come_again_are_copied() {
        let mut memo = Memo::new();
        let first = append(&mut memo, ["spiffe://cluster.local/ns/a/sa/b", "x"]);
        assert_eq!(first, ("before spiffe://cluster.local/ns/a/sa/b+x".to_owned(), true));
        assert_eq!(append(&mut memo, ["spiffe://cluster.local/ns/a/sa/b", "x"]), (first.0, false));
    }

    #[test]
    fn no_values_are_taken_for_others() {
        let mut memo = Memo::new();
        let words =
            ["", "a", "b", "aa", "ab", "ba", "spiffe://one/ns/a/sa/default", "spiffe://one/ns/b/sa/default"];
        // Often enough that every place is taken and lost again, also by those that share one.
        for round in 0..3 {
            for first in words {
                for second in words {
                    let number = format!("{second}{}", round * 1000);
                    for values in [[first, second], [first, number.as_str()], [second, first]] {
                        assert_eq!(append(&mut memo, values).0, format!("before {}", values.join("+")));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_long_is_not_kept() {
        let mut memo = Memo::new();
        let long = "x".repeat(KEPT_BYTES_MAX);
        for _ in 0..2 {
            assert!(append(&mut memo, [&long, "y"]).1);
        }
        assert!(memo.places.is_empty());
    }

    #[test]
    fn names_that_differ_little_have_places_of_their_own() {
        let names: Vec<_> =
            (0..8).map(|i| format!("spiffe://cluster.local/ns/shop-{i}/sa/default")).collect();
        let places: std::collections::BTreeSet<_> =
            names.iter().map(|name| place_of(&[b"http".as_slice(), name.as_bytes()])).collect();
        assert!(places.len() >= 5, "{places:?}");
    }
}
