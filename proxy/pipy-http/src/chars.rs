//! Which bytes may stand where (RFC 9110 §5.5 and §5.6, RFC 3986 §2), and small scans over them.
//!
//! In: bytes from a peer. Out: yes or no. Tables are computed at compile time.
//! Not done here: any notion of which part of a message a byte belongs to.

/// A byte of a token: method and field names (RFC 9110 §5.6.2).
#[inline]
pub(crate) fn is_tchar(byte: u8) -> bool {
    has(byte, TCHAR)
}

/// One or more token bytes.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_tchar(byte))
}

/// A byte that RFC 3986 §2.3 calls unreserved: the same resource, percent-encoded or not.
#[inline]
pub(crate) fn is_unreserved(byte: u8) -> bool {
    has(byte, UNRESERVED)
}

/// A byte that may stand in a path segment as it is (RFC 3986 §3.3: pchar without `%`).
#[inline]
pub(crate) fn is_path_char(byte: u8) -> bool {
    has(byte, UNRESERVED | SUB_DELIM | COLON_AT)
}

/// A byte of a host name or IPv4 address, as names are used in practice: no percent-encoding and
/// no sub-delimiters, which RFC 3986 §3.2.2 would allow and which two readers may compare
/// differently.
#[inline]
pub(crate) fn is_host_char(byte: u8) -> bool {
    has(byte, UNRESERVED)
}

/// Field values, reason phrases: everything but control bytes, where HTAB is no control byte.
/// `obs-text` (0x80–0xFF) is opaque and passes (RFC 9110 §5.5).
#[inline]
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    // A fold without an early exit: the compiler makes vector code of it, and nearly every value
    // is good to its end.
    !bytes.iter().fold(false, |bad, &byte| bad | ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f))
}

/// Visible ASCII only: request targets (RFC 9112 §3.2).
#[inline]
pub(crate) fn is_visible(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |bad, &byte| bad | (byte <= 0x20) | (byte >= 0x7f))
}

/// Without optional whitespace (SP, HTAB) on both sides (RFC 9110 §5.6.3).
#[inline]
pub(crate) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a comma list (RFC 9110 §5.6.1), trimmed; empty members are left out, as the
/// RFC asks of a recipient.
pub(crate) fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|member| !member.is_empty())
}

/// The value of a hexadecimal digit.
#[inline]
pub(crate) fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// A decimal number of digits only: no sign, no blank, no overflow.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

const TCHAR: u8 = 1;
const UNRESERVED: u8 = 2;
const SUB_DELIM: u8 = 4;
const COLON_AT: u8 = 8;

#[inline]
fn has(byte: u8, class: u8) -> bool {
    // `get` on a table of 256 by a byte: the check is removed by the compiler.
    CLASSES.get(usize::from(byte)).is_some_and(|classes| classes & class != 0)
}

static CLASSES: [u8; 256] = classes();

#[allow(clippy::indexing_slicing)] // At compile time, by an index below 256.
const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut index = 0usize;
    while index < 256 {
        let byte = index as u8;
        if byte.is_ascii_alphanumeric() {
            table[index] |= TCHAR | UNRESERVED;
        }
        if matches!(byte, b'-' | b'.' | b'_' | b'~') {
            table[index] |= TCHAR | UNRESERVED;
        }
        if matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'^' | b'`' | b'|') {
            table[index] |= TCHAR;
        }
        if matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=') {
            table[index] |= SUB_DELIM;
        }
        if matches!(byte, b':' | b'@') {
            table[index] |= COLON_AT;
        }
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_exactly_the_bytes_of_the_rfc() {
        let expected = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        for byte in 0..=255u8 {
            assert_eq!(is_tchar(byte), expected.contains(&byte), "byte {byte:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn path_bytes_are_exactly_pchar_without_percent() {
        let expected = b"-._~!$&'()*+,;=:@0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        for byte in 0..=255u8 {
            assert_eq!(is_path_char(byte), expected.contains(&byte), "byte {byte:#x}");
        }
    }

    #[test]
    fn text_refuses_each_control_byte_wherever_it_stands() {
        for byte in 0..=255u8 {
            let control = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
            for at in [0, 7, 15, 16, 39] {
                let mut value = [b'a'; 40];
                value[at] = byte;
                assert_eq!(is_text(&value), !control, "byte {byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn targets_are_visible_ascii() {
        for byte in 0..=255u8 {
            assert_eq!(is_visible(&[b'/', byte]), (0x21..0x7f).contains(&byte), "byte {byte:#x}");
        }
    }

    #[test]
    fn decimal_takes_digits_up_to_the_largest_number() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"18446744073709551616", b"+1", b"-1", b" 1", b"1 ", b"0x1", b"1,1", b"1e3"] {
            assert_eq!(decimal(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn lists_lose_blanks_and_empty_members() {
        let members: Vec<_> = list_members(b" a,,b\t ,  , c d").collect();
        assert_eq!(members, [&b"a"[..], b"b", b"c d"]);
        assert_eq!(list_members(b" , ").count(), 0);
    }
}
