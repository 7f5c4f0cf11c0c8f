use super::*;
use crate::vectors::{load_json, splitmix};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

/// Codecs are dear to build, so each test thread keeps them.
fn codec(percent: u32) -> EccCodec {
    thread_local!(static BUILT: RefCell<HashMap<u32, EccCodec>> = RefCell::default());
    let build = || EccCodec::new(EccParameters::for_overhead(percent).unwrap()).unwrap();
    BUILT.with_borrow_mut(|built| built.entry(percent).or_insert_with(build).clone())
}

/// One of each kind of shard size and count.
fn percents() -> impl Strategy<Value = u32> {
    prop::sample::select(&[1, 2, 3, 5, 6, 7, 10, 50, 100])
}

fn encoded(codec: &EccCodec, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(data, &mut out).unwrap();
    out
}

fn sha256_hex(data: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data);
    crate::ContentHash::new(digest.as_ref()).unwrap().to_hex()
}

#[test]
fn encodings_are_those_of_kopia_byte_for_byte() {
    let cases = load_json("ecc/ecc.json");
    let cases = cases.as_array().unwrap();
    for case in cases {
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        let codec = codec(number(&case["overheadPercent"]) as u32);
        let expected = &case["params"];
        assert_eq!(codec.parameters.data_shards as u64, number(&expected["dataShards"]), "{case}");
        assert_eq!(codec.parameters.parity_shards as u64, number(&expected["parityShards"]));
        assert_eq!(codec.parameters.shard_bytes_max as u64, number(&expected["maxShardSize"]));

        let data = splitmix(number(&case["seed"]), number(&case["length"]) as usize);
        let out = encoded(&codec, &data);
        assert_eq!(out.len() as u64, number(&case["encodedLength"]), "{case}");
        assert_eq!(codec.parameters.encoded_length(data.len()), out.len());
        assert_eq!(sha256_hex(&out), case["encodedSha256"].as_str().unwrap(), "{case}");
        if let Some(text) = case.get("encoded").and_then(|text| text.as_str()) {
            assert_eq!(out, STANDARD.decode(text).unwrap());
        }
        assert_eq!(codec.decode(&out).unwrap(), (data, 0));
    }
    assert!(cases.len() >= 120);
}

#[test]
fn percentages_outside_1_to_100_are_refused() {
    assert_eq!(EccParameters::for_overhead(0).unwrap_err().kind, FormatErrorKind::OutOfRange);
    assert_eq!(EccParameters::for_overhead(101).unwrap_err().kind, FormatErrorKind::OutOfRange);
}

#[test]
fn damage_beyond_the_parity_is_an_error() {
    let codec = codec(10);
    let mut out = encoded(&codec, &[1; 500]);
    // The small code repairs two of eight shards; this hits three.
    let shard = out.len() / 8;
    for index in 2..5 {
        out[index * shard + 5] ^= 1;
    }
    assert_eq!(codec.decode(&out).unwrap_err().kind, FormatErrorKind::Corrupted);
}

#[test]
fn damage_of_parity_alone_costs_nothing() {
    let codec = codec(10);
    let mut out = encoded(&codec, &[1; 500]);
    out[5] ^= 1;
    assert_eq!(codec.decode(&out).unwrap(), (vec![1; 500], 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_decodes(percent in percents(), length in 0usize..40_000, seed: u64) {
        let codec = codec(percent);
        let data = splitmix(seed, length);
        let out = encoded(&codec, &data);
        prop_assert_eq!(out.len(), codec.parameters.encoded_length(length));
        prop_assert_eq!(codec.decode(&out).unwrap(), (data, 0));
    }

    #[test]
    fn one_damaged_byte_anywhere_is_repaired(percent in percents(), length in 0usize..40_000, at: prop::sample::Index, flip in 1u8..) {
        let codec = codec(percent);
        let data = splitmix(7, length);
        let mut out = encoded(&codec, &data);
        let position = at.index(out.len());
        out[position] ^= flip;
        let (repaired, shards) = codec.decode(&out).unwrap();
        prop_assert_eq!(repaired, data);
        prop_assert!(shards <= 1);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(percent in percents(), bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let _ = codec(percent).decode(&bytes);
    }
}
