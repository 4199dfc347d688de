//! The object identifiers that keys and their encryption name.

use x509_cert::der::asn1::ObjectIdentifier as Oid;

const fn oid(text: &str) -> Oid {
    Oid::new_unwrap(text)
}

// Kinds of keys: RFC 8017, 5480, 8410.
pub(super) const RSA: Oid = oid("1.2.840.113549.1.1.1");
pub(super) const EC: Oid = oid("1.2.840.10045.2.1");
pub(super) const ED25519: Oid = oid("1.3.101.112");
pub(super) const P256: Oid = oid("1.2.840.10045.3.1.7");
pub(super) const P384: Oid = oid("1.3.132.0.34");

// PBES1: RFC 8018 A.3, and RFC 7292 appendix C.
pub(super) const MD5_DES: Oid = oid("1.2.840.113549.1.5.3");
pub(super) const MD5_RC2: Oid = oid("1.2.840.113549.1.5.6");
pub(super) const SHA1_DES: Oid = oid("1.2.840.113549.1.5.10");
pub(super) const SHA1_RC2: Oid = oid("1.2.840.113549.1.5.11");
pub(super) const PKCS12_3DES_3KEY: Oid = oid("1.2.840.113549.1.12.1.3");
pub(super) const PKCS12_3DES_2KEY: Oid = oid("1.2.840.113549.1.12.1.4");
pub(super) const PKCS12_RC2_128: Oid = oid("1.2.840.113549.1.12.1.5");
pub(super) const PKCS12_RC2_40: Oid = oid("1.2.840.113549.1.12.1.6");

// PBES2: RFC 8018 A.2, A.4, B; RFC 7914 section 7.
pub(super) const PBES2: Oid = oid("1.2.840.113549.1.5.13");
pub(super) const PBKDF2: Oid = oid("1.2.840.113549.1.5.12");
pub(super) const SCRYPT: Oid = oid("1.3.6.1.4.1.11591.4.11");
pub(super) const HMAC_SHA1: Oid = oid("1.2.840.113549.2.7");
pub(super) const HMAC_SHA224: Oid = oid("1.2.840.113549.2.8");
pub(super) const HMAC_SHA256: Oid = oid("1.2.840.113549.2.9");
pub(super) const HMAC_SHA384: Oid = oid("1.2.840.113549.2.10");
pub(super) const HMAC_SHA512: Oid = oid("1.2.840.113549.2.11");
pub(super) const HMAC_SHA512_224: Oid = oid("1.2.840.113549.2.12");
pub(super) const HMAC_SHA512_256: Oid = oid("1.2.840.113549.2.13");
pub(super) const AES128_CBC: Oid = oid("2.16.840.1.101.3.4.1.2");
pub(super) const AES192_CBC: Oid = oid("2.16.840.1.101.3.4.1.22");
pub(super) const AES256_CBC: Oid = oid("2.16.840.1.101.3.4.1.42");
pub(super) const DES_CBC: Oid = oid("1.3.14.3.2.7");
pub(super) const DES_EDE3_CBC: Oid = oid("1.2.840.113549.3.7");

/// What is met and not supported, by the name that its users know.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.7", "RSAES-OAEP"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.113549.1.3.1", "Diffie-Hellman"),
    ("1.2.840.10046.2.1", "Diffie-Hellman"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.111", "X448"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
    ("1.2.840.113549.1.5.1", "pbeWithMD2AndDES-CBC"),
    ("1.2.840.113549.1.5.4", "pbeWithMD2AndRC2-CBC"),
    ("1.2.840.113549.1.5.14", "PBMAC1"),
    ("1.2.840.113549.1.12.1.1", "pbeWithSHAAnd128BitRC4"),
    ("1.2.840.113549.1.12.1.2", "pbeWithSHAAnd40BitRC4"),
    ("1.2.840.113549.2.6", "HMAC-MD5"),
    ("1.2.840.113549.3.2", "RC2-CBC under PBES2"),
    ("1.2.840.113549.3.4", "RC4"),
    ("1.2.840.113549.3.9", "RC5-CBC"),
    ("2.16.840.1.101.3.4.1.6", "AES-128-GCM"),
    ("2.16.840.1.101.3.4.1.26", "AES-192-GCM"),
    ("2.16.840.1.101.3.4.1.46", "AES-256-GCM"),
    ("1.2.392.200011.61.1.1.1.4", "CAMELLIA-256-CBC"),
];

/// The name of what is not supported, or the identifier itself.
pub(super) fn name(oid: Oid) -> String {
    let number = oid.to_string();
    match UNSUPPORTED.iter().find(|(it, _)| *it == number) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("the algorithm {number}"),
    }
}
