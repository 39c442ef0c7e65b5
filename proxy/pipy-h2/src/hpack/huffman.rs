//! Strings in the Huffman code of HPACK (RFC 7541 §5.2).
//!
//! In: the bytes of a string literal; out: its text, or back. Nine bits are looked up at once; the
//! few longer codes are found by their length, of which there are 21.
//!
//! Invariants: padding is at most seven ones, and EOS never stands in a string: both are errors, so
//! that no text has two encodings.
//!
//! Not done here: when to use it (`encode.rs`), bounds on the length (the caller's block is bounded,
//! and a text is at most 8/5 of its code).

use super::HpackError;
use super::codes::{BITS_MAX, CODES, FIRST, LENGTHS, LOOKUP, LOOKUP_BITS, SORTED};

/// Decodes `code` and appends the text to `out`.
pub(super) fn decode<T: Extend<u8>>(code: &[u8], out: &mut T) -> Result<(), HpackError> {
    // The next `held` bits, left-aligned; what follows them is ones, as padding would be.
    let mut bits: u64 = 0;
    let mut held: u32 = 0;
    let mut rest = code;
    // Symbols go out in small groups: `extend` by one would check the capacity each time.
    let mut group = [0u8; 16];
    let mut in_group = 0usize;
    loop {
        while held <= 56 {
            let Some((&byte, tail)) = rest.split_first() else { break };
            bits |= u64::from(byte) << (56 - held);
            held += 8;
            rest = tail;
        }
        if held == 0 {
            break;
        }
        let padded = if held < 64 { bits | (u64::MAX >> held) } else { bits };
        let (symbol, len) = next_symbol(padded);
        // EOS, or a code that ends after the string: the rest must be padding.
        if len == 0 || u32::from(len) > held {
            if len == 0 && held as usize >= BITS_MAX {
                return Err(HpackError::HuffmanEos);
            }
            if held > 7 || padded != u64::MAX {
                return Err(HpackError::HuffmanPadding);
            }
            break;
        }
        bits <<= len;
        held -= u32::from(len);
        if let Some(slot) = group.get_mut(in_group) {
            *slot = symbol;
        }
        in_group += 1;
        if in_group == group.len() {
            out.extend(group);
            in_group = 0;
        }
    }
    out.extend(group.into_iter().take(in_group));
    Ok(())
}

/// The symbol that the bits begin with and the length of its code; length 0 for EOS.
#[inline]
fn next_symbol(bits: u64) -> (u8, u8) {
    if let Some(&(symbol, len)) = LOOKUP.get((bits >> (64 - LOOKUP_BITS)) as usize) {
        if len > 0 {
            return (symbol, len);
        }
    }
    let code = (bits >> (64 - BITS_MAX)) as u32;
    for len in LOOKUP_BITS + 1..=BITS_MAX {
        let Some(range) = FIRST.get(len) else { break };
        if code < range.end {
            let index = usize::from(range.rank) + ((code - range.first) >> (BITS_MAX - len)) as usize;
            return (SORTED.get(index).copied().unwrap_or_default(), len as u8);
        }
    }
    (0, 0)
}

/// Bytes that [`encode`] writes for `text`.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|&byte| bits_of(byte).1 as usize).sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`, padded with ones.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let mut bits: u64 = 0;
    let mut held: u32 = 0;
    for &byte in text {
        let (code, len) = bits_of(byte);
        bits = (bits << len) | u64::from(code);
        held += len;
        while held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        let padding = 8 - held;
        out.push(((bits << padding) | ((1 << padding) - 1)) as u8);
    }
}

#[inline]
fn bits_of(byte: u8) -> (u32, u32) {
    let index = usize::from(byte);
    let code = CODES.get(index).copied().unwrap_or_default();
    (code, LENGTHS.get(index).copied().map_or(0, u32::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(code: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut text = Vec::new();
        decode(code, &mut text).map(|()| text)
    }

    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut code = Vec::new();
        encode(text, &mut code);
        assert_eq!(code.len(), encoded_len(text));
        code
    }

    #[test]
    fn strings_of_rfc_7541_appendix_c_are_read_and_written() {
        for (text, hex) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-key", "25a849e95ba97d7f"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("302", "6402"),
            ("private", "aec3771a4b"),
            ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
            ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
            ("307", "640eff"),
            ("gzip", "9bd9ab"),
        ] {
            let code = crate::testing::unhex(hex);
            assert_eq!(encoded(text.as_bytes()), code, "{text}");
            assert_eq!(decoded(&code).unwrap(), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn every_byte_round_trips_alone_and_between_others() {
        for byte in 0..=255u8 {
            for text in [vec![byte], vec![byte; 9], vec![b'a', byte, b'0'], vec![0, byte, 255]] {
                assert_eq!(decoded(&encoded(&text)).unwrap(), text, "byte {byte}");
            }
        }
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(decoded(&encoded(&all)).unwrap(), all);
    }

    #[test]
    fn padding_is_at_most_seven_ones() {
        // 'a' is 00011: three ones follow.
        assert_eq!(decoded(&[0b0001_1111]).unwrap(), b"a");
        for bad in [&[0b0001_1110][..], &[0b0001_1000], &[0b0001_1111, 0xff], &[0xff], &[0xff, 0xff, 0xff]] {
            assert_eq!(decoded(bad), Err(HpackError::HuffmanPadding), "{bad:x?}");
        }
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    #[test]
    fn eos_never_stands_in_a_string() {
        for bad in [&[0xff; 4][..], &[0xff; 8], &[0xff, 0xff, 0xff, 0xfc], &[0x1f, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(decoded(bad), Err(HpackError::HuffmanEos), "{bad:x?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_refused_or_is_a_beginning() {
        let code = encoded(b"a long value: /path?with=\x01\xff bytes");
        let whole = decoded(&code).unwrap();
        for end in 0..code.len() {
            if let Ok(text) = decoded(&code[..end]) {
                assert!(whole.starts_with(&text), "cut at {end}");
            }
        }
    }
}
