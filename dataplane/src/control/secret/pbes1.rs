//! PBES1, which AWS's contract names, in PKCS#5's own schemes and in those of PKCS#12, which OpenSSL and Java
//! count among them. Weak by today's measure; the secret's store is what protects the key.
//!
//! Source: RFC 8018 sections 5.1 and 6.1 and appendix A.3; RFC 7292 appendices B and C.

use md5::Md5;
use sha1::Sha1;
use sha1::digest::Digest;
use x509_cert::der::asn1::OctetStringRef;
use x509_cert::der::{self, Decode};
use x509_cert::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::encrypted::{Failure, decrypt_cbc, iterations};
use super::oid;

/// The block of all its ciphers, and so their initialization vector.
const BLOCK_BYTES: usize = 8;

/// What SHA-1 takes in, and puts out.
const SHA1_BLOCK_BYTES: usize = 64;
const SHA1_BYTES: usize = 20;

/// What a derived value is for: RFC 7292 B.3.
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
}

type Decrypted = Result<Zeroizing<Vec<u8>>, Failure>;

/// Decrypts, if it is one of these schemes.
pub(super) fn decrypt(
    scheme: &AlgorithmIdentifierRef<'_>,
    password: &str,
    ciphertext: &[u8],
) -> Option<Decrypted> {
    type Scheme = fn(&str, &[u8], u32, &[u8]) -> Decrypted;
    let decrypt: Scheme = match scheme.oid {
        oid::MD5_DES => |password, salt, count, ciphertext| {
            let (key, iv) = pbkdf1::<Md5>(password, salt, count);
            decrypt_cbc::<des::Des>(&*key, &*iv, ciphertext)
        },
        oid::MD5_RC2 => |password, salt, count, ciphertext| {
            let (key, iv) = pbkdf1::<Md5>(password, salt, count);
            decrypt_cbc::<rc2::Rc2>(&*key, &*iv, ciphertext)
        },
        oid::SHA1_DES => |password, salt, count, ciphertext| {
            let (key, iv) = pbkdf1::<Sha1>(password, salt, count);
            decrypt_cbc::<des::Des>(&*key, &*iv, ciphertext)
        },
        oid::SHA1_RC2 => |password, salt, count, ciphertext| {
            let (key, iv) = pbkdf1::<Sha1>(password, salt, count);
            decrypt_cbc::<rc2::Rc2>(&*key, &*iv, ciphertext)
        },
        oid::PKCS12_3DES_3KEY => |password, salt, count, ciphertext| {
            let (key, iv) = pkcs12::<24>(password, salt, count);
            decrypt_cbc::<des::TdesEde3>(&*key, &*iv, ciphertext)
        },
        oid::PKCS12_3DES_2KEY => |password, salt, count, ciphertext| {
            let (key, iv) = pkcs12::<16>(password, salt, count);
            decrypt_cbc::<des::TdesEde2>(&*key, &*iv, ciphertext)
        },
        // RC2's effective length is that of the key: 128 and 40 bits.
        oid::PKCS12_RC2_128 => |password, salt, count, ciphertext| {
            let (key, iv) = pkcs12::<16>(password, salt, count);
            decrypt_cbc::<rc2::Rc2>(&*key, &*iv, ciphertext)
        },
        oid::PKCS12_RC2_40 => |password, salt, count, ciphertext| {
            let (key, iv) = pkcs12::<5>(password, salt, count);
            decrypt_cbc::<rc2::Rc2>(&*key, &*iv, ciphertext)
        },
        _ => return None,
    };
    Some(parameters(scheme).and_then(|(salt, count)| decrypt(password, salt, count, ciphertext)))
}

/// Salt and rounds.
fn parameters<'a>(scheme: &AlgorithmIdentifierRef<'a>) -> Result<(&'a [u8], u32), Failure> {
    let parameters = scheme.parameters.ok_or(Failure::Malformed)?;
    let (salt, count) = parameters.sequence(|reader| {
        let salt = <&OctetStringRef>::decode(reader)?;
        der::Result::Ok((salt.as_bytes(), u64::decode(reader)?))
    })?;
    Ok((salt, iterations(count)?))
}

type KeyAndIv<const KEY: usize> = (Zeroizing<[u8; KEY]>, Zeroizing<[u8; BLOCK_BYTES]>);

/// Key and initialization vector, by PBKDF1.
fn pbkdf1<D: Digest>(password: &str, salt: &[u8], count: u32) -> KeyAndIv<BLOCK_BYTES> {
    let mut derived = D::new()
        .chain_update(password.as_bytes())
        .chain_update(salt)
        .finalize();
    for _ in 1..count {
        derived = D::digest(&derived);
    }
    let mut key = Zeroizing::new([0; BLOCK_BYTES]);
    let mut iv = key.clone();
    fill(&mut *key, &derived);
    fill(&mut *iv, &derived[BLOCK_BYTES..]);
    (key, iv)
}

/// Key and initialization vector, by PKCS#12's way.
fn pkcs12<const KEY: usize>(password: &str, salt: &[u8], count: u32) -> KeyAndIv<KEY> {
    let mut key = Zeroizing::new([0; KEY]);
    let mut iv = Zeroizing::new([0; BLOCK_BYTES]);
    derive_by_pkcs12(password, salt, count, Purpose::Key, &mut key[..]);
    derive_by_pkcs12(password, salt, count, Purpose::Iv, &mut iv[..]);
    (key, iv)
}

/// RFC 7292 B.2, with SHA-1.
fn derive_by_pkcs12(password: &str, salt: &[u8], count: u32, purpose: Purpose, out: &mut [u8]) {
    // A BMPString with its terminator: RFC 7292 B.1.
    let mut units = Zeroizing::new(Vec::with_capacity(2 * password.len() + 2));
    for unit in password.encode_utf16().chain([0]) {
        units.extend_from_slice(&unit.to_be_bytes());
    }
    let whole = |bytes: &[u8]| bytes.len().next_multiple_of(SHA1_BLOCK_BYTES);
    let mut input = Zeroizing::new(Vec::with_capacity(whole(salt) + whole(&units)));
    input.extend(salt.iter().cycle().take(whole(salt)));
    input.extend(units.iter().cycle().take(whole(&units)));
    for part in out.chunks_mut(SHA1_BYTES) {
        let mut hash = Sha1::new()
            .chain_update([purpose as u8; SHA1_BLOCK_BYTES])
            .chain_update(input.as_slice())
            .finalize();
        for _ in 1..count {
            hash = Sha1::digest(hash);
        }
        fill(part, &hash);
        for block in input.chunks_mut(SHA1_BLOCK_BYTES) {
            add_and_one(block, &hash);
        }
    }
}

/// Adds `hash`, repeated to the length of `block`, and one, as numbers whose largest digit is the first.
fn add_and_one(block: &mut [u8], hash: &[u8]) {
    let mut carry = 1;
    for (at, byte) in block.iter_mut().enumerate().rev() {
        let sum = u16::from(*byte) + u16::from(hash[at % hash.len()]) + carry;
        let [high, low] = sum.to_be_bytes();
        (*byte, carry) = (low, u16::from(high));
    }
}

fn fill(to: &mut [u8], from: &[u8]) {
    let bytes = to.len();
    to.copy_from_slice(&from[..bytes]);
}
