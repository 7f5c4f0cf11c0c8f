//! Which snapshots a retention policy keeps, and why (format document §6.4). Pure.
//!
//! The surprises: the ISO week and the cutoffs follow the client's zone while the other periods are
//! UTC; and all kinds share one set of period names, so week `2024-09` hides month `2024-09`.
//! Source: Kopia `snapshot/policy/retention_policy.go`.

use crate::policy::RetentionPolicy;
use crate::time::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;
use std::collections::HashSet;

/// Incomplete snapshots are kept while they are younger than this against the newest.
const INCOMPLETE_AGE_NANOSECONDS: i128 = 4 * 3600 * 1_000_000_000;
/// So many of the newest incomplete snapshots are kept whatever their age.
const INCOMPLETE_COUNT: usize = 3;

/// What retention needs to know of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetainedSnapshot {
    /// Start of the snapshot.
    pub start_time: Timestamp,
    /// End of the snapshot; orders those with the same start.
    pub end_time: Timestamp,
    /// Whether it has no incomplete reason.
    pub is_complete: bool,
    /// Whether it has a pin.
    pub is_pinned: bool,
}

/// Positions in `snapshots` (all of one source) of those that the policy lets go: no reason to keep them, no pin.
pub fn expired(policy: &RetentionPolicy, snapshots: &[RetainedSnapshot], zone: &TimeZone) -> Vec<usize> {
    let reasons = retention_reasons(policy, snapshots, zone);
    (0..snapshots.len())
        .filter(|&position| reasons[position].is_empty() && !snapshots[position].is_pinned)
        .collect()
}

/// For each of `snapshots` (all of one source, any order) why it is kept: `daily-3`, `incomplete`; none if nothing keeps it.
///
/// `zone` is the client's, for weeks and cutoffs.
pub fn retention_reasons(
    policy: &RetentionPolicy,
    snapshots: &[RetainedSnapshot],
    zone: &TimeZone,
) -> Vec<Vec<String>> {
    let mut reasons = vec![Vec::new(); snapshots.len()];
    let mut order: Vec<usize> = (0..snapshots.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse((snapshots[at].start_time, snapshots[at].end_time)));
    let Some(&newest) = order.first() else { return reasons };
    if let Some(&complete) = order.iter().find(|&&at| snapshots[at].is_complete) {
        let mut periods = Periods::new(policy, snapshots[complete].start_time, zone);
        for (rank, &at) in order.iter().enumerate().filter(|&(_, &at)| snapshots[at].is_complete) {
            reasons[at] = periods.reasons(rank, snapshots[at].start_time);
        }
    }
    for (rank, &at) in order.iter().enumerate().take_while(|&(_, &at)| !snapshots[at].is_complete) {
        let age = snapshots[newest].start_time.nanoseconds_since(snapshots[at].start_time);
        if age >= INCOMPLETE_AGE_NANOSECONDS && rank >= INCOMPLETE_COUNT {
            break;
        }
        reasons[at].push("incomplete".to_owned());
    }
    reasons
}

/// A kind of period: its name, how many are kept and were given, and from when on.
struct Kind {
    name: &'static str,
    keep: Option<i64>,
    given: i64,
    cutoff: Option<Timestamp>,
}

/// Hands out reasons, newest snapshot first.
struct Periods<'a> {
    /// In the order in which they are asked; it matters as they share `seen`.
    kinds: [Kind; 6],
    seen: HashSet<String>,
    zone: &'a TimeZone,
}

/// The kinds in the order in which reasons are shown.
const SHOWN: [&str; 6] = ["latest", "hourly", "daily", "weekly", "monthly", "annual"];

impl<'a> Periods<'a> {
    fn new(policy: &RetentionPolicy, newest: Timestamp, zone: &'a TimeZone) -> Self {
        let kind = |name, keep: Option<i64>, cutoff: &dyn Fn(i64) -> Timestamp| Kind {
            name,
            keep,
            given: 0,
            cutoff: keep.map(cutoff),
        };
        let before =
            |years, months, days| move |n: i64| calendar_before(newest, zone, n, (years, months, days));
        let kinds = [
            Kind { name: "latest", keep: effective_keep_latest(policy), given: 0, cutoff: None },
            kind("annual", policy.keep_annual, &before(1, 0, 0)),
            kind("monthly", policy.keep_monthly, &before(0, 1, 0)),
            kind("weekly", policy.keep_weekly, &before(0, 0, 7)),
            kind("daily", policy.keep_daily, &before(0, 0, 1)),
            kind("hourly", policy.keep_hourly, &|n| hours_before(newest, n)),
        ];
        Self { kinds, seen: HashSet::new(), zone }
    }
    /// The reasons for the complete snapshot at `rank` from the newest.
    fn reasons(&mut self, rank: usize, start: Timestamp) -> Vec<String> {
        let names = period_names(rank, start, self.zone);
        let mut reasons = Vec::new();
        for (kind, period) in self.kinds.iter_mut().zip(names) {
            let Some(keep) = kind.keep else { continue };
            if kind.cutoff.is_some_and(|cutoff| start < cutoff)
                || kind.given >= keep
                || self.seen.contains(&period)
            {
                continue;
            }
            self.seen.insert(period);
            kind.given += 1;
            reasons.push((kind.name, kind.given));
        }
        reasons.sort_by_key(|(name, _)| SHOWN.iter().position(|shown| shown == name));
        reasons.into_iter().map(|(name, number)| format!("{name}-{number}")).collect()
    }
}

/// `keep_latest`, or no limit if nothing at all would be kept.
fn effective_keep_latest(policy: &RetentionPolicy) -> Option<i64> {
    let all = [
        policy.keep_latest,
        policy.keep_hourly,
        policy.keep_daily,
        policy.keep_weekly,
        policy.keep_monthly,
        policy.keep_annual,
    ];
    let sum: i128 = all.iter().map(|keep| i128::from(keep.unwrap_or(0))).sum();
    if sum == 0 { Some(i64::MAX) } else { policy.keep_latest }
}

/// Names of the periods that a snapshot is in, in the order of [`Periods::kinds`].
fn period_names(rank: usize, start: Timestamp, zone: &TimeZone) -> [String; 6] {
    let utc = start.to_rfc3339();
    let week = local(start, zone).date().iso_week_date();
    [
        rank.to_string(),
        utc[..4].to_owned(),
        utc[..7].to_owned(),
        format!("{:04}-{:02}", week.year(), week.week()),
        utc[..10].to_owned(),
        utc[..13].replace('T', " "),
    ]
}

/// The moment as jiff has it; beyond its years (-9999 to 9999) the nearest it has.
fn moment(time: Timestamp) -> jiff::Timestamp {
    let nearest = if time.seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::new(time.seconds, time.nanoseconds.min(999_999_999) as i32).unwrap_or(nearest)
}

fn local(time: Timestamp, zone: &TimeZone) -> civil::DateTime {
    zone.to_datetime(moment(time))
}

/// `n` hours earlier, in Go's 64-bit nanoseconds, which wrap for some 300 years of hours.
fn hours_before(time: Timestamp, n: i64) -> Timestamp {
    time.plus_nanoseconds(n.wrapping_neg().wrapping_mul(3_600_000_000_000).into())
}

/// `n` times a step of years, months and days earlier by the local calendar, the time of day kept.
///
/// As Go's `AddDate`: a day that the month does not have runs over into the next month.
fn calendar_before(time: Timestamp, zone: &TimeZone, n: i64, step: (i64, i64, i64)) -> Timestamp {
    let at = local(time, zone);
    let (n, day) = (i128::from(n), i128::from(at.day()));
    let months = i128::from(at.year()) * 12 + i128::from(at.month()) - 1;
    let months = months - n * i128::from(step.0 * 12 + step.1);
    let first = days_to_month(months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
    let days = first + day - 1 - n * i128::from(step.2);
    let of_day = i128::from(at.time().duration_since(civil::Time::midnight()).as_secs());
    let wall_seconds =
        i64::try_from(days * 86_400 + of_day).unwrap_or(if n > 0 { i64::MIN } else { i64::MAX });
    Timestamp { seconds: in_zone(wall_seconds, zone), nanoseconds: time.nanoseconds }
}

/// Seconds since the epoch of a local wall clock that shows `wall_seconds`, resolving gaps and overlaps as Go does.
fn in_zone(wall_seconds: i64, zone: &TimeZone) -> i64 {
    let offset = |seconds| i64::from(zone.to_offset(moment(Timestamp::from_unix_seconds(seconds))).seconds());
    let guess = wall_seconds.saturating_sub(offset(wall_seconds));
    wall_seconds.saturating_sub(offset(guess))
}

/// Days from 1970-01-01 to the first of a month of any year.
fn days_to_month(year: i128, month: u32) -> i128 {
    // 400 years are 146097 days; inside them jiff knows the calendar.
    let (cycles, year) = (year.div_euclid(400), year.rem_euclid(400) as i16);
    let date = civil::date(year, month as i8, 1);
    let epoch = civil::date(1970, 1, 1);
    cycles * 146_097 + i128::from(date.duration_since(epoch).as_hours() / 24)
}

#[cfg(test)]
mod tests;
