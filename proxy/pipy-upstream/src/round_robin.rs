//! Smooth weighted round robin: over any run of `sum of weights` picks each candidate is picked exactly as often as its
//! weight says, and picks of one candidate are spread evenly among those of the others.
//!
//! Every candidate earns its weight in credit per pick; the richest is picked and pays the sum of all weights.

/// Picks among candidates known by their position.
#[derive(Debug, Clone)]
pub struct RoundRobin {
    weights: Vec<i64>,
    credits: Vec<i64>,
    /// What the weights were divided by.
    divisor: i64,
}

impl RoundRobin {
    /// Candidates with these weights. Where all weights are 0, all count alike; else those with 0 are never picked.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut weights: Vec<i64> = weights.into_iter().map(i64::from).collect();
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
        match divisor {
            0 => weights.fill(1),
            // 50/50 becomes 1/1: the credits stay small and the spread is the same.
            divisor => weights.iter_mut().for_each(|weight| *weight /= divisor),
        }
        RoundRobin { credits: vec![0; weights.len()], weights, divisor: divisor.max(1) }
    }

    /// Goes on where another stopped, so that a change of the candidates does not begin the round again.
    /// `earlier` gives the position that a candidate had there, if any.
    pub fn go_on(&mut self, before: &RoundRobin, earlier: impl Fn(usize) -> Option<usize>) {
        let total: i64 = self.weights.iter().sum();
        for (position, credit) in self.credits.iter_mut().enumerate() {
            let old = earlier(position).and_then(|place| before.credits.get(place));
            // A debt of more than one round would starve a candidate whose weight has become smaller.
            *credit = old.map_or(0, |old| (old * before.divisor / self.divisor).clamp(-total, total));
        }
    }

    /// The position of the next candidate; `None` when there is none.
    pub fn pick(&mut self) -> Option<usize> {
        if let [_] = self.weights.as_slice() {
            return Some(0);
        }
        self.pick_of(|_| true)
    }

    /// The next among the candidates that can be used; shares are exact among these.
    pub fn pick_of(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut best, mut total): (Option<(usize, i64)>, i64) = (None, 0);
        for (position, (weight, credit)) in self.weights.iter().zip(&mut self.credits).enumerate() {
            // WHY: a weight of 0 never earns credit, but would win while all others are in debt.
            if *weight == 0 || !usable(position) {
                continue;
            }
            total += weight;
            *credit += weight;
            if best.is_none_or(|(_, highest)| *credit > highest) {
                best = Some((position, *credit));
            }
        }
        let (position, _) = best?;
        if let Some(credit) = self.credits.get_mut(position) {
            *credit -= total;
        }
        Some(position)
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::RoundRobin;

    fn picks(weights: &[u32], count: usize) -> Vec<usize> {
        let mut balancer = RoundRobin::new(weights.iter().copied());
        (0..count).filter_map(|_| balancer.pick()).collect()
    }

    #[test]
    fn four_picks_at_75_25_hold_exactly_one_of_the_second() {
        for start in 0..4 {
            let window = &picks(&[75, 25], 16)[start..start + 4];
            assert_eq!(window.iter().filter(|p| **p == 1).count(), 1, "{window:?}");
        }
    }

    #[test]
    fn shares_are_exact_over_a_whole_round() {
        for weights in [vec![50, 50], vec![1, 2, 3], vec![100], vec![7, 0, 3], vec![1, 1, 1, 97]] {
            let total: u32 = weights.iter().sum();
            let picked = picks(&weights, total as usize);
            for (position, weight) in weights.iter().enumerate() {
                assert_eq!(
                    picked.iter().filter(|p| **p == position).count(),
                    *weight as usize,
                    "{weights:?}"
                );
            }
        }
    }

    #[test]
    fn a_weight_of_zero_is_never_picked_beside_others() {
        assert!(!picks(&[0, 100], 50).contains(&0));
        assert!(!picks(&[100, 0], 50).contains(&1));
    }

    #[test]
    fn all_zero_count_alike() {
        assert_eq!(picks(&[0, 0], 4), [0, 1, 0, 1]);
    }

    #[test]
    fn no_candidates_no_pick() {
        assert_eq!(RoundRobin::new([]).pick(), None);
    }

    #[test]
    fn shares_are_exact_among_those_that_can_be_used() {
        let mut balancer = RoundRobin::new([3, 5, 1, 2]);
        for _ in 0..7 {
            balancer.pick();
        }
        let picked: Vec<usize> = (0..600).filter_map(|_| balancer.pick_of(|p| p != 1)).collect();
        let count = |position| picked.iter().filter(|p| **p == position).count();
        // Credits of the round that was interrupted may move one pick.
        assert!(count(0).abs_diff(300) + count(2).abs_diff(100) + count(3).abs_diff(200) <= 2, "{picked:?}");
        assert_eq!(count(1), 0);
        assert_eq!(balancer.pick_of(|_| false), None);
    }

    #[test]
    fn a_round_that_was_begun_is_ended_after_a_change() {
        for already in 0..8 {
            let mut before = RoundRobin::new([75, 25]);
            let mut picked: Vec<usize> = (0..already).filter_map(|_| before.pick()).collect();
            let mut after = RoundRobin::new([75, 25]);
            after.go_on(&before, Some);
            picked.extend((already..16).filter_map(|_| after.pick()));
            for window in picked.windows(4).step_by(4) {
                assert_eq!(window.iter().filter(|p| **p == 1).count(), 1, "{already}: {picked:?}");
            }
        }
    }

    #[test]
    fn a_candidate_that_is_new_or_becomes_lighter_is_not_starved() {
        let mut before = RoundRobin::new([1_000_000, 1]);
        for _ in 0..500_000 {
            before.pick();
        }
        let mut after = RoundRobin::new([1, 1, 1]);
        after.go_on(&before, |position| (position < 2).then_some(position));
        let picked: Vec<usize> = (0..12).filter_map(|_| after.pick()).collect();
        for position in 0..3 {
            assert!(picked.iter().filter(|p| **p == position).count() >= 2, "{picked:?}");
        }
    }
}
