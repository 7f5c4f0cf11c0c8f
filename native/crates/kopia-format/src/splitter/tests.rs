//! Splitters against Kopia's own cuts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::vectors::{input, load_json, splitmix};

/// Chunk lengths of `data`, given to the splitter in pieces of the lengths that `piece_bytes` says.
fn split(splitter: &Splitter, data: &[u8], mut piece_bytes: impl FnMut() -> usize) -> Vec<usize> {
    let (mut lengths, mut start, mut scanned, mut end) = (vec![], 0, 0, 0);
    loop {
        if let Some(length) = splitter.find_end(&data[start..end], scanned) {
            assert!(length > scanned && length <= end - start);
            lengths.push(length);
            start += length;
            scanned = 0;
        } else if end < data.len() {
            scanned = end - start;
            end = data.len().min(end + piece_bytes());
        } else {
            lengths.extend((start < end).then_some(end - start));
            return lengths;
        }
    }
}

fn lengths_of(vector: &Value) -> Vec<usize> {
    vector["chunks"].as_array().unwrap().iter().map(|length| length.as_u64().unwrap() as usize).collect()
}

#[test]
fn all_splitters_cut_where_kopia_cuts() {
    let vectors = load_json("splitter/boundaries.json");
    let mut by_input: BTreeMap<(&str, u64), Vec<&Value>> = BTreeMap::new();
    for vector in vectors.as_array().unwrap() {
        let key = (vector["input"].as_str().unwrap(), vector["seed"].as_u64().unwrap());
        by_input.entry(key).or_default().push(vector);
    }
    let mut checked = 0;
    for ((kind, seed), vectors) in by_input {
        // A shorter input of the same formula and seed is a prefix of a longer one.
        let length_of = |vector: &Value| vector["length"].as_u64().unwrap() as usize;
        let longest = vectors.iter().map(|vector| length_of(vector)).max().unwrap();
        let data = input(kind, seed, longest);
        for vector in vectors {
            let name = vector["splitter"].as_str().unwrap();
            let splitter = SplitterAlgorithm::parse(name).unwrap().start();
            let lengths = split(&splitter, &data[..length_of(vector)], || 1 << 20);
            assert_eq!(lengths, lengths_of(vector), "{name} of {kind} {seed}");
            checked += 1;
        }
    }
    assert_eq!(checked, 23 * 5);
}

#[test]
fn hashes_equal_kopias_tables() {
    let tables = load_json("splitter/tables.json");
    let hex = |key: &str| u64::from_str_radix(tables[key].as_str().unwrap(), 16).unwrap();
    for (byte, value) in tables["buzhash32_table_hex"].as_array().unwrap().iter().enumerate() {
        // The hash of a window with one byte is the table's value.
        assert_eq!(format!("{:08x}", buzhash::hash(&[byte as u8])), value.as_str().unwrap());
    }
    let random = splitmix(7, 4096);
    let window = &random[4096 - 64..];
    assert_eq!(u64::from(buzhash::hash(window)), hex("buzhash32_sum_after_rolling_random_seed7_len4096"));
    assert_eq!(rabin_karp::hash(window), hex("rabinkarp64_sum_after_rolling_random_seed7_len4096"));
    assert_eq!(rabin_karp::POLYNOMIAL, hex("rabinkarp64_polynomial_hex"));
}

#[test]
fn names_are_kopias() {
    assert_eq!(SplitterAlgorithm::names().len(), 23);
    for name in SplitterAlgorithm::names() {
        assert_eq!(SplitterAlgorithm::parse(name).unwrap().name(), *name);
    }
    assert_eq!(SplitterAlgorithm::parse("").unwrap().name(), "FIXED");
    for wrong in ["DYNAMIC-4M", "fixed", "FIXED-3M", "DYNAMIC-16M-BUZHASH"] {
        let refused = SplitterAlgorithm::parse(wrong).unwrap_err();
        assert_eq!(refused.kind, crate::error::FormatErrorKind::Unsupported);
        assert!(refused.to_string().contains(wrong));
    }
}

#[test]
fn zeros_are_cut_at_the_zero_chunk_length() {
    let zeros = vec![0; 16 << 20];
    for name in SplitterAlgorithm::names() {
        let splitter = SplitterAlgorithm::parse(name).unwrap().start();
        let length = splitter.zero_chunk_length();
        assert_eq!(splitter.find_end(&zeros[..length - 1], 0), None, "{name}");
        assert_eq!(splitter.find_end(&zeros, 0), Some(length), "{name}");
    }
}

#[test]
fn a_chunk_without_a_match_ends_at_the_maximum() {
    let ones = vec![1; 600 << 10];
    let splitter = SplitterAlgorithm::parse("DYNAMIC-128K-RABINKARP").unwrap().start();
    assert_eq!(splitter.find_end(&ones[..(256 << 10) - 1], 0), None);
    assert_eq!(splitter.find_end(&ones, 0), Some(256 << 10));
    assert_eq!(splitter.find_end(&ones[..256 << 10], (256 << 10) - 1), Some(256 << 10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cuts_do_not_depend_on_the_pieces(
        seed in any::<u64>(),
        name in prop::sample::select(vec!["DYNAMIC-128K-BUZHASH", "DYNAMIC-128K-RABINKARP", "FIXED-128K"]),
        pieces in proptest::collection::vec(1usize..200_000, 1..20),
    ) {
        let data = splitmix(seed, 1_500_000);
        let splitter = SplitterAlgorithm::parse(name).unwrap().start();
        let mut pieces = pieces.into_iter().cycle();
        let in_pieces = split(&splitter, &data, || pieces.next().unwrap());
        prop_assert_eq!(&in_pieces, &split(&splitter, &data, || usize::MAX / 2));
        prop_assert_eq!(in_pieces.iter().sum::<usize>(), data.len());
    }
}
