use std::time::{Duration, Instant};

use super::{Health, HealthPolicy, Result, Standing, ejected_max};
use crate::Dice;

const POLICY: HealthPolicy = HealthPolicy {
    connect_failures: 2,
    consecutive_failures: 5,
    failure_percent: 50,
    requests_min: 20,
    window: Duration::from_secs(10),
    ejection: Duration::from_secs(1),
    ejection_max: Duration::from_secs(8),
};

fn fail(health: &mut Health, times: u32, now: Instant) -> bool {
    (0..times).fold(false, |_, _| health.report(&POLICY, Result::Failure, now, || true))
}

#[test]
fn failures_in_a_row_eject_and_a_success_between_them_saves() {
    let now = Instant::now();
    let mut health = Health::default();
    for _ in 0..3 {
        assert!(!fail(&mut health, 4, now));
        health.report(&POLICY, Result::Success, now, || true);
    }
    assert!(fail(&mut health, 5, now));
    assert_eq!(health.standing(now), Standing::Ejected);
}

#[test]
fn an_endpoint_that_cannot_be_reached_goes_sooner_than_one_that_answers_with_failures() {
    let now = Instant::now();
    let mut health = Health::default();
    assert!(!health.report(&POLICY, Result::Unreachable, now, || true));
    assert!(health.report(&POLICY, Result::Unreachable, now, || true));
}

#[test]
fn a_large_share_of_failures_ejects_when_there_were_enough_requests() {
    let now = Instant::now();
    let mut health = Health::default();
    let mut ejected_at = None;
    for request in 1..=40 {
        let result = if request % 2 == 0 { Result::Failure } else { Result::Success };
        if health.report(&POLICY, result, now, || true) {
            ejected_at.get_or_insert(request);
            break;
        }
    }
    assert_eq!(ejected_at, Some(20));
}

#[test]
fn one_probe_at_a_time_brings_it_back_or_sends_it_away_for_longer() {
    let mut now = Instant::now();
    let mut health = Health::default();
    assert!(fail(&mut health, 5, now));
    for seconds in [1, 2, 4, 8, 8] {
        assert_eq!(health.standing(now + Duration::from_millis(seconds * 1000 - 1)), Standing::Ejected);
        now += Duration::from_secs(seconds);
        assert_eq!(health.standing(now), Standing::Probe);
        health.begin(now);
        assert_eq!(health.standing(now), Standing::Ejected, "while one probe is under way");
        health.abandon();
        assert_eq!(health.standing(now), Standing::Probe, "the client of the probe went away");
        health.begin(now);
        assert!(health.report(&POLICY, Result::Failure, now, || false));
    }
    now += Duration::from_secs(8);
    health.begin(now);
    assert!(!health.report(&POLICY, Result::Success, now, || true));
    assert_eq!(health.standing(now), Standing::Healthy);
    // It has to fail as often as any other to go again.
    assert!(!fail(&mut health, 4, now));
}

#[test]
fn what_was_under_way_at_the_ejection_changes_nothing() {
    let now = Instant::now();
    let mut health = Health::default();
    assert!(fail(&mut health, 5, now));
    assert!(!health.report(&POLICY, Result::Success, now, || true));
    assert!(!fail(&mut health, 50, now));
    assert_eq!(health.standing(now + Duration::from_secs(1)), Standing::Probe);
}

#[test]
fn one_that_is_asked_while_ejected_is_still_probed_later() {
    let now = Instant::now();
    let mut health = Health::default();
    assert!(fail(&mut health, 5, now));
    health.begin(now);
    health.report(&POLICY, Result::Failure, now, || true);
    assert_eq!(health.standing(now + Duration::from_secs(1)), Standing::Probe);
}

#[test]
fn good_windows_are_forgiven_one_step_each() {
    let now = Instant::now();
    let mut health = Health::default();
    assert!(fail(&mut health, 5, now));
    let later = now + Duration::from_secs(1);
    health.begin(later);
    health.report(&POLICY, Result::Success, later, || true);
    let much_later = later + Duration::from_secs(30);
    health.report(&POLICY, Result::Success, much_later, || true);
    assert!(fail(&mut health, 5, much_later));
    assert_eq!(health.standing(much_later + Duration::from_secs(1)), Standing::Probe, "the first step again");
}

#[test]
fn it_stays_when_the_caller_says_so() {
    let now = Instant::now();
    let mut health = Health::default();
    for _ in 0..50 {
        assert!(!health.report(&POLICY, Result::Failure, now, || false));
    }
    assert_eq!(health.standing(now), Standing::Healthy);
}

#[test]
fn never_all_of_them_and_of_several_always_one() {
    for total in 0..200 {
        for percent in [0, 1, 10, 50, 99, 100, 250] {
            let most = ejected_max(total, percent);
            assert!(most < total || total == 0, "{total} {percent} {most}");
            assert!(total < 2 || most >= 1);
        }
    }
    assert_eq!(ejected_max(10, 50), 5);
}

/// Whatever happens in whatever order: an ejected endpoint gets nothing before its time, and comes back to one that answers.
#[test]
fn no_history_keeps_an_endpoint_out_for_ever() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let mut now = Instant::now();
        let mut health = Health::default();
        for _ in 0..200 {
            now += Duration::from_millis(dice.below(700));
            let result = match dice.below(3) {
                0 => Result::Success,
                1 => Result::Failure,
                _ => Result::Unreachable,
            };
            match health.standing(now) {
                Standing::Ejected => assert!(health.is_ejected(), "seed {seed}"),
                Standing::Healthy => assert!(!health.is_ejected(), "seed {seed}"),
                Standing::Probe => {}
            }
            if health.standing(now) != Standing::Ejected {
                health.begin(now);
                if dice.below(5) == 0 {
                    health.abandon();
                } else {
                    health.report(&POLICY, result, now, || true);
                }
            }
        }
        now += POLICY.ejection_max;
        assert_ne!(health.standing(now), Standing::Ejected, "seed {seed}");
        health.begin(now);
        health.report(&POLICY, Result::Success, now, || true);
        assert_eq!(health.standing(now), Standing::Healthy, "seed {seed}");
    }
}
