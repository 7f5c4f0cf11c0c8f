//! Finds and reads the test vectors under `tests/fixtures/vectors` (see `VECTORS.md` there).
//!
//! For unit tests only; nothing of it is in a build.

use std::path::PathBuf;

/// Path of a fixture.
pub(crate) fn path(relative: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/fixtures/vectors")).join(relative)
}

/// Bytes of a fixture.
pub(crate) fn load(relative: &str) -> Vec<u8> {
    std::fs::read(path(relative)).unwrap_or_else(|error| panic!("fixture {relative}: {error}"))
}

/// A fixture parsed as JSON.
pub(crate) fn load_json(relative: &str) -> serde_json::Value {
    serde_json::from_slice(&load(relative)).unwrap_or_else(|error| panic!("fixture {relative}: {error}"))
}

/// Bytes of a JSON string of hex digits.
pub(crate) fn unhex(text: &serde_json::Value) -> Vec<u8> {
    let digits = text.as_str().expect("a string of hex digits").as_bytes();
    let nibble = |digit: u8| (digit as char).to_digit(16).expect("a hex digit") as u8;
    digits.chunks(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect()
}

/// The input formula `splitmix(seed, n)` of `VECTORS.md`.
pub(crate) fn splitmix(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.truncate(length);
    out
}

/// The input formula `text(seed, n)` of `VECTORS.md`.
pub(crate) fn text(seed: u64, length: usize) -> Vec<u8> {
    const WORDS: &str = "alpha bravo charlie delta echo foxtrot golf hotel \
                         india juliett kilo lima mike november oscar papa";
    let words: Vec<&str> = WORDS.split(' ').collect();
    let mut out = Vec::with_capacity(length + 16);
    // Every word brings at least five bytes.
    for (number, byte) in splitmix(seed, length.div_ceil(5)).into_iter().enumerate() {
        out.extend_from_slice(words[usize::from(byte & 15)].as_bytes());
        out.push(if number % 8 == 7 { b'\n' } else { b' ' });
    }
    out.truncate(length);
    out
}

/// An input by the name of its formula in `VECTORS.md`.
pub(crate) fn input(kind: &str, seed: u64, length: usize) -> Vec<u8> {
    match kind {
        "random" => splitmix(seed, length),
        "text" => text(seed, length),
        "zeros" => vec![0; length],
        "repeat64k" => splitmix(seed, 65536).into_iter().cycle().take(length).collect(),
        other => panic!("no input formula {other}"),
    }
}
