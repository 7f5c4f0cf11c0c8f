//! The rules of format document §4.7 one by one, and the listing of a real repository.

use super::*;
use crate::encryption::{CipherAlgorithm, ContentSealer};
use crate::ids::SessionId;
use crate::index::{IndexReader, Merge};
use crate::index_blob::open_blob;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::Read;

const SECOND: i64 = 1_000_000_000;

fn listed(name: &str, seconds: i64) -> ListedBlob {
    ListedBlob { id: name.into(), length: 100, timestamp: Timestamp { seconds, nanoseconds: 0 } }
}

fn state(names: &[&str]) -> EpochState {
    EpochState::from_listing(&names.iter().map(|name| listed(name, 0)).collect::<Vec<_>>())
}

fn names(blobs: &[ListedBlob]) -> Vec<&str> {
    blobs.iter().map(|blob| blob.id.as_str()).collect()
}

fn active(state: &EpochState) -> Vec<String> {
    state.active_index_blobs().iter().map(|blob| blob.id.to_string()).collect()
}

fn chain(state: &EpochState) -> Vec<(u64, u64)> {
    state.ranges.iter().map(|(first, last, _)| (*first, *last)).collect()
}

fn parameters() -> EpochParameters {
    EpochParameters {
        enabled: true,
        epoch_refresh_frequency: 1200 * SECOND,
        full_checkpoint_frequency: 7,
        cleanup_safety_margin: 4 * 3600 * SECOND,
        min_epoch_duration: 24 * 3600 * SECOND,
        epoch_advance_on_count_threshold: 20,
        epoch_advance_on_total_size_bytes_threshold: 10 << 20,
        delete_parallelism: 4,
    }
}

const REPOSITORY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors/repos/v3-epochs");

/// All blobs of the repository `v3-epochs` with their bytes, times to the second.
fn real_blobs() -> Vec<(ListedBlob, Vec<u8>)> {
    let mut archive = tar::Archive::new(std::fs::File::open(format!("{REPOSITORY}.tar")).expect("tar"));
    let entries = archive.entries().expect("entries").map(|entry| entry.expect("entry"));
    let blobs = entries.filter_map(|mut entry| {
        let path = entry.path().expect("path").to_string_lossy().into_owned();
        let name: String = path.split('/').skip(1).collect();
        let seconds = entry.header().mtime().expect("time") as i64;
        let timestamp = Timestamp { seconds, nanoseconds: 0 };
        let blob = ListedBlob { id: name.strip_suffix(".f")?.into(), length: entry.size(), timestamp };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("reads");
        Some((blob, bytes))
    });
    blobs.collect()
}

fn real_listing() -> Vec<ListedBlob> {
    real_blobs().into_iter().map(|(blob, _)| blob).collect()
}

fn real_expectation() -> serde_json::Value {
    let json = std::fs::read(format!("{REPOSITORY}.expected.json")).expect("vector");
    serde_json::from_slice(&json).expect("JSON")
}

#[test]
fn a_real_repository_has_the_state_that_kopia_sees() {
    let expected = real_expectation();
    let state = EpochState::from_listing(&real_listing());
    assert_eq!(state.write_epoch, expected["writeEpoch"].as_u64().expect("number"));
    assert_eq!(state.deletion_watermark, expected["deletionWatermark"].as_i64().expect("number"));
    assert_eq!(chain(&state), [(0, 2)]);
    let expected = expected["activeIndexBlobs"].as_array().expect("array").iter();
    let expected: BTreeSet<_> = expected.map(|blob| blob["id"].as_str().expect("text").to_owned()).collect();
    assert_eq!(active(&state).into_iter().collect::<BTreeSet<_>>(), expected);
}

fn opened(sealer: &ContentSealer, id: &BlobId, mut sealed: Vec<u8>) -> IndexReader<Vec<u8>> {
    IndexReader::open(open_blob(sealer, id, &mut sealed).expect("opens").to_vec()).expect("index")
}

#[test]
fn active_blobs_of_a_real_repository_hold_its_contents_and_so_do_all_uncompacted_ones() {
    let expected = real_expectation();
    let cipher = CipherAlgorithm::parse("AES256-GCM-HMAC-SHA256").expect("known");
    let master_key = BASE64.decode(expected["config"]["masterKey"].as_str().expect("text")).expect("base64");
    let sealer = ContentSealer::new(cipher, &master_key, None).expect("derives");
    let blobs = real_blobs();
    let state = EpochState::from_listing(&real_listing());
    let active = state.active_index_blobs();
    let entries = |is_used: &dyn Fn(&ListedBlob) -> bool| -> Vec<(String, String, u32)> {
        let used = blobs.iter().filter(|(blob, _)| is_used(blob));
        let readers: Vec<_> = used.map(|(blob, bytes)| opened(&sealer, &blob.id, bytes.clone())).collect();
        let merged = Merge::new(&readers).map(|merged| merged.expect("merges"));
        let visible = merged.filter(|merged| !merged.entry.is_masked(state.deletion_watermark));
        let row = visible.map(|merged| {
            let pack = merged.pack_name().expect("name").to_owned();
            (merged.entry.content.to_string(), pack, merged.entry.pack_offset)
        });
        row.collect()
    };
    let mut from_active = entries(&|blob| active.contains(blob));
    assert_eq!(from_active, entries(&|blob| blob.id.as_str().starts_with("xn")));
    from_active.sort();
    let contents = expected["contents"].as_object().expect("object").iter().map(|(id, json)| {
        let offset = json["off"].as_u64().expect("number") as u32;
        (id.clone(), json["pack"].as_str().expect("text").to_owned(), offset)
    });
    assert_eq!(from_active, contents.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
}

#[test]
fn decisions_on_a_real_repository_follow_its_parameters() {
    let state = EpochState::from_listing(&real_listing());
    let mut parameters = EpochParameters {
        full_checkpoint_frequency: 2,
        cleanup_safety_margin: 600 * SECOND,
        min_epoch_duration: 600 * SECOND,
        epoch_advance_on_count_threshold: 10,
        ..parameters()
    };
    assert_eq!(state.single_compaction_candidate(), Some(5));
    assert_eq!(state.range_checkpoint_candidate(&parameters), Some((3, 5)));
    // Everything is younger than ten minutes: markers before W−1 are all there is to delete.
    assert_eq!(state.deletable_markers(&parameters), [BlobId::new("xe5")]);
    assert!(state.superseded_uncompacted(&parameters).is_empty());
    parameters.cleanup_safety_margin = 0;
    assert_eq!(state.deletable_markers(&parameters).len(), 1 + 6);
}

#[test]
fn write_epoch_is_the_greatest_marker_and_the_watermark_the_latest() {
    assert_eq!(state(&[]).write_epoch, 0);
    let state = state(&["xe3", "xe12", "xe5", "xw100", "xw90", "xwrong", "xe", "xq7"]);
    assert_eq!((state.write_epoch, state.deletion_watermark), (12, 100));
    assert!(state.accepts_watermark(100) && !state.accepts_watermark(99));
    assert_eq!((state.markers.len(), state.watermarks.len()), (3, 2));
}

#[test]
fn epoch_numbers_end_before_the_first_underscore() {
    assert_eq!(epoch_of("xn17_ab12-s1-c1"), Some(17));
    assert_eq!(epoch_of("xe7"), Some(7));
    assert_eq!(epoch_of("xn_17"), None);
    assert_eq!(epoch_of("xn1x_ab"), None);
    assert_eq!(epoch_of("xn99999999999999999999_ab"), None);
    assert_eq!(epoch_range_of("xr3_9_ab"), Some((3, 9)));
    assert_eq!(epoch_range_of("xr3_9"), None);
    assert_eq!(epoch_range_of("xr9_3_ab"), None);
}

#[test]
fn names_that_are_written_are_read_back() {
    assert_eq!(epoch_of(&format!("{}ab", uncompacted_prefix(4))), Some(4));
    assert_eq!(epoch_of(&format!("{}ab", single_prefix(4))), Some(4));
    assert_eq!(epoch_range_of(&format!("{}ab", range_prefix(4, 11))), Some((4, 11)));
    assert_eq!(epoch_of(&epoch_marker_name(4)), Some(4));
    assert_eq!(names::watermark_of(&deletion_watermark_name(1_795_225_667)), Some(1_795_225_667));
    assert_eq!(compaction_suffix([0xab; 8], 2), "sabababababababab-c2");
    assert_eq!(uncompacted_suffix(&SessionId::new("s00147"), 1), "s00147-c1");
}

#[test]
fn incomplete_compactions_are_not_used_but_uncompacted_blobs_always_are() {
    let mut listing = vec!["xe5", "xn1_a-s1-c2", "xs1_a-s2-c2", "xs2_a-s3-c2", "xs2_b-s3-c2", "xn2_a-s4-c1"];
    assert_eq!(active(&state(&listing)), ["xn1_a-s1-c2", "xs2_a-s3-c2", "xs2_b-s3-c2"]);
    listing.push("xs1_b-s2-c2");
    assert_eq!(active(&state(&listing)), ["xs1_a-s2-c2", "xs1_b-s2-c2", "xs2_a-s3-c2", "xs2_b-s3-c2"]);
}

#[test]
fn the_set_that_is_complete_first_in_listing_order_is_used() {
    let set_of_epoch_1 = |names: &[&str]| {
        let state = state(names);
        state.single.get(&1).map(|set| set.iter().map(|blob| blob.id.to_string()).collect::<Vec<_>>())
    };
    let two = ["xs1_a-s1-c2", "xs1_a-s2-c2", "xs1_b-s2-c2", "xs1_b-s1-c2"];
    assert_eq!(set_of_epoch_1(&two), Some(vec!["xs1_a-s2-c2".to_owned(), "xs1_b-s2-c2".to_owned()]));
    let odd = ["xs1_a-s1-c2", "xs1_odd-s1-x2", "xs1_b-s1-c2"];
    assert_eq!(set_of_epoch_1(&odd), Some(vec!["xs1_odd-s1-x2".to_owned()]));
    assert_eq!(set_of_epoch_1(&["xs1_a-s1-c0", "xs1_b-s1-c0"]), None);
}

#[test]
fn the_longest_chain_with_the_fewest_ranges_is_chosen() {
    type Case<'a> = (&'a [&'a str], &'a [(u64, u64)]);
    let cases: [Case<'_>; 8] = [
        (&["xr0_3_a", "xr4_7_a", "xr8_9_a"], &[(0, 3), (4, 7), (8, 9)]),
        (&["xr0_3_a", "xr4_7_a", "xr0_7_a"], &[(0, 7)]),
        (&["xr0_3_a", "xr4_9_a", "xr0_7_a"], &[(0, 3), (4, 9)]),
        (&["xr0_3_a", "xr5_7_a"], &[(0, 3)]),
        (&["xr1_3_a"], &[]),
        (&["xr0_0_a"], &[]),
        (&["xr0_3_a-s1-c2", "xr0_1_a"], &[(0, 1)]),
        (&["xr0_3_a", "xr4_3_a"], &[(0, 3)]),
    ];
    for (listing, expected) in cases {
        assert_eq!(chain(&state(listing)), expected, "{listing:?}");
    }
}

#[test]
fn ranges_replace_their_epochs_but_a_range_of_one_epoch_does_not() {
    let listing = ["xe9", "xr0_3_a", "xs3_a", "xn3_a", "xs4_a", "xn4_a", "xn5_a"];
    assert_eq!(active(&state(&listing)), ["xr0_3_a", "xs4_a", "xn5_a"]);
    let lone = ["xe9", "xr0_0_a", "xn0_a"];
    assert_eq!(active(&state(&lone)), ["xn0_a"]);
    let followed = ["xe9", "xr0_0_a", "xr1_3_a", "xn0_a", "xn1_a"];
    assert_eq!(active(&state(&followed)), ["xn0_a", "xr1_3_a"]);
    let later = ["xe9", "xr0_3_a", "xr4_4_a", "xn4_a"];
    assert_eq!(active(&state(&later)), ["xr0_3_a", "xn4_a"]);
}

#[test]
fn compactions_of_unsettled_epochs_are_not_used() {
    let listing = ["xe5", "xs3_a", "xn3_a", "xs4_a", "xn4_a", "xn5_a", "xn6_a", "xn7_a"];
    assert_eq!(active(&state(&listing)), ["xs3_a", "xn4_a", "xn5_a", "xn6_a"]);
}

#[test]
fn one_absurd_marker_neither_hangs_nor_hides_what_is_listed() {
    let listing = |marker: &'static str| state(&["xe5", "xn3_a", "xs3_b", "xn4_a", "xn5_a", marker]);
    for marker in ["xe9223372036854775807", "xe18446744073709551615", "xe4294967296"] {
        let state = listing(marker);
        assert_eq!(state.write_epoch, 5, "{marker}");
        assert_eq!(active(&state), ["xs3_b", "xn4_a", "xn5_a"], "{marker}");
    }
    // One that may be is walked by what there is, not number by number.
    let state = listing("xe4294967295");
    assert_eq!(state.write_epoch, EPOCH_MAX);
    assert_eq!(active(&state), ["xs3_b", "xn4_a", "xn5_a"]);
    assert_eq!(state.single_compaction_candidates().collect::<Vec<_>>(), [4, 5]);
    let range = state.range_checkpoint_candidate(&parameters()).expect("many epochs are settled");
    assert_eq!(names(&state.index_blobs_of(range.0, range.1)), ["xs3_b", "xn4_a", "xn5_a"]);
}

#[test]
fn index_writes_are_too_late_two_epochs_on() {
    let state = state(&["xe5"]);
    assert!(state.is_too_late_for(3) && !state.is_too_late_for(4) && !state.is_too_late_for(5));
}

#[test]
fn the_first_settled_epoch_without_a_compaction_is_compacted() {
    let candidate = |listing: &[&str]| state(listing).single_compaction_candidate();
    assert_eq!(candidate(&["xe1", "xn0_a"]), None);
    assert_eq!(candidate(&["xe2", "xn0_a"]), Some(0));
    assert_eq!(candidate(&["xe2"]), None);
    assert_eq!(candidate(&["xe4", "xs0_a", "xs1_a", "xn2_a"]), Some(2));
    assert_eq!(candidate(&["xe3", "xs0_a", "xs1_a", "xn2_a"]), None);
    assert_eq!(candidate(&["xe9", "xr0_3_a", "xs0_a", "xs4_a", "xn1_a", "xn5_a"]), Some(5));
    let gaps = state(&["xe9", "xs0_a", "xs2_a", "xn1_a", "xn2_a", "xn5_a", "xn7_a", "xn8_a"]);
    assert_eq!(gaps.single_compaction_candidates().collect::<Vec<_>>(), [1, 5, 7]);
}

#[test]
fn the_epoch_advances_when_it_lasted_and_has_many_or_large_blobs() {
    let day = 24 * 3600;
    let advances = |count: i64, length: u64, seconds: i64| {
        let blob = |i| ListedBlob { length, ..listed(&format!("xn2_{i}"), i * seconds / (count - 1)) };
        let mut blobs: Vec<_> = (0..count).map(blob).collect();
        blobs.push(listed("xe2", 0));
        EpochState::from_listing(&blobs).should_advance(&parameters())
    };
    assert!(advances(20, 1, day));
    assert!(!advances(20, 1, day - 1));
    assert!(!advances(19, 1, day));
    assert!(advances(2, 5 << 20, day));
    assert!(!advances(2, (5 << 20) - 1, day));
    assert!(!state(&["xe2"]).should_advance(&parameters()));
}

#[test]
fn a_range_checkpoint_covers_one_epoch_more_than_its_frequency() {
    let candidate = |listing: &[&str]| state(listing).range_checkpoint_candidate(&parameters());
    assert_eq!(candidate(&["xe8"]), None);
    assert_eq!(candidate(&["xe9"]), Some((0, 7)));
    assert_eq!(candidate(&["xe16", "xr0_7_a"]), None);
    assert_eq!(candidate(&["xe17", "xr0_7_a"]), Some((8, 15)));
    let every = EpochParameters { full_checkpoint_frequency: 0, ..parameters() };
    assert_eq!(state(&["xe2"]).range_checkpoint_candidate(&every), None);
    assert_eq!(state(&["xe3"]).range_checkpoint_candidate(&every), Some((0, 1)));
}

#[test]
fn a_range_checkpoint_merges_what_readers_use_of_its_epochs() {
    let state = state(&["xe9", "xr0_3_a", "xs4_a", "xn4_a", "xn5_a", "xn7_a", "xn8_a"]);
    assert_eq!(names(&state.index_blobs_of(4, 7)), ["xs4_a", "xn5_a", "xn7_a"]);
}

#[test]
fn markers_are_deleted_by_epoch_and_watermarks_by_age() {
    let margin = 4 * 3600;
    let mut listing = vec![
        listed("xe5", margin),
        listed("xe6", 0),
        listed("xe7", 0),
        listed("xw1", 0),
        listed("xw2", 1),
        listed("xw3", 0),
    ];
    assert!(EpochState::from_listing(&listing).deletable_markers(&parameters()).is_empty(), "no clock");
    listing.push(listed("xn5_a", margin + 100));
    assert!(EpochState::from_listing(&listing).deletable_markers(&parameters()).is_empty(), "not its clock");
    listing.push(listed("xn6_a", margin + 1));
    let deletable = EpochState::from_listing(&listing).deletable_markers(&parameters());
    assert_eq!(deletable, [BlobId::new("xe5"), BlobId::new("xw1")]);
}

#[test]
fn uncompacted_blobs_are_superseded_by_old_complete_sets_of_settled_epochs() {
    let margin = 4 * 3600;
    let listing = [
        listed("xe5", 0),
        listed("xs0_a-s1-c2", 0),
        listed("xs0_b-s1-c2", 0),
        listed("xn0_a", 0),
        listed("xn0_b", 0),
        listed("xs1_a-s2-c2", 0),
        listed("xs1_b-s2-c2", 1),
        listed("xn1_a", 0),
        listed("xs2_a-s3-c2", 0),
        listed("xn2_a", 0),
        listed("xs4_a", 0),
        listed("xn4_a", 0),
        listed("xn5_a", margin + 1),
    ];
    let superseded = EpochState::from_listing(&listing).superseded_uncompacted(&parameters());
    assert_eq!(superseded, [BlobId::new("xn0_a"), BlobId::new("xn0_b")]);
}

#[test]
fn parameters_are_held_to_kopias_bounds() {
    type Change = fn(&mut EpochParameters);
    assert!(check_parameters(&parameters()).is_ok());
    let changes: [Change; 6] = [
        |parameters| parameters.min_epoch_duration = 600 * SECOND - 1,
        |parameters| parameters.epoch_refresh_frequency = 8 * 3600 * SECOND + 1,
        |parameters| parameters.full_checkpoint_frequency = 0,
        |parameters| parameters.cleanup_safety_margin = 3600 * SECOND - 1,
        |parameters| parameters.epoch_advance_on_count_threshold = 9,
        |parameters| parameters.epoch_advance_on_total_size_bytes_threshold = (1 << 20) - 1,
    ];
    for change in changes {
        let mut changed = parameters();
        change(&mut changed);
        assert!(check_parameters(&changed).is_err(), "{changed:?}");
        changed.enabled = false;
        assert!(check_parameters(&changed).is_ok());
    }
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u64..8).prop_map(epoch_marker_name),
        any::<i64>().prop_map(deletion_watermark_name),
        (0u64..8, 0u8..3, 0u8..3, 0u8..3).prop_map(|(epoch, blob, set, count)| {
            format!("{}{blob}-s{set}-c{count}", single_prefix(epoch))
        }),
        (0u64..8, 0u64..8, 0u8..3)
            .prop_map(|(first, last, set)| { format!("{}a-s{set}-c1", range_prefix(first, last)) }),
        (0u64..9, 0u8..3).prop_map(|(epoch, blob)| format!("{}{blob}", uncompacted_prefix(epoch))),
        "x[a-z]?[-0-9_sc]{0,12}",
        ".{0,8}",
    ]
}

/// Last epoch of the longest chain by trying all of them.
fn furthest(ranges: &BTreeSet<(u64, u64)>, start: u64) -> Option<u64> {
    let from_start = ranges.iter().filter(|(first, _)| *first == start);
    from_start.map(|(_, last)| furthest(ranges, last + 1).unwrap_or(*last)).max()
}

proptest! {
    #[test]
    fn any_listing_is_safe_and_active_blobs_cover_every_epoch(names in prop::collection::vec(any_name(), 0..40)) {
        let names: BTreeSet<_> = names.iter().map(String::as_str).collect();
        let listing: Vec<_> = names.iter().map(|name| listed(name, name.len() as i64)).collect();
        let state = EpochState::from_listing(&listing);
        let active = state.active_index_blobs();
        let unique: BTreeSet<_> = active.iter().map(|blob| &blob.id).collect();
        prop_assert_eq!(unique.len(), active.len());
        let _ = (state.deletable_markers(&parameters()), state.should_advance(&parameters()));
        let _ = state.range_checkpoint_candidate(&parameters());
        // What may be deleted is never what readers need.
        for deletable in state.superseded_uncompacted(&EpochParameters::default()) {
            prop_assert!(!unique.contains(&deletable));
        }
    }

    #[test]
    fn no_chain_reaches_further(ranges in prop::collection::btree_set((0u64..12, 0u64..12), 0..20)) {
        let ranges: BTreeSet<_> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        let names: Vec<_> = ranges.iter().map(|(first, last)| format!("{}a", range_prefix(*first, *last))).collect();
        let state = state(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let chain = chain(&state);
        prop_assert_eq!(chain.last().map(|(_, last)| *last), furthest(&ranges, 0).filter(|last| *last > 0));
        prop_assert!(chain.iter().zip(chain.iter().skip(1)).all(|(one, next)| one.1 + 1 == next.0));
    }
}
