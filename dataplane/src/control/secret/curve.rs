//! Keys on curves, encoded as ring wants them.
//!
//! ring refuses an EC key without its public half, and has no way to derive it, so p256 and p384 do.
//!
//! Source: RFC 5958, RFC 5915, RFC 8410.

use p256::elliptic_curve::sec1::ToSec1Point;
use zeroize::Zeroizing;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
/// `[1]`, constructed.
const PUBLIC_KEY: u8 = 0xa1;

/// Below AlgorithmIdentifier: id-ecPublicKey and the curve.
const EC_P256: &[u8] =
    b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const EC_P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
/// id-Ed25519.
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

const ED25519_BYTES: usize = 32;

/// PKCS#8 of a key on P-256; none, if the number is none of its keys.
pub(super) fn p256(scalar: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let scalar = padded::<32>(scalar)?;
    let key = p256::SecretKey::from_slice(&*scalar).ok()?;
    let public = key.public_key().to_sec1_point(false);
    Some(ec(EC_P256, &*scalar, public.as_bytes()))
}

/// PKCS#8 of a key on P-384; none, if the number is none of its keys.
pub(super) fn p384(scalar: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let scalar = padded::<48>(scalar)?;
    let key = p384::SecretKey::from_slice(&*scalar).ok()?;
    let public = key.public_key().to_sec1_point(false);
    Some(ec(EC_P384, &*scalar, public.as_bytes()))
}

/// PKCS#8 of an Ed25519 key; none, if its length is wrong.
pub(super) fn ed25519(seed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    (seed.len() == ED25519_BYTES).then(|| pkcs8(ED25519, &element(OCTET_STRING, &[seed])))
}

/// A number in all of its digits: some leave out zeros in front, or write one more.
fn padded<const BYTES: usize>(number: &[u8]) -> Option<Zeroizing<[u8; BYTES]>> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = &number[zeros..];
    let mut padded = Zeroizing::new([0; BYTES]);
    let start = BYTES.checked_sub(digits.len())?;
    padded[start..].copy_from_slice(digits);
    Some(padded)
}

fn ec(algorithm: &[u8], scalar: &[u8], public: &[u8]) -> Zeroizing<Vec<u8>> {
    let version = element(INTEGER, &[&[1]]);
    let scalar = element(OCTET_STRING, &[scalar]);
    let public = element(PUBLIC_KEY, &[&element(BIT_STRING, &[&[0], public])]);
    pkcs8(algorithm, &element(SEQUENCE, &[&version, &scalar, &public]))
}

fn pkcs8(algorithm: &[u8], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let version = element(INTEGER, &[&[0]]);
    let algorithm = element(SEQUENCE, &[algorithm]);
    let key = element(OCTET_STRING, &[key]);
    element(SEQUENCE, &[&version, &algorithm, &key])
}

/// A DER element of fewer than 256 bytes, which suffices for a key on a curve.
fn element(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let short = u8::try_from(length).expect("a key on a curve is short");
    // Its place is reserved at once: a buffer that grows leaves copies of itself behind.
    let mut element = Zeroizing::new(Vec::with_capacity(length + 3));
    element.push(tag);
    if short > 0x7f {
        element.push(0x81);
    }
    element.push(short);
    for part in parts {
        element.extend_from_slice(part);
    }
    element
}
