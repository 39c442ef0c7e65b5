//! Least work: of two candidates drawn by weight, the one with less work per weight.
//!
//! WHY two and not the least of all: a worker sees only its own requests. Taking the least of all would send everything to
//! an endpoint that has just come, or that fails faster than others work, until it has caught up; two choices keep the
//! longest queue within log log n of the mean (Mitzenmacher 2001) without that. With no work anywhere the shares are those
//! of the weights.

use crate::Dice;

/// A position among the candidates `(position, weight)`; `work` is what each has in hand.
pub(crate) fn pick(
    candidates: &[(usize, u32)],
    work: impl Fn(usize) -> u32,
    dice: &mut Dice,
) -> Option<usize> {
    let total: u64 = candidates.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let (first, first_weight) = drawn(candidates, dice.below(total))?;
    // The second draw leaves the first one out.
    let rest = total - u64::from(first_weight);
    if rest == 0 {
        return Some(first);
    }
    let others = candidates.iter().filter(|(position, _)| *position != first);
    let (second, second_weight) = drawn(others, dice.below(rest))?;
    let a = u64::from(work(first)) * u64::from(second_weight);
    let b = u64::from(work(second)) * u64::from(first_weight);
    Some(if b < a { second } else { first })
}

fn drawn<'c>(candidates: impl IntoIterator<Item = &'c (usize, u32)>, mut mark: u64) -> Option<(usize, u32)> {
    for (position, weight) in candidates {
        match mark.checked_sub(u64::from(*weight)) {
            Some(left) => mark = left,
            None => return Some((*position, *weight)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::pick;
    use crate::Dice;

    #[test]
    fn of_two_the_one_with_less_work_per_weight_is_taken() {
        let mut dice = Dice::new(1);
        for (work, expected) in [([5, 4], 1), ([4, 5], 0), ([9, 0], 1)] {
            for _ in 0..50 {
                assert_eq!(pick(&[(0, 1), (1, 1)], |p| work[p], &mut dice), Some(expected));
            }
        }
        // 6 at weight 3 is less than 3 at weight 1.
        assert_eq!(pick(&[(0, 3), (1, 1)], |p| [6, 3][p], &mut dice), Some(0));
    }

    #[test]
    fn with_no_work_the_shares_are_those_of_the_weights() {
        let mut dice = Dice::new(2);
        let mut counts = [0_u32; 3];
        for _ in 0..60_000 {
            counts[pick(&[(0, 1), (1, 2), (2, 3)], |_| 0, &mut dice).expect("some")] += 1;
        }
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
        assert!((29_000..31_000).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn queues_stay_level_when_work_takes_differently_long() {
        // 20 endpoints; the first takes ten times as long for each request. It must not gather a queue.
        let mut dice = Dice::new(3);
        let candidates: Vec<(usize, u32)> = (0..20).map(|p| (p, 1)).collect();
        let mut work = [0_u32; 20];
        let mut ends: Vec<(u64, usize)> = Vec::new();
        let mut worst = 0;
        for now in 0..20_000_u64 {
            ends.retain(|(end, position)| {
                let over = *end <= now;
                work[*position] -= u32::from(over);
                !over
            });
            let position = pick(&candidates, |p| work[p], &mut dice).expect("some");
            work[position] += 1;
            ends.push((now + if position == 0 { 100 } else { 10 }, position));
            worst = worst.max(work[0]);
        }
        assert!(worst <= 5, "the slow one had {worst} at once; in turn it would have had 5 on average");
    }

    #[test]
    fn nothing_to_pick_from() {
        assert_eq!(pick(&[], |_| 0, &mut Dice::new(4)), None);
        assert_eq!(pick(&[(7, 1)], |_| 9, &mut Dice::new(4)), Some(7));
    }
}
