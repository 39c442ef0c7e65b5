//! Balancing: which of a cluster's endpoints is next.
//!
//! Candidates stand in tiers: those with a weight by priority, then all of weight 0, which are for when every other has
//! failed. The first tier with a candidate that can be used is picked from, by the policy. Where all weights are 0, all
//! count alike and stand by their priority.
//!
//! Pure: whether a candidate can be used and what work it has is asked of the caller for each pick. When none can be used,
//! `None`; the caller may then ask again with fewer objections.

use crate::{Dice, RoundRobin, hashing, least_work};

/// How an endpoint is picked among those of a tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// In turn, exactly by weight.
    #[default]
    RoundRobin,
    /// The one with less in hand, of two.
    LeastWork,
    /// By a key of the request: the same key, the same endpoint.
    Hash,
}

/// One endpoint, as far as balancing depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its share; 0 beside others: only after a failure of theirs.
    pub weight: u32,
    /// Lower ones come first.
    pub priority: u32,
    /// Hash of its name: see [`crate::hash`].
    pub name: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Balancer {
    policy: Policy,
    candidates: Vec<Candidate>,
    /// Positions in `candidates`, and whose turn it is among them.
    tiers: Vec<(Vec<usize>, RoundRobin)>,
}

impl Balancer {
    /// A balancer of these candidates; they are known by their position.
    pub fn new(policy: Policy, mut candidates: Vec<Candidate>) -> Self {
        if candidates.iter().all(|candidate| candidate.weight == 0) {
            candidates.iter_mut().for_each(|candidate| candidate.weight = 1);
        }
        let mut keys: Vec<_> = candidates.iter().map(tier).collect();
        keys.sort_unstable();
        keys.dedup();
        let tiers = keys
            .into_iter()
            .map(|key| {
                let positions: Vec<usize> =
                    (0..candidates.len()).filter(|p| tier(&candidates[*p]) == key).collect();
                let turns = RoundRobin::new(positions.iter().map(|p| candidates[*p].weight));
                (positions, turns)
            })
            .collect();
        Balancer { policy, candidates, tiers }
    }

    /// Goes on in turn where another stopped.
    pub fn go_on(&mut self, before: &Balancer) {
        let candidates = &self.candidates;
        for (positions, turns) in &mut self.tiers {
            let first = positions.first().map(|p| tier(&candidates[*p]));
            let same = |(old, _): &&(Vec<usize>, RoundRobin)| {
                old.first().map(|p| tier(&before.candidates[*p])) == first
            };
            let Some((old, old_turns)) = before.tiers.iter().find(same) else { continue };
            turns.go_on(old_turns, |place| {
                let name = candidates[*positions.get(place)?].name;
                old.iter().position(|p| before.candidates[*p].name == name)
            });
        }
    }

    /// The position of the next candidate. `key` is the request's hash; without one, a policy that hashes picks in turn.
    pub fn pick(
        &mut self,
        key: Option<u64>,
        usable: impl Fn(usize) -> bool,
        work: impl Fn(usize) -> u32,
        dice: &mut Dice,
    ) -> Option<usize> {
        // Most clusters of a mesh that runs well.
        if let ([(positions, _)], 1) = (self.tiers.as_slice(), self.candidates.len()) {
            return positions.first().copied().filter(|position| usable(*position));
        }
        for (positions, turns) in &mut self.tiers {
            let candidates = &self.candidates;
            let usable = |position: &usize| usable(*position);
            let found = match (self.policy, key) {
                (Policy::Hash, Some(key)) => {
                    let all = positions.iter().copied().filter(usable);
                    let weighed = all.map(|p| (p, candidates[p].weight.max(1), candidates[p].name));
                    hashing::pick(weighed, key)
                }
                (Policy::LeastWork, _) => {
                    let all = positions.iter().copied().filter(usable);
                    let weighed: Vec<_> = all.map(|p| (p, candidates[p].weight.max(1))).collect();
                    least_work::pick(&weighed, &work, dice)
                }
                (Policy::RoundRobin | Policy::Hash, _) => turns
                    .pick_of(|place| positions.get(place).is_some_and(usable))
                    .and_then(|place| positions.get(place).copied()),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Those with a weight by priority, then the others by theirs.
fn tier(candidate: &Candidate) -> (bool, u32) {
    (candidate.weight == 0, candidate.priority)
}

#[cfg(test)]
mod tests {
    use super::{Balancer, Candidate, Policy};
    use crate::{Dice, hash};

    fn candidates(all: &[(u32, u32)]) -> Vec<Candidate> {
        let name = |position: usize| hash(&position.to_le_bytes());
        let one = |(position, (weight, priority)): (usize, &(u32, u32))| Candidate {
            weight: *weight,
            priority: *priority,
            name: name(position),
        };
        all.iter().enumerate().map(one).collect()
    }

    const POLICIES: [Policy; 3] = [Policy::RoundRobin, Policy::LeastWork, Policy::Hash];

    #[test]
    fn a_later_tier_is_used_only_when_no_earlier_one_can_be() {
        let mut dice = Dice::new(1);
        // Two at home, one elsewhere, and two for the worst.
        let all = candidates(&[(1, 0), (1, 0), (5, 1), (0, 0), (0, 1)]);
        for policy in POLICIES {
            let mut balancer = Balancer::new(policy, all.clone());
            for round in 0..5_000_u64 {
                let broken = dice.below(32);
                let usable = |position: usize| broken >> position & 1 == 0;
                let picked = balancer.pick(Some(hash(&round.to_le_bytes())), usable, |_| 0, &mut dice);
                let tiers: [&[usize]; 4] = [&[0, 1], &[2], &[3], &[4]];
                let first = tiers.iter().find(|tier| tier.iter().any(|p| usable(*p)));
                match (picked, first) {
                    (Some(position), Some(tier)) => {
                        assert!(tier.contains(&position) && usable(position), "{policy:?} {broken:b}");
                    }
                    (None, None) => {}
                    other => panic!("{policy:?} {broken:b}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn all_of_weight_0_count_alike() {
        let mut dice = Dice::new(2);
        for policy in POLICIES {
            let mut balancer = Balancer::new(policy, candidates(&[(0, 0), (0, 0)]));
            let mut counts = [0; 2];
            for key in 0..1_000_u64 {
                let key = Some(hash(&key.to_le_bytes()));
                counts[balancer.pick(key, |_| true, |_| 0, &mut dice).expect("some")] += 1;
            }
            assert!(counts.iter().all(|count| (400..600).contains(count)), "{policy:?} {counts:?}");
        }
    }

    #[test]
    fn a_key_keeps_its_endpoint_while_that_can_be_used() {
        let mut dice = Dice::new(3);
        let mut balancer = Balancer::new(Policy::Hash, candidates(&[(1, 0); 7]));
        for key in 0..500_u64 {
            let key = Some(hash(&key.to_le_bytes()));
            let home = balancer.pick(key, |_| true, |_| 0, &mut dice).expect("some");
            let away = balancer.pick(key, |p| p != home, |_| 0, &mut dice);
            assert_ne!(away, Some(home));
            assert_eq!(balancer.pick(key, |_| true, |_| 0, &mut dice), Some(home));
        }
    }

    #[test]
    fn turns_go_on_when_an_endpoint_comes() {
        let mut dice = Dice::new(4);
        let mut before = Balancer::new(Policy::RoundRobin, candidates(&[(1, 0), (1, 0)]));
        assert_eq!(before.pick(None, |_| true, |_| 0, &mut dice), Some(0));
        let mut after = Balancer::new(Policy::RoundRobin, candidates(&[(1, 0), (1, 0), (1, 0)]));
        after.go_on(&before);
        let picked: Vec<_> = (0..3).filter_map(|_| after.pick(None, |_| true, |_| 0, &mut dice)).collect();
        assert_eq!(picked[0], 1, "it was the second one's turn: {picked:?}");
    }

    #[test]
    fn no_candidates_no_pick() {
        let mut dice = Dice::new(5);
        assert_eq!(Balancer::new(Policy::Hash, Vec::new()).pick(Some(1), |_| true, |_| 0, &mut dice), None);
    }
}
