//! Keys under a password: PKCS#8's EncryptedPrivateKeyInfo, and PBES2.
//!
//! Why our own PBES2: the crate pkcs5 panics on a scrypt cost of zero and on a short initialization vector,
//! has no limits, and leaves the derived key in memory.
//!
//! Source: RFC 5958 section 3; RFC 8018 section 6.2 and appendices A.2, A.4, B; RFC 7914.
//!
//! Invariant: a key asks for no more work and memory than the limits here.

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use pbkdf2::pbkdf2_hmac;
use x509_cert::der::asn1::{AnyRef, OctetStringRef};
use x509_cert::der::{self, Decode};
use x509_cert::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::key::KeyError;
use super::{oid, pbes1};

/// Rounds of a hash, for one password. Three times what OWASP recommends for SHA-256; below a second. A fuzzer
/// tries many.
pub(super) const ITERATIONS_MAX: u32 = if cfg!(fuzzing) { 4_096 } else { 2_000_000 };

/// Memory that scrypt may take: four times what OpenSSL asks for.
pub(super) const SCRYPT_BYTES_MAX: u64 = if cfg!(fuzzing) { 1 << 20 } else { 64 << 20 };

/// Times that scrypt may go through its memory.
pub(super) const SCRYPT_PARALLELISM_MAX: u64 = 4;

/// The longest key of a cipher.
const KEY_BYTES_MAX: usize = 32;

/// Why something under a password stays there.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is not what it has to be.
    Malformed,
    /// The padding is wrong, which is how a wrong password shows.
    Password,
    /// Another error.
    Key(KeyError),
}

impl From<der::Error> for Failure {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// A PKCS#8 key without its encryption.
pub(super) fn decrypt(der: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (scheme, ciphertext) = AnyRef::from_der(der)?.sequence(|reader| {
        let scheme = AlgorithmIdentifierRef::decode(reader)?;
        let ciphertext = <&OctetStringRef>::decode(reader)?;
        der::Result::Ok((scheme, ciphertext.as_bytes()))
    })?;
    if let Some(decrypted) = pbes1::decrypt(&scheme, password, ciphertext) {
        return decrypted;
    }
    match scheme.oid {
        oid::PBES2 => pbes2(required(&scheme)?, password, ciphertext),
        other => Err(unsupported(other)),
    }
}

/// CBC with the padding of RFC 8018 section 6.1.1.
pub(super) fn decrypt_cbc<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let cipher = Decryptor::<C>::new_from_slices(key, iv).map_err(|_| Failure::Malformed)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let decrypted = cipher.decrypt_padded::<Pkcs7>(&mut buffer);
    let length = decrypted.map_err(|_| Failure::Password)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// Checks a number of rounds.
pub(super) fn iterations(count: u64) -> Result<u32, Failure> {
    match u32::try_from(count) {
        Ok(0) => Err(Failure::Malformed),
        Ok(count @ ..=ITERATIONS_MAX) => Ok(count),
        _ => Err(KeyError::TooCostly(format!("{count} iterations, of {ITERATIONS_MAX}")).into()),
    }
}

fn pbes2(
    parameters: AnyRef<'_>,
    password: &str,
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (derivation, encryption) = parameters.sequence(|reader| {
        let derivation = AlgorithmIdentifierRef::decode(reader)?;
        der::Result::Ok((derivation, AlgorithmIdentifierRef::decode(reader)?))
    })?;
    let decrypt = match encryption.oid {
        oid::AES128_CBC => (16, decrypt_cbc::<aes::Aes128Dec> as fn(&_, &_, &_) -> _),
        oid::AES192_CBC => (24, decrypt_cbc::<aes::Aes192Dec> as _),
        oid::AES256_CBC => (32, decrypt_cbc::<aes::Aes256Dec> as _),
        oid::DES_EDE3_CBC => (24, decrypt_cbc::<des::TdesEde3> as _),
        oid::DES_CBC => (8, decrypt_cbc::<des::Des> as _),
        other => return Err(unsupported(other)),
    };
    let (key_bytes, decrypt) = decrypt;
    let iv = required(&encryption)?.decode_as::<&OctetStringRef>()?;
    let mut key = Zeroizing::new([0; KEY_BYTES_MAX]);
    let key = &mut key[..key_bytes];
    let parameters = required(&derivation)?;
    match derivation.oid {
        oid::PBKDF2 => derive_by_pbkdf2(parameters, password.as_bytes(), key)?,
        oid::SCRYPT => derive_by_scrypt(parameters, password.as_bytes(), key)?,
        other => return Err(unsupported(other)),
    }
    decrypt(key, iv.as_bytes(), ciphertext)
}

fn derive_by_pbkdf2(
    parameters: AnyRef<'_>,
    password: &[u8],
    key: &mut [u8],
) -> Result<(), Failure> {
    let (salt, count, length, hash) = parameters.sequence(|reader| {
        let salt = <&OctetStringRef>::decode(reader)?;
        let count = u64::decode(reader)?;
        let length = Option::<u64>::decode(reader)?;
        let hash = Option::<AlgorithmIdentifierRef<'_>>::decode(reader)?;
        der::Result::Ok((salt.as_bytes(), count, length, hash))
    })?;
    let count = iterations(count)?;
    check_length(length, key)?;
    match hash.map_or(oid::HMAC_SHA1, |hash| hash.oid) {
        oid::HMAC_SHA1 => pbkdf2_hmac::<sha1::Sha1>(password, salt, count, key),
        oid::HMAC_SHA224 => pbkdf2_hmac::<sha2::Sha224>(password, salt, count, key),
        oid::HMAC_SHA256 => pbkdf2_hmac::<sha2::Sha256>(password, salt, count, key),
        oid::HMAC_SHA384 => pbkdf2_hmac::<sha2::Sha384>(password, salt, count, key),
        oid::HMAC_SHA512 => pbkdf2_hmac::<sha2::Sha512>(password, salt, count, key),
        oid::HMAC_SHA512_224 => pbkdf2_hmac::<sha2::Sha512_224>(password, salt, count, key),
        oid::HMAC_SHA512_256 => pbkdf2_hmac::<sha2::Sha512_256>(password, salt, count, key),
        other => return Err(unsupported(other)),
    }
    Ok(())
}

fn derive_by_scrypt(
    parameters: AnyRef<'_>,
    password: &[u8],
    key: &mut [u8],
) -> Result<(), Failure> {
    let (salt, [cost, block, parallelism], length) = parameters.sequence(|reader| {
        let salt = <&OctetStringRef>::decode(reader)?;
        let mut numbers = [0; 3];
        for number in &mut numbers {
            *number = u64::decode(reader)?;
        }
        let length = Option::<u64>::decode(reader)?;
        der::Result::Ok((salt.as_bytes(), numbers, length))
    })?;
    check_length(length, key)?;
    if !cost.is_power_of_two() || cost == 1 {
        return Err(Failure::Malformed);
    }
    // Each of its p lanes has a block beside the memory that they take in turn.
    let bytes = cost.max(parallelism).checked_mul(block);
    let bytes = bytes.and_then(|blocks| blocks.checked_mul(128));
    if bytes.is_none_or(|bytes| bytes > SCRYPT_BYTES_MAX) || parallelism > SCRYPT_PARALLELISM_MAX {
        let said = format!("scrypt with N={cost}, r={block}, p={parallelism}");
        return Err(KeyError::TooCostly(said).into());
    }
    let small = |number: u64| u32::try_from(number).map_err(|_| Failure::Malformed);
    let log_cost = u8::try_from(cost.trailing_zeros()).map_err(|_| Failure::Malformed)?;
    let parameters = scrypt::Params::new(log_cost, small(block)?, small(parallelism)?);
    let parameters = parameters.map_err(|_| Failure::Malformed)?;
    scrypt::scrypt(password, salt, &parameters, key).map_err(|_| Failure::Malformed)
}

/// A derivation may repeat how long the cipher's key is.
fn check_length(length: Option<u64>, key: &[u8]) -> Result<(), Failure> {
    match length {
        Some(length) if length != key.len() as u64 => Err(Failure::Malformed),
        _ => Ok(()),
    }
}

fn required<'a>(algorithm: &AlgorithmIdentifierRef<'a>) -> Result<AnyRef<'a>, Failure> {
    algorithm.parameters.ok_or(Failure::Malformed)
}

fn unsupported(oid: der::asn1::ObjectIdentifier) -> Failure {
    KeyError::Encryption(oid::name(oid)).into()
}
