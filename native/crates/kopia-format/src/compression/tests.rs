//! Compressors against Kopia's output, and against what is not a compressor's output at all.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::vectors::{input, load, load_json, splitmix, text};

fn decompressed(input: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut out = vec![1, 2, 3];
    decompress(None, input, limit, &mut out).map(|()| out)
}

fn stored_bytes(sample: &Value) -> Vec<u8> {
    match sample.get("file") {
        Some(file) => load(file.as_str().unwrap()),
        None => BASE64_STANDARD.decode(sample["compressed"].as_str().unwrap()).unwrap(),
    }
}

#[test]
fn all_that_kopia_compressed_is_read() {
    let samples = load_json("compression/samples.json");
    assert_eq!(samples.as_array().unwrap().len(), 18 * 5);
    for sample in samples.as_array().unwrap() {
        let (name, length) = (sample["name"].as_str().unwrap(), sample["length"].as_u64().unwrap() as usize);
        let id = CompressorId::parse(name).unwrap();
        assert_eq!(format!("{:x}", id.0), sample["headerID"].as_str().unwrap());
        let expected = input(sample["input"].as_str().unwrap(), sample["seed"].as_u64().unwrap(), length);
        let mut out = vec![];
        decompress(Some(id), &stored_bytes(sample), length, &mut out)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(out == expected, "{name} {length}");
        if length > 0 {
            let refused = decompressed(&stored_bytes(sample), length - 1).unwrap_err();
            assert_eq!(refused.kind, FormatErrorKind::OutOfRange, "{name}: {refused}");
        }
    }
}

#[test]
fn what_we_compress_is_read_again() {
    let mut compressor = Compressor::default();
    // Two and a half blocks of S2; repetitions farther apart than one of them.
    let long = [text(1, 2_000_000), splitmix(2, 300_000), text(1, 400_000)].concat();
    for data in [long, text(3, 1000), vec![0; 5_000_000], vec![7; 200]] {
        for &id in CompressorId::writable() {
            let mut out = b"before".to_vec();
            assert!(compressor.compress(id, &data, &mut out).unwrap(), "{}", id.name().unwrap());
            let compressed = out.strip_prefix(b"before").unwrap();
            assert!(compressed.len() < data.len() && compressed.starts_with(&id.0.to_be_bytes()));
            assert!(decompressed(compressed, data.len()).unwrap() == data, "{}", id.name().unwrap());
        }
    }
}

#[test]
fn what_does_not_shrink_leaves_the_output_alone() {
    let mut compressor = Compressor::default();
    for data in [splitmix(1, 100_000), vec![], vec![5], splitmix(2, 11)] {
        for &id in [CompressorId::NONE].iter().chain(CompressorId::writable()) {
            let mut out = b"before".to_vec();
            assert!(!compressor.compress(id, &data, &mut out).unwrap());
            assert_eq!(out, b"before");
        }
    }
}

#[test]
fn names_are_kopias() {
    assert_eq!(CompressorId::parse("").unwrap(), CompressorId::NONE);
    assert_eq!(CompressorId::parse("none").unwrap(), CompressorId::NONE);
    assert_eq!(CompressorId::parse("zstd-fastest").unwrap(), CompressorId::ZSTD_FASTEST);
    assert_eq!(CompressorId::writable().len(), 17);
    assert_eq!(CompressorId::parse("ZSTD").unwrap_err().kind, FormatErrorKind::Unsupported);
    assert_eq!(CompressorId(0x1600).name().unwrap_err().kind, FormatErrorKind::Unsupported);
    let lz4 = CompressorId::parse("lz4").unwrap();
    let refused = Compressor::default().compress(lz4, b"data", &mut vec![]).unwrap_err();
    assert!(refused.to_string().contains("lz4"), "{refused}");
}

#[test]
fn another_id_than_the_index_says_is_refused() {
    let mut out = vec![];
    Compressor::default().compress(CompressorId::ZSTD_FASTEST, &[0; 1000], &mut out).unwrap();
    let refused = decompress(Some(CompressorId(0x1100)), &out, 1000, &mut vec![]).unwrap_err();
    assert!(refused.to_string().contains("0x1101"), "{refused}");
    assert_eq!(decompressed(&[0, 0, 0x11], 10).unwrap_err().kind, FormatErrorKind::Malformed);
    assert_eq!(decompressed(&[0, 0, 0, 0, 1], 10).unwrap_err().kind, FormatErrorKind::Unsupported);
}

#[test]
fn bombs_give_no_more_than_the_limit() {
    let zeros = vec![0; 48 << 20];
    for &id in CompressorId::writable() {
        let mut bomb = vec![];
        Compressor::default().compress(id, &zeros, &mut bomb).unwrap();
        let mut out = vec![];
        let refused = decompress(None, &bomb, 100_000, &mut out).unwrap_err();
        assert_eq!(refused.kind, FormatErrorKind::OutOfRange, "{refused}");
        assert!(out.is_empty() && out.capacity() < 5 << 20, "{} {}", id.name().unwrap(), out.capacity());
        assert!(decompressed(&bomb, zeros.len()).unwrap() == zeros);
    }
}

#[test]
fn zstd_without_content_size_is_read_under_a_generous_limit() {
    let zeros = vec![0; 80 << 20];
    let frame = zstd::stream::encode_all(&zeros[..], 1).unwrap();
    let stored = [&0x1100u32.to_be_bytes()[..], &frame].concat();
    assert!(decompressed(&stored, 1 << 40).unwrap() == zeros);
}

#[test]
fn s2_damage_is_named() {
    let mut good = vec![];
    Compressor::default().compress(CompressorId(0x1200), &text(1, 5000), &mut good).unwrap();
    let mut wrong_checksum = good.clone();
    wrong_checksum[18] ^= 1;
    assert_eq!(decompressed(&wrong_checksum, 5000).unwrap_err().kind, FormatErrorKind::Corrupted);
    let mut skippable = good[..14].to_vec();
    // Many chunks to skip: a reader that recurses would run out of stack.
    skippable.extend([0x80, 0, 0, 0].repeat(200_000));
    skippable.extend(&good[14..]);
    assert_eq!(decompressed(&skippable, 5000).unwrap(), text(1, 5000));
    let mut unknown = good.clone();
    unknown.extend([0x02, 0, 0, 0]);
    assert_eq!(decompressed(&unknown, 5000).unwrap_err().kind, FormatErrorKind::Unsupported);
    let headless = [&good[..4], &good[14..]].concat();
    assert!(decompressed(&headless, 5000).unwrap_err().to_string().contains("stream identifier"));
}

fn any_id() -> impl Strategy<Value = CompressorId> {
    prop::sample::select(REGISTRY.map(|(id, ..)| id).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_give_a_value_or_an_error(id in any_id(), body in proptest::collection::vec(any::<u8>(), 0..600)) {
        let stored = [&id.0.to_be_bytes()[..], &body].concat();
        if let Ok(out) = decompressed(&stored, 10_000) { prop_assert!(out.len() <= 10_000) }
    }

    #[test]
    fn damaged_streams_give_a_value_or_an_error(
        id in prop::sample::select(CompressorId::writable().to_vec()),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let data = text(9, 3000);
        let mut stored = vec![];
        Compressor::default().compress(id, &data, &mut stored).unwrap();
        let cut_at = 5 + cut.index(stored.len() - 5);
        prop_assert!(decompressed(&stored[..cut_at], 3000).ok().is_none_or(|out| out.is_empty()), "cut at {}", cut_at);
        for (at, flip) in flips { let at = 4 + at.index(stored.len() - 4); stored[at] ^= flip; }
        let _ = decompressed(&stored, 10_000);
    }

    #[test]
    fn mixed_data_survives(id in prop::sample::select(CompressorId::writable().to_vec()), parts in proptest::collection::vec((any::<u64>(), 1usize..50_000, any::<bool>()), 1..6)) {
        let data: Vec<u8> = parts.iter().flat_map(|&(seed, length, random)| if random { splitmix(seed, length) } else { text(seed % 3, length) }).collect();
        let mut stored = vec![];
        if Compressor::default().compress(id, &data, &mut stored).unwrap() {
            prop_assert!(decompressed(&stored, data.len()).unwrap() == data);
        }
    }
}
