//! The Huffman code of HPACK (RFC 7541 appendix B), computed from the lengths of its codes.
//!
//! The code is canonical: sorted by length and then by symbol, each code is the one before it plus
//! one, shifted to its length. So 256 lengths, and EOS with 30 ones, say all of appendix B; the rest
//! is computed when this is compiled. A test holds that the lengths fill the code space exactly.
//!
//! Not done here: strings (`huffman.rs`).
#![allow(clippy::indexing_slicing)] // At compile time, by indices that the loops bound.

/// Bits of the longest code; EOS has as many, all ones.
pub(super) const BITS_MAX: usize = 30;

/// Bits looked up at once. 30 of 256 symbols, which are nearly all that headers hold, have shorter
/// codes or as short ones; two bytes of table per index are 1 KiB, which stays in the cache.
pub(super) const LOOKUP_BITS: usize = 9;

/// The lengths of the codes in bits, by symbol.
#[rustfmt::skip]
pub(super) static LENGTHS: [u8; 256] = LENGTHS_CONST;

#[rustfmt::skip]
const LENGTHS_CONST: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The codes, right-aligned, by symbol.
pub(super) static CODES: [u32; 256] = CANON.codes;

/// The symbols in the order of their codes.
pub(super) static SORTED: [u8; 256] = CANON.sorted;

/// For each length: the first code of that length, left-aligned to [`BITS_MAX`], the number of
/// symbols before it in [`SORTED`], and the end of the codes of that length, left-aligned.
pub(super) static FIRST: [Length; BITS_MAX + 1] = CANON.first;

/// Symbol and length by the next [`LOOKUP_BITS`] bits; length 0 where the code is longer.
pub(super) static LOOKUP: [(u8, u8); 1 << LOOKUP_BITS] = lookup();

/// The codes of one length.
#[derive(Clone, Copy)]
pub(super) struct Length {
    pub(super) first: u32,
    pub(super) end: u32,
    pub(super) rank: u16,
}

struct Canon {
    codes: [u32; 256],
    sorted: [u8; 256],
    first: [Length; BITS_MAX + 1],
}

const CANON: Canon = canon();

const fn canon() -> Canon {
    let mut canon = Canon {
        codes: [0; 256],
        sorted: [0; 256],
        first: [Length { first: 0, end: 0, rank: 0 }; BITS_MAX + 1],
    };
    let mut code = 0u32;
    let mut rank = 0usize;
    let mut bits = 1;
    while bits <= BITS_MAX {
        code <<= 1;
        let shift = (BITS_MAX - bits) as u32;
        canon.first[bits].first = code << shift;
        canon.first[bits].rank = rank as u16;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS_CONST[symbol] as usize == bits {
                canon.codes[symbol] = code;
                canon.sorted[rank] = symbol as u8;
                code += 1;
                rank += 1;
            }
            symbol += 1;
        }
        canon.first[bits].end = code << shift;
        bits += 1;
    }
    canon
}

const fn lookup() -> [(u8, u8); 1 << LOOKUP_BITS] {
    let mut table = [(0, 0); 1 << LOOKUP_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let bits = LENGTHS_CONST[symbol] as usize;
        if bits <= LOOKUP_BITS {
            let spare = LOOKUP_BITS - bits;
            let mut index = (CANON.codes[symbol] as usize) << spare;
            let end = index + (1 << spare);
            while index < end {
                table[index] = (symbol as u8, bits as u8);
                index += 1;
            }
        }
        symbol += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_and_eos_fill_the_code_space_exactly() {
        let used: u64 = LENGTHS.iter().map(|&bits| 1u64 << (BITS_MAX - usize::from(bits))).sum();
        assert_eq!(used + 1, 1 << BITS_MAX);
    }

    #[test]
    fn codes_are_those_of_rfc_7541_appendix_b() {
        // First, last and unusual entries of the table.
        for (symbol, code) in [
            (0u8, 0x1ff8),
            (1, 0x7f_ffd8),
            (10, 0x3fff_fffc),
            (b' ', 0x14),
            (b'0', 0),
            (b'A', 0x21),
            (b'\\', 0x7_fff0),
            (b'a', 3),
            (b'z', 0x7b),
            (b'~', 0x1ffd),
            (127, 0xfff_fffc),
            (249, 0xfff_fffe),
            (255, 0x3ff_ffee),
        ] {
            assert_eq!(CODES[usize::from(symbol)], code, "symbol {symbol}");
        }
    }

    #[test]
    fn no_code_begins_another() {
        for a in 0..256 {
            for b in 0..256 {
                let (short, long) = (LENGTHS[a], LENGTHS[b]);
                if a != b && short <= long {
                    assert_ne!(CODES[a], CODES[b] >> (long - short), "{a} and {b}");
                }
            }
        }
    }
}
