//! The static table of HPACK (RFC 7541 appendix A).
//!
//! In: an index, or a field. Out: the field, or its best index. Writing asks by name, so names are
//! matched by the compiler's own decision tree rather than by a map.
//!
//! Not done here: the dynamic table (`table.rs`), which indices from 62 on mean.

/// The number of entries; dynamic indices begin after it.
pub(super) const STATIC_LEN: u32 = 61;

static ENTRIES: [(&[u8], &[u8]); STATIC_LEN as usize] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The field at `index`, which counts from 1.
#[inline]
pub(super) fn field(index: u32) -> Option<(&'static [u8], &'static [u8])> {
    ENTRIES.get((index as usize).checked_sub(1)?).copied()
}

/// The index of a field, or else of its name: `(index, whether the value is the same)`.
#[inline]
pub(super) fn find(name: &[u8], value: &[u8]) -> Option<(u32, bool)> {
    let first = first_named(name)?;
    // Names with several entries have them one after another.
    let last = match name {
        b":status" => 14,
        b":method" | b":path" | b":scheme" => first + 1,
        _ => first,
    };
    let same = (first..=last).find(|&index| field(index).is_some_and(|(_, known)| known == value));
    Some(same.map_or((first, false), |index| (index, true)))
}

/// The first entry of that name.
fn first_named(name: &[u8]) -> Option<u32> {
    Some(match name {
        b":authority" => 1,
        b":method" => 2,
        b":path" => 4,
        b":scheme" => 6,
        b":status" => 8,
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept-ranges" => 18,
        b"accept" => 19,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"etag" => 34,
        b"expect" => 35,
        b"expires" => 36,
        b"from" => 37,
        b"host" => 38,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"max-forwards" => 47,
        b"proxy-authenticate" => 48,
        b"proxy-authorization" => 49,
        b"range" => 50,
        b"referer" => 51,
        b"refresh" => 52,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => 55,
        b"strict-transport-security" => 56,
        b"transfer-encoding" => 57,
        b"user-agent" => 58,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_by_its_field_and_by_its_name() {
        for index in 1..=STATIC_LEN {
            let (name, value) = field(index).unwrap();
            assert_eq!(find(name, value), Some((index, true)), "{index}");
            let (by_name, same) = find(name, b"another value").unwrap();
            assert!(!same && field(by_name).unwrap().0 == name, "{index}");
        }
    }

    #[test]
    fn there_is_nothing_outside_the_table() {
        assert_eq!(field(0), None);
        assert_eq!(field(STATIC_LEN + 1), None);
        assert_eq!(find(b"x-request-id", b""), None);
        assert_eq!(find(b"Accept", b""), None);
    }
}
