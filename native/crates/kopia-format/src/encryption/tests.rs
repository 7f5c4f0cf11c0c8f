use super::*;
use crate::error::FormatErrorKind;
use crate::vectors::{load_json, splitmix, unhex};
use proptest::prelude::*;

const IV: [u8; 16] = [0xa5; 16];

fn sealer(cipher: CipherAlgorithm, ecc_percent: Option<u32>) -> ContentSealer {
    let ecc = ecc_percent.map(|percent| EccParameters::for_overhead(percent).unwrap());
    ContentSealer::new(cipher, &[3; 32], ecc).unwrap()
}

fn ciphers() -> impl Strategy<Value = CipherAlgorithm> {
    prop::sample::select(CipherAlgorithm::ALL)
}

#[test]
fn items_sealed_by_kopia_open_and_seal_again_to_the_same_bytes() {
    let cases = load_json("crypto/ciphers.json");
    for case in cases.as_array().unwrap() {
        let cipher = CipherAlgorithm::parse(case["algorithm"].as_str().unwrap()).unwrap();
        let sealer = ContentSealer::new(cipher, &unhex(&case["masterKey"]), None).unwrap();
        let (iv, stored) = (unhex(&case["contentIV"]), unhex(&case["ciphertext"]));
        let plain = splitmix(case["seed"].as_u64().unwrap(), case["length"].as_u64().unwrap() as usize);

        assert_eq!(sealer.open_in_place(&iv, &mut stored.clone()).unwrap(), plain, "{case}");
        let mut again = Vec::new();
        sealer.seal_append(&iv, *stored.first_chunk().unwrap(), &plain, &mut again).unwrap();
        assert_eq!(again, stored);
    }
    assert_eq!(cases.as_array().unwrap().len(), 8);
}

#[test]
fn seal_in_place_gives_the_bytes_of_seal_append() {
    for cipher in CipherAlgorithm::ALL {
        let sealer = sealer(*cipher, None);
        let mut data = b"a content".to_vec();
        let mut appended = Vec::new();
        sealer.seal_append(&IV, [1; 12], &data, &mut appended).unwrap();
        let tag = sealer.seal_in_place(&IV, [1; 12], &mut data).unwrap();
        assert_eq!(appended, [&[1; 12][..], &data, &tag].concat());
    }
}

#[test]
fn seal_in_place_refuses_error_correction() {
    let error =
        sealer(CipherAlgorithm::Aes256GcmHmacSha256, Some(10)).seal_in_place(&IV, [0; 12], &mut [1, 2]);
    assert_eq!(error.unwrap_err().kind, FormatErrorKind::Unsupported);
}

#[test]
fn an_item_does_not_open_under_another_iv() {
    let sealer = sealer(CipherAlgorithm::Aes256GcmHmacSha256, None);
    let mut sealed = Vec::new();
    sealer.seal_append(&IV, [0; 12], b"content", &mut sealed).unwrap();
    let error = sealer.open_in_place(&[0xa6; 16], &mut sealed).unwrap_err();
    assert_eq!(error.kind, FormatErrorKind::Corrupted);
}

#[test]
fn debug_output_hides_the_keys() {
    let text = format!("{:?}", sealer(CipherAlgorithm::Aes256GcmHmacSha256, None));
    assert_eq!(text, "ContentSealer(AES256-GCM-HMAC-SHA256, keys: ***, ecc: None)");
}

#[test]
fn sealers_go_between_threads() {
    fn assert_shared<T: Send + Sync + Clone>() {}
    assert_shared::<ContentSealer>();
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        cipher in ciphers(), ecc in prop::option::of(Just(10)), nonce: [u8; 12],
        plain in prop::collection::vec(any::<u8>(), 0..3000), before in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        let sealer = sealer(cipher, ecc);
        let mut out = before.clone();
        sealer.seal_append(&IV, nonce, &plain, &mut out).unwrap();
        let mut sealed = out.split_off(before.len());
        prop_assert_eq!(out, before);
        prop_assert_eq!(sealed.len(), sealer.sealed_length(plain.len()));
        prop_assert_eq!(&*sealer.open_in_place(&IV, &mut sealed).unwrap(), &plain[..]);
    }

    #[test]
    fn any_flipped_bit_is_noticed(cipher in ciphers(), plain in prop::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index, bit in 0u8..8) {
        let sealer = sealer(cipher, None);
        let mut sealed = Vec::new();
        sealer.seal_append(&IV, [9; 12], &plain, &mut sealed).unwrap();
        let position = at.index(sealed.len());
        sealed[position] ^= 1 << bit;
        prop_assert!(sealer.open_in_place(&IV, &mut sealed).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(cipher in ciphers(), ecc in prop::option::of(Just(10)), mut bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(sealer(cipher, ecc).open_in_place(&IV, &mut bytes).is_err());
    }
}
