//! A point in time as Kopia stores it: RFC 3339 text with up to nine fractional digits.
//!
//! Two of Go's types meet here: `time.Time` (any year 0..=9999) and Kopia's `UTCTimestamp`
//! (nanoseconds in 64 bits, which *wrap* outside 1677..2262: Go's zero time becomes a moment
//! in 1754). Own calendar arithmetic, since a directory of a million entries has a million times.

use crate::error::{FormatError, Result};

const NANOSECONDS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// Seconds of 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what RFC 3339 can say.
const SECONDS_WRITABLE: (i64, i64) = (-62_167_219_200, 253_402_300_799);

/// A point in time: seconds since 1970-01-01T00:00:00Z and nanoseconds, 0..1e9.
///
/// Wider than a nanosecond count in 64 bits: Go's zero time (year 1) must be representable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since the epoch; may be negative.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Go's zero time, 0001-01-01T00:00:00Z.
    pub const GO_ZERO: Self = Self { seconds: -62_135_596_800, nanoseconds: 0 };

    /// Parses RFC 3339 with any numeric offset; digits beyond nanoseconds are dropped, as Go does.
    ///
    /// # Errors
    /// Anything else is malformed, a day that the month does not have included.
    pub fn parse(text: &str) -> Result<Self> {
        parse_bytes(text.as_bytes())
            .ok_or_else(|| FormatError::malformed("time", format!("not RFC 3339: {:.64?}", text)))
    }
    /// Appends `2006-01-02T15:04:05.999999999Z` (UTC; trailing zeros and a bare dot removed).
    ///
    /// Moments outside the years 0..=9999, which RFC 3339 cannot say, are written as the nearest it can.
    pub fn write_rfc3339(&self, out: &mut Vec<u8>) {
        let seconds = self.seconds.clamp(SECONDS_WRITABLE.0, SECONDS_WRITABLE.1);
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let of_day = seconds.rem_euclid(SECONDS_PER_DAY) as u32;
        let mut text = *b"0000-00-00T00:00:00";
        write_pair(&mut text[0..2], year / 100);
        write_pair(&mut text[2..4], year % 100);
        write_pair(&mut text[5..7], month);
        write_pair(&mut text[8..10], day);
        write_pair(&mut text[11..13], of_day / 3600);
        write_pair(&mut text[14..16], of_day / 60 % 60);
        write_pair(&mut text[17..19], of_day % 60);
        out.extend_from_slice(&text);
        write_fraction(self.nanoseconds, out);
        out.push(b'Z');
    }
    /// [`Self::write_rfc3339`] as a string.
    pub fn to_rfc3339(&self) -> String {
        let mut text = Vec::with_capacity(30);
        self.write_rfc3339(&mut text);
        text.into_iter().map(char::from).collect()
    }
    /// Nanoseconds since the epoch.
    pub fn unix_nanoseconds(&self) -> i128 {
        i128::from(self.seconds) * NANOSECONDS_PER_SECOND + i128::from(self.nanoseconds)
    }
    /// The moment `nanoseconds` after the epoch; beyond the range of `seconds` the nearest moment in it.
    pub fn from_unix_nanoseconds(nanoseconds: i128) -> Self {
        let seconds = nanoseconds.div_euclid(NANOSECONDS_PER_SECOND);
        match i64::try_from(seconds) {
            Ok(seconds) => {
                Self { seconds, nanoseconds: nanoseconds.rem_euclid(NANOSECONDS_PER_SECOND) as u32 }
            }
            Err(_) if seconds < 0 => Self { seconds: i64::MIN, nanoseconds: 0 },
            Err(_) => Self { seconds: i64::MAX, nanoseconds: 999_999_999 },
        }
    }
    /// The moment `seconds` after the epoch.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }
    /// The moment as Kopia's `UTCTimestamp` keeps it: nanoseconds that wrap at 64 bits, as Go's `UnixNano`.
    ///
    /// Every time in a directory or snapshot manifest went through this; compare source times
    /// after it too, or files dated outside 1677..2262 never match what is stored.
    pub fn utc_timestamp(&self) -> i64 {
        self.unix_nanoseconds() as i64
    }
    /// The moment that Kopia reads back after storing `self` in a `UTCTimestamp`.
    #[must_use]
    pub fn wrapped(self) -> Self {
        match self.seconds {
            // Safely inside 1678..2262, which is nearly every time there is.
            -9_000_000_000..=9_000_000_000 => self,
            _ => Self::from_unix_nanoseconds(self.utc_timestamp().into()),
        }
    }
    /// The moment `nanoseconds` later (earlier, if negative).
    #[must_use]
    pub fn plus_nanoseconds(self, nanoseconds: i128) -> Self {
        Self::from_unix_nanoseconds(self.unix_nanoseconds().saturating_add(nanoseconds))
    }
    /// Nanoseconds from `earlier` to `self`; negative if it is later.
    pub fn nanoseconds_since(self, earlier: Self) -> i128 {
        self.unix_nanoseconds() - earlier.unix_nanoseconds()
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Writes two decimal digits.
fn write_pair(out: &mut [u8], value: u32) {
    out[0] = b'0' + (value / 10 % 10) as u8;
    out[1] = b'0' + (value % 10) as u8;
}

/// Appends `.` and the digits of `nanoseconds` without trailing zeros; nothing for 0.
fn write_fraction(nanoseconds: u32, out: &mut Vec<u8>) {
    if nanoseconds == 0 {
        return;
    }
    let mut text = *b".000000000";
    let mut rest = nanoseconds;
    for digit in text[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let length = text.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    out.extend_from_slice(&text[..length]);
}

/// Parses RFC 3339 as strictly as Go's JSON decoder.
pub(crate) fn parse_bytes(text: &[u8]) -> Option<Timestamp> {
    let (clock, rest) = text.split_at_checked(19)?;
    let separators = [clock[4], clock[7], clock[10], clock[13], clock[16]];
    if separators != *b"--T::" {
        return None;
    }
    let year = pair(&clock[0..2])? * 100 + pair(&clock[2..4])?;
    let (month, day) = (pair(&clock[5..7])?, pair(&clock[8..10])?);
    let (hour, minute, second) = (pair(&clock[11..13])?, pair(&clock[14..16])?, pair(&clock[17..19])?);
    let valid = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    if !valid || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanoseconds, zone) = parse_fraction(rest)?;
    let of_day = i64::from(hour * 3600 + minute * 60 + second);
    let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + of_day - parse_offset_seconds(zone)?;
    Some(Timestamp { seconds, nanoseconds })
}

/// The number that two decimal digits say.
fn pair(digits: &[u8]) -> Option<u32> {
    let (tens, ones) = (digits[0].wrapping_sub(b'0'), digits[1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

/// Nanoseconds of an optional `.digits`, and what follows it.
fn parse_fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some((b'.', digits)) = text.split_first() else { return Some((0, text)) };
    let length = digits.iter().position(|digit| !digit.is_ascii_digit()).unwrap_or(digits.len());
    if length == 0 {
        return None;
    }
    let kept = &digits[..length.min(9)];
    let value = kept.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some((value * 10u32.pow(9 - kept.len() as u32), &digits[length..]))
}

/// Seconds east of UTC of `Z` or `±hh:mm`.
fn parse_offset_seconds(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" => Some(0),
        &[sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (pair(&[h1, h2])?, pair(&[m1, m2])?);
            let seconds = i64::from(hours * 3600 + minutes * 60);
            (hours < 24 && minutes < 60).then_some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year
/// (method: Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: u32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = i64::from((153 * ((month + 9) % 12) + 2) / 5 + day - 1);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year (0..=9999 for the days that the writer passes), month and day of a count of days since 1970-01-01.
fn civil_from_days(days: i64) -> (u32, u32, u32) {
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = days.div_euclid(146_097) * 400 + year_of_era + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Timestamp {
        Timestamp::parse(text).expect(text)
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2026-11-21T01:38:25.58832239Z",
            "2024-02-29T23:59:59.1Z",
            "1754-08-30T22:43:41.128654848Z",
            "0001-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "1969-12-31T23:59:59.000000001Z",
        ] {
            assert_eq!(parsed(text).to_rfc3339(), text);
        }
    }

    #[test]
    fn offsets_and_long_fractions_are_read() {
        assert_eq!(parsed("2026-11-21T02:38:25+01:00"), parsed("2026-11-21T01:38:25Z"));
        assert_eq!(parsed("2026-11-20T23:08:25.5-02:30"), parsed("2026-11-21T01:38:25.5Z"));
        assert_eq!(parsed("2026-11-21T01:38:25.1234567899Z"), parsed("2026-11-21T01:38:25.123456789Z"));
    }

    #[test]
    fn what_is_not_rfc3339_is_refused() {
        for text in [
            "",
            "2026",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00,5Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00z",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00Zx",
            "+026-01-01T00:00:00Z",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_zero_time_wraps_to_1754_as_in_kopia() {
        assert_eq!(Timestamp::GO_ZERO.wrapped().to_rfc3339(), "1754-08-30T22:43:41.128654848Z");
        let ordinary = parsed("2024-01-02T03:04:05.123456789Z");
        assert_eq!(ordinary.wrapped(), ordinary);
    }

    proptest! {
        #[test]
        fn every_writable_time_survives(seconds in SECONDS_WRITABLE.0..=SECONDS_WRITABLE.1, nanoseconds in 0u32..1_000_000_000) {
            let time = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(parsed(&time.to_rfc3339()), time);
            prop_assert_eq!(Timestamp::from_unix_nanoseconds(time.unix_nanoseconds()), time);
        }
        #[test]
        fn dates_agree_with_jiff(days in -719_000i64..2_932_000) {
            let expected = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).expect("in range");
            let text = Timestamp::from_unix_seconds(days * SECONDS_PER_DAY).to_rfc3339();
            prop_assert_eq!(&text[..10], expected.to_string());
        }
        #[test]
        fn any_moment_is_written_and_any_text_is_judged(seconds: i64, nanoseconds: u32, text: String) {
            let moment = Timestamp { seconds, nanoseconds };
            prop_assert!(moment.to_rfc3339().len() >= 20);
            let _ = moment.wrapped().plus_nanoseconds(i128::from(seconds));
            let _ = Timestamp::parse(&text);
        }
        #[test]
        fn wrapping_is_what_64_bits_do(seconds in SECONDS_WRITABLE.0..=SECONDS_WRITABLE.1, nanoseconds in 0u32..1_000_000_000) {
            let time = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(time.wrapped().unix_nanoseconds(), i128::from(time.utc_timestamp()));
        }
    }
}
