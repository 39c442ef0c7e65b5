//! Smooth weighted round robin: over any run of `sum of weights` picks each candidate is picked exactly as often as its
//! weight says, and picks of one candidate are spread evenly among those of the others.
//!
//! Every candidate earns its weight in credit per pick; the richest is picked and pays the sum of all weights.

/// Picks among candidates known by their position.
#[derive(Debug, Clone)]
pub struct RoundRobin {
    weights: Vec<i64>,
    credits: Vec<i64>,
    total: i64,
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
        let total = weights.iter().sum();
        RoundRobin { credits: vec![0; weights.len()], weights, total }
    }

    /// The position of the next candidate; `None` when there is none.
    pub fn pick(&mut self) -> Option<usize> {
        if let [_] = self.weights.as_slice() {
            return Some(0);
        }
        let mut best: Option<(usize, i64)> = None;
        for (position, (weight, credit)) in self.weights.iter().zip(&mut self.credits).enumerate() {
            *credit += weight;
            // WHY: a weight of 0 never earns credit, but would win while all others are in debt.
            if *weight > 0 && best.is_none_or(|(_, highest)| *credit > highest) {
                best = Some((position, *credit));
            }
        }
        let (position, _) = best?;
        if let Some(credit) = self.credits.get_mut(position) {
            *credit -= self.total;
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
}
