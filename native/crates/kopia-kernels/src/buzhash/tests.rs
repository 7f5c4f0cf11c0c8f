//! All paths against the definition, byte by byte.

use proptest::prelude::*;

use super::{Path, TABLE, find_by, hash};

/// The definition: each window hashed from nothing.
fn find_by_definition(data: &[u8], range: std::ops::Range<usize>, mask: u32) -> Option<usize> {
    range.into_iter().find(|&at| hash(&data[at - 63..=at]) & mask == 0)
}

#[test]
fn table_is_the_published_one() {
    assert_eq!([TABLE[0], TABLE[1], TABLE[255]], [0x07fc_fd52, 0x5f3f_164f, 0x4cf2_0a65]);
}

#[test]
fn sixty_four_zero_bytes_hash_to_zero() {
    assert_eq!(hash(&[0; 64]), 0);
}

#[test]
fn the_first_of_many_matches_wins() {
    let data = [0; 100_000];
    for path in [Path::Portable, Path::Avx2] {
        assert_eq!(find_by(path, &data, 64..data.len(), u32::MAX), Some(64), "{path:?}");
        assert_eq!(find_by(path, &data, 500..500, 0), None, "{path:?}");
    }
}

#[test]
#[should_panic(expected = "are not in the data")]
fn a_range_without_whole_windows_is_refused() {
    let _ = find_by(Path::Portable, &[0; 100], 63..100, 1);
}

/// Random bytes with runs, so that both sparse and dense matches occur.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let run = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..3000),
        (any::<u8>(), 1..3000usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    proptest::collection::vec(run, 1..12)
        .prop_map(|runs| runs.concat())
        .prop_filter("a window", |data| data.len() > 64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn lanes_equal_the_definition(data in data(), bits in 0u32..18, from in any::<prop::sample::Index>()) {
        let range = 64 + from.index(data.len() - 64)..data.len();
        let mask = (1 << bits) - 1;
        let expected = find_by_definition(&data, range.clone(), mask);
        for path in [Path::Portable, Path::Avx2] {
            prop_assert_eq!(find_by(path, &data, range.clone(), mask), expected, "{:?}", path);
        }
    }

    #[test]
    fn every_match_is_found_in_order(seed in any::<u8>(), bits in 6u32..14) {
        let data: Vec<u8> = (0u64..60_000).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ u64::from(seed)) >> 31) as u8).collect();
        let all = |next: &dyn Fn(usize) -> Option<usize>| {
            let mut found = vec![];
            let mut start = 64;
            while let Some(at) = next(start) { found.push(at); start = at + 1; }
            found
        };
        let mask = (1 << bits) - 1;
        let expected: Vec<usize> = (64..data.len()).filter(|&at| hash(&data[at - 63..=at]) & mask == 0).collect();
        for path in [Path::Portable, Path::Avx2] {
            prop_assert_eq!(&all(&|start| find_by(path, &data, start..data.len(), mask)), &expected, "{:?}", path);
        }
    }
}
