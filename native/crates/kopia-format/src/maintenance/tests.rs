use super::*;
use proptest::prelude::*;
use std::time::Duration;

const HOUR: i64 = 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: 0 }
}

fn gc_run(start_hours: i64, end_hours: i64, success: bool) -> MaintenanceRun {
    MaintenanceRun { start: at(start_hours * HOUR), end: at(end_hours * HOUR), success, ..Default::default() }
}

fn schedule() -> MaintenanceSchedule {
    let mut schedule = MaintenanceSchedule { next_full: at(86_400), ..Default::default() };
    schedule.report_run(MaintenanceTask::SnapshotGc, gc_run(0, 1, true));
    let extra =
        vec![RunStatistics { kind: "advanceEpochStats".into(), data: r#"{"currentEpoch":0}"#.into() }];
    let failed = MaintenanceRun { error: "x < y".into(), extra, ..gc_run(1, 2, false) };
    schedule.report_run(MaintenanceTask::AdvanceEpoch, failed);
    schedule
}

#[test]
fn the_schedule_is_written_as_kopia_writes_it() {
    let text = concat!(
        r#"{"nextFullMaintenance":"1970-01-02T00:00:00Z","nextQuickMaintenance":"0001-01-01T00:00:00Z","runs":{"#,
        r#""advance-epoch":[{"start":"1970-01-01T01:00:00Z","end":"1970-01-01T02:00:00Z","error":"x \u003c y","#,
        r#""extra":[{"kind":"advanceEpochStats","data":{"currentEpoch":0}}]}],"#,
        r#""snapshot-gc":[{"start":"1970-01-01T00:00:00Z","end":"1970-01-01T01:00:00Z","success":true}]}}"#,
    );
    assert_eq!(String::from_utf8(schedule().encode().unwrap()).unwrap(), text);
    assert_eq!(MaintenanceSchedule::decode(text.as_bytes()).unwrap(), schedule());
}

#[test]
fn an_empty_schedule_reads_as_never() {
    for text in ["{}", r#"{"runs":null}"#] {
        assert_eq!(MaintenanceSchedule::decode(text.as_bytes()).unwrap(), MaintenanceSchedule::default());
    }
}

#[test]
fn a_sealed_schedule_opens_only_with_its_key() {
    let sealed = schedule().seal(&[1; 32], [2; 12]).unwrap();
    assert_eq!(MaintenanceSchedule::open(&[1; 32], &sealed).unwrap(), schedule());
    let error = MaintenanceSchedule::open(&[3; 32], &sealed).unwrap_err();
    assert_eq!(error.kind, FormatErrorKind::Corrupted);
}

#[test]
fn statistics_that_are_no_json_are_refused() {
    let mut schedule = schedule();
    let extra = vec![RunStatistics { kind: "k".into(), data: "{".into() }];
    schedule.report_run(MaintenanceTask::CleanupLogs, MaintenanceRun { extra, ..Default::default() });
    assert_eq!(schedule.encode().unwrap_err().kind, FormatErrorKind::Malformed);
}

#[test]
fn only_the_newest_fifty_runs_are_kept() {
    let mut schedule = MaintenanceSchedule::default();
    for hour in 0..60 {
        schedule.report_run(MaintenanceTask::SnapshotGc, gc_run(hour, hour, true));
    }
    let runs = schedule.runs_of(MaintenanceTask::SnapshotGc);
    assert_eq!(runs.len(), RUNS_PER_TASK_MAX);
    assert_eq!((runs[0].start, runs[49].start), (at(59 * HOUR), at(10 * HOUR)));
}

#[test]
fn default_parameters_are_written_as_kopia_writes_them() {
    let text = concat!(
        r#"{"owner":"user@host","quick":{"enabled":true,"interval":3600000000000},"#,
        r#""full":{"enabled":true,"interval":86400000000000},"#,
        r#""logRetention":{"maxTotalSize":1073741824,"maxCount":10000,"maxAge":2592000000000000},"#,
        r#""extendObjectLocks":false,"listParallelism":0}"#,
    );
    let parameters = MaintenanceParameters { owner: "user@host".into(), ..Default::default() };
    assert_eq!(String::from_utf8(parameters.encode().unwrap()).unwrap(), text);
    assert_eq!(MaintenanceParameters::decode(text.as_bytes()).unwrap(), parameters);
}

#[test]
fn absent_parameters_are_zero_and_not_the_defaults() {
    let parameters = MaintenanceParameters::decode(b"{}").unwrap();
    assert!(!parameters.full.enabled && parameters.log_retention.max_count == 0);
}

#[test]
fn dropping_waits_for_a_second_collection_after_the_margin() {
    let before = |runs: &[MaintenanceRun]| drop_deleted_before(runs, &SafetyParameters::FULL, at(0));
    assert_eq!(before(&[]), None);
    assert_eq!(before(&[gc_run(10, 11, true)]), None);
    // Exactly the margin is not enough.
    assert_eq!(before(&[gc_run(15, 16, true), gc_run(10, 11, true)]), None);
    assert_eq!(before(&[gc_run(16, 17, true), gc_run(10, 11, true)]), Some(at(9 * HOUR)));
    // The latest run that is confirmed counts, and failed ones never.
    let runs = [gc_run(12, 13, true), gc_run(10, 11, true), gc_run(18, 19, true), gc_run(13, 13, false)];
    assert_eq!(before(&runs), Some(at(11 * HOUR)));
    assert_eq!(before(&[gc_run(18, 19, false), gc_run(10, 11, true)]), None);
}

#[test]
fn without_safety_everything_deleted_until_now_is_dropped() {
    assert_eq!(drop_deleted_before(&[], &SafetyParameters::NONE, at(77)), Some(at(77)));
}

proptest! {
    #[test]
    fn any_history_gives_a_time_or_none(runs in prop::collection::vec((any::<i64>(), any::<i64>(), any::<bool>()), 0..8), margin: u64) {
        let runs: Vec<_> = runs
            .into_iter()
            .map(|(start, end, success)| MaintenanceRun { start: at(start), end: at(end), success, ..Default::default() })
            .collect();
        let safety = SafetyParameters { margin_between_snapshot_gc: Duration::from_secs(margin), ..SafetyParameters::FULL };
        let _ = drop_deleted_before(&runs, &safety, at(0));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
        prop_assert!(MaintenanceSchedule::open(&[0; 32], &bytes).is_err());
        let _ = MaintenanceSchedule::decode(&bytes);
        let _ = MaintenanceParameters::decode(&bytes);
    }
}
