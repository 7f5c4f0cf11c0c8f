//! Prints how fast one thread splits, hashes and seals: the limit that a whole upload is held against.
//!
//! `cargo run --release -p kopia-format --example throughput`. Each line is the best of many short
//! runs over the same random bytes, in GB/s (10⁹ bytes) of bytes worked through; compare lines of one run only.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::hint::black_box;
use std::time::Instant;

use kopia_format::encryption::{CipherAlgorithm, ContentSealer};
use kopia_format::hashing::{ContentHasher, HashAlgorithm};
use kopia_format::splitter::SplitterAlgorithm;
use kopia_kernels::buzhash::{self, Path};
use kopia_kernels::rabin_karp;

const DATA_BYTES: usize = 8 << 20;
const RUNS: usize = 40;
/// Of the default splitter: a match every 4 MiB.
const MASK: u32 = (1 << 22) - 1;

fn main() {
    let data = random_bytes(DATA_BYTES);
    rolling_hashes(&data);
    splitters(&data);
    hashing(&data);
    sealing(&data);
    report("is_zero", DATA_BYTES, {
        let zeros = vec![0u8; DATA_BYTES];
        move || _ = black_box(kopia_kernels::is_zero(black_box(&zeros)))
    });
}

/// Every byte is rolled over, also behind matches.
fn rolling_hashes(data: &[u8]) {
    let roll_all = |find: &dyn Fn(usize) -> Option<usize>| {
        let mut start = 64;
        while let Some(found) = find(start) {
            start = found + 1;
        }
    };
    for path in [Path::Avx2, Path::Portable] {
        let name = format!("roll buzhash32 ({path:?})");
        report(&name, data.len(), || {
            roll_all(&|start| buzhash::find_by(path, data, start..data.len(), MASK))
        });
    }
    report("roll Rabin-Karp64", data.len(), || {
        roll_all(&|start| rabin_karp::find(data, start..data.len(), u64::from(MASK)));
    });
}

/// Whole chunks: the smaller half of each is never rolled over.
fn splitters(data: &[u8]) {
    for name in ["DYNAMIC-128K-BUZHASH", "DYNAMIC-1M-BUZHASH", "DYNAMIC-1M-RABINKARP"] {
        let splitter = SplitterAlgorithm::parse(name).expect("a known name").start();
        report(&format!("split {name}"), data.len(), || {
            let mut rest = data;
            while let Some(length) = splitter.find_end(rest, 0) {
                rest = &rest[length..];
            }
            black_box(rest);
        });
    }
}

fn hashing(data: &[u8]) {
    let pieces: Vec<&[u8]> = data.chunks(1 << 20).collect();
    for algorithm in
        [HashAlgorithm::Blake2b256_128, HashAlgorithm::Blake3_256_128, HashAlgorithm::HmacSha256_128]
    {
        let hasher = ContentHasher::new(algorithm, &[7; 32]).expect("a key of 32 bytes");
        report(&format!("hash {} (one)", algorithm.name()), data.len(), || {
            pieces.iter().for_each(|piece| _ = black_box(hasher.hash(piece)));
        });
        report(&format!("hash {} (many)", algorithm.name()), data.len(), || {
            black_box(hasher.hash_many(&pieces));
        });
    }
}

fn sealing(data: &[u8]) {
    for cipher in [CipherAlgorithm::Aes256GcmHmacSha256, CipherAlgorithm::ChaCha20Poly1305HmacSha256] {
        let sealer = ContentSealer::new(cipher, &[7; 32], None).expect("a master key of 32 bytes");
        let mut out = Vec::with_capacity(data.len() + 1000);
        report(&format!("seal {}", cipher.name()), data.len(), || {
            out.clear();
            for piece in data.chunks(1 << 20) {
                sealer.seal_append(&[1; 16], [2; 12], piece, &mut out).expect("short enough to seal");
            }
            black_box(&out);
        });
    }
}

fn report(name: &str, length_bytes: usize, mut work: impl FnMut()) {
    let seconds = |work: &mut dyn FnMut()| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    let best = (0..RUNS).map(|_| seconds(&mut work)).fold(f64::MAX, f64::min);
    println!("{name:<36} {:7.2} GB/s", length_bytes as f64 / best / 1e9);
}

/// splitmix64, so that every run sees the same bytes.
fn random_bytes(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    (0..length / 8).flat_map(|_| next().to_le_bytes()).collect()
}
