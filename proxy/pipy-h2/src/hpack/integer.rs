//! Integers with a prefix (RFC 7541 §5.1).
//!
//! Reading takes up to 32 bits in at most five bytes after the prefix: no index, length or table
//! size of this protocol is larger, and zeros that go on for ever are refused.

use super::HpackError;

/// Reads an integer whose first byte has `prefix_bits` bits for it.
#[inline]
pub(super) fn read(block: &mut &[u8], prefix_bits: u32) -> Result<u32, HpackError> {
    let (&first, rest) = block.split_first().ok_or(HpackError::Truncated)?;
    *block = rest;
    let mask = u32::from(u8::MAX >> (8 - prefix_bits));
    let value = u32::from(first) & mask;
    if value < mask {
        return Ok(value);
    }
    let mut value = u64::from(value);
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = block.split_first().ok_or(HpackError::Truncated)?;
        *block = rest;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| HpackError::IntegerOverflow);
        }
    }
    Err(HpackError::IntegerOverflow)
}

/// Writes an integer; `pattern` holds the bits before the prefix.
#[inline]
pub(super) fn write(value: u32, prefix_bits: u32, pattern: u8, out: &mut Vec<u8>) {
    let mask = u8::MAX >> (8 - prefix_bits);
    if value < u32::from(mask) {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask);
    let mut rest = value - u32::from(mask);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], prefix_bits: u32) -> Result<u32, HpackError> {
        let mut block = bytes;
        let value = read(&mut block, prefix_bits)?;
        assert!(block.is_empty());
        Ok(value)
    }

    #[test]
    fn examples_of_rfc_7541_c_1() {
        for (bytes, prefix_bits, value) in [
            (&[0b0000_1010u8][..], 5, 10),
            (&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5, 1337),
            (&[42], 8, 42),
        ] {
            assert_eq!(read_all(bytes, prefix_bits), Ok(value));
            let mut out = Vec::new();
            write(value, prefix_bits, 0, &mut out);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn integers_round_trip_with_every_prefix() {
        for prefix_bits in 1..=8 {
            for value in (0..300).chain([0x7fff, 0x8000, 0xffff, u32::MAX - 1, u32::MAX]) {
                let mut out = Vec::new();
                write(value, prefix_bits, 0, &mut out);
                assert_eq!(read_all(&out, prefix_bits), Ok(value));
                for end in 0..out.len() {
                    assert_eq!(read_all(&out[..end], prefix_bits), Err(HpackError::Truncated));
                }
            }
        }
    }

    #[test]
    fn integers_over_32_bits_and_endless_ones_are_refused() {
        for bad in [
            &[0xff, 0x81, 0xfe, 0xff, 0xff, 0x0f][..],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80],
        ] {
            assert_eq!(read(&mut &bad[..], 8), Err(HpackError::IntegerOverflow), "{bad:x?}");
        }
    }
}
