//! Times as RFC 3339 has them, in UTC with milliseconds: `2026-02-28T23:59:59.999Z`.
//!
//! What comes in: milliseconds since the epoch. What goes out: 24 bytes. The date is worked out once per second;
//! lines within it only change the last digits.

/// The bytes of a time.
const TIME_BYTES: usize = 24;
/// LIMIT: the last second of the year 9999, for which four digits are enough.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Formats times; remembers the last second.
#[derive(Debug)]
pub(crate) struct Clock {
    second: u64,
    text: [u8; TIME_BYTES],
}

impl Clock {
    pub(crate) fn new() -> Self {
        let mut clock = Clock { second: 0, text: *b"0000-00-00T00:00:00.000Z" };
        clock.set_second(0);
        clock
    }

    /// The time of `unix_ms`, milliseconds since the epoch.
    pub(crate) fn format(&mut self, unix_ms: u64) -> &[u8; TIME_BYTES] {
        let second = (unix_ms / 1000).min(SECONDS_MAX);
        if second != self.second {
            self.set_second(second);
        }
        digits(&mut self.text[20..23], unix_ms % 1000);
        &self.text
    }

    fn set_second(&mut self, second: u64) {
        self.second = second;
        let (year, month, day) = date(second / 86_400);
        let of_day = second % 86_400;
        for (range, value) in [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, of_day / 3600),
            (14..16, of_day / 60 % 60),
            (17..19, of_day % 60),
        ] {
            digits(&mut self.text[range], value);
        }
    }
}

fn digits(text: &mut [u8], mut value: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day since the epoch. Counts from the 1st of March of the year 0, so that the leap day is
/// the last of its year and the lengths of months repeat in fives.
fn date(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_TO_EPOCH: u64 = 719_468;
    const DAYS_PER_400_YEARS: u64 = 146_097;
    let days = days_since_epoch + DAYS_TO_EPOCH;
    let (era, day_of_era) = (days / DAYS_PER_400_YEARS, days % DAYS_PER_400_YEARS);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let mut clock = Clock::new();
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_709_251_199_500, "2024-02-29T23:59:59.500Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.615Z"),
        ] {
            assert_eq!(std::str::from_utf8(clock.format(unix_ms)), Ok(expected));
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = date(0);
        for day in 1..200_000 {
            let (y, m, d) = date(day);
            let next_day = (y, m, d) == (before.0, before.1, before.2 + 1);
            let next_month = d == 1 && (y, m) == (before.0, before.1 + 1) && before.2 >= 28;
            let next_year = (m, d) == (1, 1) && y == before.0 + 1 && (before.1, before.2) == (12, 31);
            assert!(next_day || next_month || next_year, "{before:?} then {:?}", (y, m, d));
            before = (y, m, d);
        }
    }
}
