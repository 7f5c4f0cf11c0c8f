use super::*;
use crate::vectors::{load_json, splitmix, unhex};
use proptest::prelude::*;

fn secrets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(vec![7u8; 32]), Just(vec![9u8; 16])]
}

fn algorithms() -> impl Strategy<Value = HashAlgorithm> {
    prop::sample::select(HashAlgorithm::ALL)
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 0..14)
}

#[test]
fn every_algorithm_gives_the_hashes_of_kopia() {
    let cases = load_json("crypto/hashes.json");
    let mut checked = 0;
    for case in cases.as_array().unwrap() {
        let algorithm = HashAlgorithm::parse(case["algorithm"].as_str().unwrap()).unwrap();
        let hasher = ContentHasher::new(algorithm, &unhex(&case["secret"]));
        if case.get("error").is_some() {
            assert!(hasher.is_err(), "{case}");
            continue;
        }
        let data = splitmix(case["seed"].as_u64().unwrap(), case["length"].as_u64().unwrap() as usize);
        let hash = hasher.unwrap().hash(&data);
        assert_eq!(hash.to_hex(), case["hash"].as_str().unwrap(), "{case}");
        assert_eq!(hash.as_bytes().len(), algorithm.output_length());
        checked += 1;
    }
    assert_eq!(checked, 142);
}

#[test]
fn names_parse_back_and_are_in_kopias_order() {
    let names: Vec<_> = HashAlgorithm::ALL.iter().map(|a| a.name()).collect();
    assert!(names.is_sorted());
    for algorithm in HashAlgorithm::ALL {
        assert_eq!(HashAlgorithm::parse(algorithm.name()).unwrap(), *algorithm);
    }
    assert!(HashAlgorithm::parse("BLAKE2B-512").is_err());
}

#[test]
fn secrets_that_an_algorithm_cannot_take_are_refused() {
    assert!(ContentHasher::new(HashAlgorithm::Blake2b256, &[0; 65]).is_err());
    assert!(ContentHasher::new(HashAlgorithm::Blake2s256, &[0; 33]).is_err());
    assert!(ContentHasher::new(HashAlgorithm::HmacSha256, &[0; 500]).is_ok());
}

#[test]
fn debug_output_hides_the_secret() {
    let hasher = ContentHasher::new(HashAlgorithm::Blake2b256_128, b"secret-secret").unwrap();
    assert_eq!(format!("{hasher:?}"), "ContentHasher(BLAKE2B-256-128, secret: ***)");
}

#[test]
fn hashers_go_between_threads() {
    fn assert_shared<T: Send + Sync + Clone>() {}
    assert_shared::<ContentHasher>();
    fn assert_sent<T: Send>() {}
    assert_sent::<HashState>();
}

proptest! {
    #[test]
    fn many_messages_hash_as_each_alone(algorithm in algorithms(), secret in secrets(), messages in messages()) {
        let hasher = ContentHasher::new(algorithm, &secret).unwrap();
        let inputs: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let alone: Vec<_> = inputs.iter().map(|input| hasher.hash(input)).collect();
        prop_assert_eq!(hasher.hash_many(&inputs), alone);
    }

    #[test]
    fn interleaved_pieces_hash_as_the_whole(
        algorithm in algorithms(), secret in secrets(), messages in messages(), piece_length in 1usize..400,
    ) {
        let hasher = ContentHasher::new(algorithm, &secret).unwrap();
        let mut states: Vec<_> = messages.iter().map(|_| hasher.start()).collect();
        for round in 0..1500usize.div_ceil(piece_length) {
            let mut pieces: Vec<_> = states
                .iter_mut()
                .zip(&messages)
                .filter_map(|(state, message)| Some((state, message.chunks(piece_length).nth(round)?)))
                .collect();
            hasher.update_many(&mut pieces);
        }
        for (state, message) in states.into_iter().zip(&messages) {
            prop_assert_eq!(state.finish(), hasher.hash(message));
        }
    }
}
