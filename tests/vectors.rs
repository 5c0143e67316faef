//! Published test vectors of every construction that wardfs uses. The source stands above each.

#[path = "vectors/shake128.rs"]
mod shake128;

use aes_siv::KeyInit;
use aes_siv::siv::{Aes128Siv, Aes256Siv};
use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
use chacha20::{R20, hchacha};
use data_encoding::HEXLOWER;
use shake128::Shake128;
use wardfs::crypto::hkdf;
use wardfs::crypto::rand;
use wardfs::crypto::xaes::Xaes256Gcm;
use wardfs::crypto::xchacha::XChaCha20Poly1305;
use wardfs::sys::secret::SecretBytes;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    HEXLOWER.decode(digits.as_bytes()).expect("hex digits")
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().expect("N bytes")
}

fn secret(mut bytes: [u8; 32]) -> SecretBytes<32> {
    SecretBytes::take(&mut bytes)
}

/// Ciphertext and tag; also opens it again.
fn xaes(key: [u8; 32], nonce: &[u8; 24], plain: &[u8], aad: &[u8]) -> Vec<u8> {
    let key = Xaes256Gcm::new(&secret(key));
    let mut sealed = vec![0; plain.len()];
    let tag = key.seal(nonce, aad, plain, &mut sealed);
    let mut opened = vec![0; plain.len()];
    assert_eq!(key.open(nonce, aad, &sealed, &tag, &mut opened), Ok(()));
    assert_eq!(opened, plain);
    [&sealed[..], &tag].concat()
}

/// As [`xaes`].
fn xchacha(key: [u8; 32], nonce: &[u8; 24], plain: &[u8], aad: &[u8]) -> Vec<u8> {
    let key = XChaCha20Poly1305::new(secret(key));
    let mut sealed = vec![0; plain.len()];
    let tag = key.seal(nonce, aad, plain, &mut sealed);
    let mut opened = vec![0; plain.len()];
    assert_eq!(key.open(nonce, aad, &sealed, &tag, &mut opened), Ok(()));
    assert_eq!(opened, plain);
    [&sealed[..], &tag].concat()
}

/// <https://c2sp.org/XAES-256-GCM>, "Test Vectors": one key for each value of the top bit of L.
#[test]
fn xaes_256_gcm_published_vectors() {
    let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
    let plain = b"XAES-256-GCM";
    assert_eq!(
        xaes([1; 32], nonce, plain, b""),
        hex("ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271")
    );
    assert_eq!(
        xaes([3; 32], nonce, plain, b"c2sp.org/XAES-256-GCM"),
        hex("986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d")
    );
}

/// <https://c2sp.org/XAES-256-GCM>, "Accumulated Randomized Tests": 10,000 iterations.
#[test]
fn xaes_256_gcm_accumulated() {
    let (mut source, mut result) = (Shake128::new(), Shake128::new());
    for _ in 0..10_000 {
        let key = source.squeeze();
        let nonce = source.squeeze();
        let [len] = source.squeeze();
        let plain = source.squeeze_vec(len.into());
        let [len] = source.squeeze();
        let aad = source.squeeze_vec(len.into());
        result.absorb(&xaes(key, &nonce, &plain, &aad));
    }
    assert_eq!(
        HEXLOWER.encode(&result.squeeze::<32>()),
        "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
    );
}

/// FIPS 202 examples: the empty message. Here because the accumulated test rests on it.
#[test]
fn shake128_of_nothing() {
    let digest: [u8; 16] = Shake128::new().squeeze();
    assert_eq!(digest, array("7f9c2ba4e88f827d616045507605853e"));
}

/// draft-irtf-cfrg-xchacha-03, §2.2.1.
#[test]
fn hchacha20() {
    let key: [u8; 32] = std::array::from_fn(|i| i as u8);
    let input: [u8; 16] = array("000000090000004a0000000031415927");
    assert_eq!(
        hchacha::<R20>(&key.into(), &input.into())[..],
        hex("82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc")
    );
}

/// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
#[test]
fn xchacha20_poly1305() {
    let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
        sunscreen would be it.";
    let sealed = xchacha(
        std::array::from_fn(|i| 0x80 + i as u8),
        &std::array::from_fn(|i| 0x40 + i as u8),
        plain,
        &hex("50515253c0c1c2c3c4c5c6c7"),
    );
    assert_eq!(
        sealed,
        hex(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb
             731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452
             2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9
             21f9664c97637da9768812f615c68b13b52e
             c0875924c1c7987947deafd8780acf49"
        )
    );
}

/// Our composition against the `chacha20poly1305` crate, which shares no code with it above HChaCha20.
#[test]
fn xchacha20_poly1305_agrees_with_another_implementation() {
    use chacha20poly1305::aead::{Aead, Payload};
    for len in (0..300).chain([4095, 4096, 65536]) {
        let (key, nonce, aad): ([u8; 32], [u8; 24], [u8; 16]) =
            (rand::array(), rand::array(), rand::array());
        let mut plain = vec![0; len];
        rand::fill(&mut plain);
        let other = chacha20poly1305::XChaCha20Poly1305::new(&key.into())
            .encrypt(
                &nonce.into(),
                Payload {
                    msg: &plain,
                    aad: &aad,
                },
            )
            .expect("seals");
        assert_eq!(xchacha(key, &nonce, &plain, &aad), other, "{len} bytes");
    }
}

/// RFC 5297, appendices A.1 and A.2, which are for 128-bit subkeys: the construction is the one of the 256-bit type.
#[test]
fn aes_siv_of_the_rfc() {
    let seal = |key: &str, headers: &[&str], plain: &str| {
        let key: [u8; 32] = array(key);
        let headers: Vec<Vec<u8>> = headers.iter().map(|h| hex(h)).collect();
        Aes128Siv::new(&key.into())
            .encrypt(&headers, &hex(plain))
            .expect("seals")
    };
    assert_eq!(
        seal(
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
            &["101112131415161718191a1b1c1d1e1f2021222324252627"],
            "112233445566778899aabbccddee",
        ),
        hex("85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c")
    );
    assert_eq!(
        seal(
            "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
            &[
                "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
                "102030405060708090a0",
                "09f911029d74e35bd84156c5635688c0",
            ],
            "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553",
        ),
        hex(
            "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17
             dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d"
        )
    );
}

/// Project Wycheproof, aes_siv_cmac_test.json, keySize 512: AES-256-SIV with one header.
#[test]
fn aes_256_siv_of_wycheproof() {
    for (key, header, plain, sealed) in [
        (
            "0b6aaf05f9b5221e539940cd83cb29d2bcc7a0aa472d8fc67bedd0108869394e
             33c9f233d4b2cc9c6a59e8ce9cd268a0f3f2857e08fe1eb329ef347dace1557d",
            "76aade95964f074c693886f245fa57f9",
            "",
            "f1ad6ea998a2a438acaf90bad0cb9f9f",
        ),
        (
            "c25cafc6018b98dfbb79a40ec89c575a4f88c4116489bba27707479800c01302
             35334a45dbe8d8dae3da8dcb45bbe5dce031b0f68ded544fda7eca30d6749442",
            "deeb0ccf3aef47a296ed1ca8f4ae5907",
            "beec61030fa3d670337196beade6aeaa",
            "5865208eab9163db85cab9f96d846234a2626aae22f5c17c9aad4b501f4416e4",
        ),
        (
            "9593f0d6679e8e18b43cb4d26a7ea9da9d6037fd5a82db0b091a682b6547a772
             98e4fd1d1481f3603d0b1e7e6dcf27200105af0f844f2aaacd98540ab2b6c8a8",
            "7b3f9591076e32a21766e2bb",
            "0628d19cc94c4b4f3d703e1f",
            "56e6fd5a7f449a8e6bafa38f945c70cf8a534179b3b1f26266fb6b56",
        ),
    ] {
        let key: [u8; 64] = array(key);
        let mut siv = Aes256Siv::new(&key.into());
        let header = hex(header);
        assert_eq!(siv.encrypt([&header], &hex(plain)), Ok(hex(sealed)));
        assert_eq!(siv.decrypt([&header], &hex(sealed)), Ok(hex(plain)));
    }
}

/// RFC 5869, appendices A.1 to A.3.
#[test]
fn hkdf_sha256() {
    let range = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    assert_eq!(
        hkdf::derive::<42>(&[0x0b; 22], &range(0, 0x0c), &[&range(0xf0, 0xf9)]).as_bytes()[..],
        hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    );
    assert_eq!(
        hkdf::derive::<82>(&range(0, 0x4f), &range(0x60, 0xaf), &[&range(0xb0, 0xff)]).as_bytes()[..],
        hex(
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c
             59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71
             cc30c58179ec3e87c14c01d5c1f3434f1d87"
        )
    );
    assert_eq!(
        hkdf::derive::<42>(&[0x0b; 22], &[], &[]).as_bytes()[..],
        hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
    );
}

/// RFC 9106, §5.3.
#[test]
fn argon2id() {
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(AssociatedData::new(&[4; 12]).expect("short"))
        .build()
        .expect("valid");
    let mut tag = [0; 32];
    Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params)
        .expect("short")
        .hash_password_into(&[1; 32], &[2; 16], &mut tag)
        .expect("computes");
    assert_eq!(
        tag[..],
        hex("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659")
    );
}
