//! Consistent hashing: the same key goes to the same candidate, and a change of the candidates moves only the keys that
//! must move.
//!
//! By weighted rendezvous: each candidate draws a number from (key, candidate), and the highest, by weight, wins
//! (Thaler, Ravishankar 1998; weights by Schindelhauer, Schomaker 2005). WHY not a ring or Maglev's table: no table to keep per
//! worker and to build on each change, exact weights, and the least possible disruption; the price is a pass over the
//! candidates, some ten nanoseconds for each.

use crate::dice::mix;

/// The hash of bytes; the same in every process and release (FNV-1a, spread).
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Whose a key is among candidates `(position, weight, hash of its name)`.
pub(crate) fn pick(candidates: impl Iterator<Item = (usize, u32, u64)>, key: u64) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (position, weight, name) in candidates {
        // 52 bits make a float between 0 and 1, neither of them.
        #[expect(clippy::cast_precision_loss, reason = "52 bits fit a float's mantissa")]
        let drawn = ((mix(name ^ mix(key)) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        let score = -f64::from(weight) / drawn.ln();
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((position, score));
        }
    }
    best.map(|(position, _)| position)
}

#[cfg(test)]
mod tests {
    use super::{hash, pick};

    fn candidates(weights: &[u32]) -> Vec<(usize, u32, u64)> {
        let name = |position: usize| hash(format!("10.0.0.{position}:80").as_bytes());
        weights.iter().enumerate().map(|(position, weight)| (position, *weight, name(position))).collect()
    }

    fn owner(candidates: &[(usize, u32, u64)], key: u64) -> usize {
        pick(candidates.iter().copied(), hash(&key.to_le_bytes())).expect("some")
    }

    #[test]
    fn only_the_keys_of_one_that_leaves_move() {
        let before = candidates(&[1; 10]);
        let after: Vec<_> = before.iter().copied().filter(|(position, ..)| *position != 3).collect();
        let mut moved = 0;
        for key in 0..10_000 {
            let (was, is) = (owner(&before, key), owner(&after, key));
            assert!(was == is || was == 3, "key {key} moved from {was} to {is}");
            moved += u32::from(was == 3);
        }
        assert!((850..1150).contains(&moved), "{moved}");
    }

    #[test]
    fn one_that_comes_takes_its_share_of_every_other() {
        let after = candidates(&[1; 11]);
        let before = &after[..10];
        let mut taken = [0_u32; 10];
        for key in 0..20_000 {
            let (was, is) = (owner(before, key), owner(&after, key));
            assert!(was == is || is == 10);
            taken[was] += u32::from(is == 10);
        }
        assert!(taken.iter().all(|count| (120..250).contains(count)), "{taken:?}");
    }

    #[test]
    fn keys_are_shared_by_weight_and_a_heavier_one_only_gains() {
        let (light, heavy) = (candidates(&[1, 2, 3]), candidates(&[1, 2, 6]));
        let mut counts = [0_u32; 3];
        for key in 0..60_000 {
            let (was, is) = (owner(&light, key), owner(&heavy, key));
            counts[was] += 1;
            assert!(was == is || is == 2);
        }
        assert!((9_400..10_600).contains(&counts[0]), "{counts:?}");
        assert!((29_000..31_000).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn hashes_do_not_change_between_releases() {
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_ne!(hash(b"a"), hash(b"b"));
    }
}
