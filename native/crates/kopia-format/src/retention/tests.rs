use super::*;
use proptest::prelude::*;
use serde::Deserialize;

const POLICY_VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors/policy");

#[derive(Deserialize)]
struct Case {
    timezone: String,
    policy: serde_json::Value,
    snapshots: Vec<Snapshot>,
}

#[derive(Deserialize)]
struct Snapshot {
    start: String,
    end: Option<String>,
    #[serde(default)]
    incomplete: String,
    reasons: Vec<String>,
}

fn check(vectors: &str, cases: usize) {
    let json = std::fs::read_to_string(format!("{POLICY_VECTORS}/{vectors}")).expect("fixture");
    let all: Vec<Case> = serde_json::from_str(&json).expect("fixture");
    assert_eq!(all.len(), cases);
    for (number, case) in all.iter().enumerate() {
        let policy = format!(r#"{{"retention":{}}}"#, case.policy);
        let policy = crate::policy::Policy::decode(policy.as_bytes()).expect("a policy").retention;
        let zone = TimeZone::get(&case.timezone).expect("a zone of this machine");
        let snapshots: Vec<_> = case.snapshots.iter().map(retained).collect();
        let found = retention_reasons(&policy, &snapshots, &zone);
        for (snapshot, reasons) in case.snapshots.iter().zip(&found) {
            assert_eq!(
                reasons, &snapshot.reasons,
                "case {number} {} {policy:?} {}",
                case.timezone, snapshot.start
            );
        }
    }
}

fn retained(snapshot: &Snapshot) -> RetainedSnapshot {
    let time = |text: &str| Timestamp::parse(text).expect("a time");
    let start_time = time(&snapshot.start);
    let end_time = snapshot.end.as_deref().map_or(start_time, time);
    RetainedSnapshot { start_time, end_time, is_complete: snapshot.incomplete.is_empty(), is_pinned: false }
}

#[test]
fn reasons_are_kopias() {
    check("retention.json", 5);
}

#[test]
fn reasons_are_kopias_in_other_zones_and_for_random_policies() {
    check("retention-zones.json", 60);
}

fn at(text: &str) -> RetainedSnapshot {
    let time = Timestamp::parse(text).expect("a time");
    RetainedSnapshot { start_time: time, end_time: time, is_complete: true, is_pinned: false }
}

#[test]
fn weeks_are_those_of_the_clients_zone() {
    let policy = RetentionPolicy { keep_weekly: Some(2), ..Default::default() };
    // 2024-03-03 is a Sunday; at 20:00 UTC it is Monday in Tokyo.
    let snapshots = [at("2024-03-03T20:00:00Z"), at("2024-03-03T10:00:00Z")];
    let reasons = |zone: &str| retention_reasons(&policy, &snapshots, &TimeZone::get(zone).expect("a zone"));
    assert_eq!(reasons("UTC"), [vec!["weekly-1".to_owned()], vec![]]);
    assert_eq!(reasons("Asia/Tokyo"), [["weekly-1"], ["weekly-2"]]);
}

#[test]
fn pins_keep_what_no_period_keeps() {
    let policy = RetentionPolicy { keep_latest: Some(1), ..Default::default() };
    let mut snapshots = [at("2024-03-01T00:00:00Z"), at("2024-03-02T00:00:00Z"), at("2024-03-03T00:00:00Z")];
    snapshots[0].is_pinned = true;
    assert_eq!(expired(&policy, &snapshots, &TimeZone::UTC), [1]);
    assert_eq!(expired(&RetentionPolicy::default(), &snapshots, &TimeZone::UTC), [0; 0]);
}

#[test]
fn a_month_shares_its_name_with_a_week() {
    let policy = RetentionPolicy { keep_weekly: Some(5), keep_monthly: Some(5), ..Default::default() };
    // ISO week 2024-09 is the last of February; the newest snapshot names month 2024-09.
    let snapshots = [at("2024-09-15T00:00:00Z"), at("2024-09-14T00:00:00Z")];
    let reasons = retention_reasons(&policy, &snapshots, &TimeZone::UTC);
    assert_eq!(reasons[0], ["weekly-1", "monthly-1"]);
    let policy = RetentionPolicy { keep_weekly: Some(50), keep_monthly: Some(12), ..Default::default() };
    let snapshots = [at("2024-09-15T00:00:00Z"), at("2024-02-28T00:00:00Z")];
    let reasons = retention_reasons(&policy, &snapshots, &TimeZone::UTC);
    assert_eq!(reasons[1], ["monthly-2"], "week 2024-09 is taken by the month");
}

proptest! {
    #[test]
    fn any_policy_is_applied(keeps: [Option<i64>; 6], starts: Vec<(i64, bool, bool)>, fixed in -86_000i32..86_000) {
        let [keep_latest, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_annual] = keeps;
        let policy = RetentionPolicy {
            keep_latest, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_annual, ..Default::default()
        };
        let snapshots: Vec<_> = starts.into_iter().map(|(start, is_complete, is_pinned)| {
            let time = Timestamp::from_unix_nanoseconds(start.into());
            RetainedSnapshot { start_time: time, end_time: time, is_complete, is_pinned }
        }).collect();
        let zone = TimeZone::fixed(jiff::tz::Offset::from_seconds(fixed).expect("in range"));
        let expired = expired(&policy, &snapshots, &zone);
        prop_assert!(expired.iter().all(|&at| !snapshots[at].is_pinned));
    }
}
