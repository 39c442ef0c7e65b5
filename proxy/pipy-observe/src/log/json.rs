//! JSON strings from bytes that nobody vouches for.
//!
//! What comes in: any bytes. What goes out: a JSON string that no terminal, pager or log collector can be tricked
//! with. Escaped are, besides what JSON demands (RFC 8259 section 7): DEL and the C1 controls (terminals obey
//! them), line and paragraph separators, and marks that change the direction of text. Bytes that are not UTF-8 become
//! U+FFFD. What is longer than [`FIELD_BYTES_MAX`] is cut and ends in `…`.
//!
//! INVARIANT: the output holds no byte below 0x20, and no quote that is not escaped but the outer two.

/// LIMIT: bytes of one field that are logged. Paths of attacks can be as long as a request head may be; the first
/// four kilobytes tell what it was.
pub const FIELD_BYTES_MAX: usize = 4096;

const HEX: &[u8; 16] = b"0123456789abcdef";

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Whether a byte can stand as it is.
fn plain(b: u8) -> bool {
    matches!(b, 0x20..0x7f) && b != b'"' && b != b'\\'
}

/// How many bytes from the start can stand as they are. Eight at a time: this is most of the cost of a line.
fn plain_run(bytes: &[u8]) -> usize {
    for (i, chunk) in bytes.chunks_exact(8).enumerate() {
        let special = specials(chunk.try_into().unwrap_or_default());
        if special != 0 {
            return i * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    // What is left, together with bytes before it that are plain.
    if let Some(last) = bytes.last_chunk() {
        let special = specials(*last);
        return if special == 0 {
            bytes.len()
        } else {
            bytes.len() - 8 + special.trailing_zeros() as usize / 8
        };
    }
    bytes.iter().position(|b| !plain(*b)).unwrap_or(bytes.len())
}

/// The highest bit of the first byte that can't stand as it is, if there is one; bits above it mean nothing.
fn specials(bytes: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(bytes);
    // The classic test for a zero byte; it is exact for the lowest one, and only that is looked at.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zero(word ^ (ONES * b'"' as u64));
    let backslash = zero(word ^ (ONES * b'\\' as u64));
    let del = zero(word ^ (ONES * 0x7f));
    (below_space | quote | backslash | del | word) & HIGHS
}

/// Appends `value` as the inside of a JSON string and its closing quote; the opening one is the caller's.
pub(crate) fn rest_of_string(value: &[u8], out: &mut Vec<u8>) {
    match value.get(..FIELD_BYTES_MAX) {
        None if plain_run(value) == value.len() => out.extend_from_slice(value),
        Some(start) if value.len() > FIELD_BYTES_MAX => {
            escaped(whole_characters(start), out);
            out.extend_from_slice("…".as_bytes());
        }
        _ => escaped(value, out),
    }
    out.push(b'"');
}

fn escaped(mut rest: &[u8], out: &mut Vec<u8>) {
    while !rest.is_empty() {
        let (plain_part, tail) = rest.split_at(plain_run(rest));
        out.extend_from_slice(plain_part);
        let run = tail.iter().position(|b| plain(*b)).unwrap_or(tail.len());
        let (special, tail) = tail.split_at(run);
        for chunk in special.utf8_chunks() {
            chunk.valid().chars().for_each(|c| character(c, out));
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        rest = tail;
    }
}

fn character(c: char, out: &mut Vec<u8>) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..'\u{20}'
        | '\u{7f}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => {
            let code = c as u32;
            out.extend_from_slice(b"\\u");
            for shift in [12, 8, 4, 0] {
                out.push(HEX[(code >> shift & 0xf) as usize]);
            }
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Without the beginning of a character that was cut at the end.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    let from_last_start =
        bytes.iter().rev().take(4).position(|b| *b & 0xc0 != 0x80).map_or(0, |back| back + 1);
    let (head, last) = bytes.split_at(bytes.len() - from_last_start);
    match std::str::from_utf8(last) {
        Err(error) if error.error_len().is_none() => head,
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &[u8]) -> String {
        let mut out = vec![b'"'];
        rest_of_string(value, &mut out);
        String::from_utf8(out).expect("is UTF-8")
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(text(b"/books?a=1&b=%20"), "\"/books?a=1&b=%20\"");
        assert_eq!(text("/käse/書".as_bytes()), "\"/käse/書\"");
        assert_eq!(text(b""), "\"\"");
    }

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        assert_eq!(text(b"a\"b\\c\n{\r\t"), r#""a\"b\\c\n{\r\t""#);
        assert_eq!(text(b"\x00\x1b[2J\x7f"), r#""\u0000\u001b[2J\u007f""#);
        assert_eq!(text("\u{9b}31m \u{2028} \u{202e}gpj".as_bytes()), r#""\u009b31m \u2028 \u202egpj""#);
        assert_eq!(text(b"\xff\xc3/\x80"), "\"\u{fffd}\u{fffd}/\u{fffd}\"");
    }

    #[test]
    fn a_run_of_plain_bytes_ends_at_the_first_that_is_not() {
        for b in 0..=255_u8 {
            for (length, at) in (1..21).flat_map(|length| (0..length).map(move |at| (length, at))) {
                let mut bytes = vec![b'x'; length];
                bytes[at] = b;
                assert_eq!(plain_run(&bytes), if plain(b) { length } else { at }, "{b:#x} at {at}");
                // What comes after the first one doesn't matter.
                bytes[at + 1..].fill(0x01);
                let expected = if plain(b) { at + 1 } else { at };
                assert_eq!(plain_run(&bytes), expected, "{b:#x} at {at} of {length}");
            }
        }
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "ä".repeat(FIELD_BYTES_MAX);
        assert_eq!(text(long.as_bytes()), format!("\"{}…\"", "ä".repeat(FIELD_BYTES_MAX / 2)));
        let shifted = format!("x{long}");
        assert_eq!(text(shifted.as_bytes()), format!("\"x{}…\"", "ä".repeat((FIELD_BYTES_MAX - 2) / 2)));
        let exact = "y".repeat(FIELD_BYTES_MAX);
        assert_eq!(text(exact.as_bytes()), format!("\"{exact}\""));
    }
}
