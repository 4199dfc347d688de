//! A private key from a PEM text, in the form that ring takes.
//!
//! AWS documents PKCS#8 alone, plain and under a password; PKCS#1 and SEC1 are read as well. A key leaves in
//! one form for each algorithm, whatever else its text said, because ring is strict: it takes no attributes,
//! and an EC key only with its public half, which Java does not write.
//!
//! Source: RFC 5958, RFC 8017 appendix A.1.2, RFC 5915, RFC 8410.
//!
//! Invariant: whatever is returned can sign.

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer};
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef, UintRef};
use x509_cert::der::{self, Decode, Reader, Tag};
use x509_cert::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::encrypted::{self, Failure};
use super::pem::{self, Block, PemError};
use super::{curve, oid};

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// The text is no PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// It holds other things.
    #[error("it holds no PRIVATE KEY, but {0}")]
    None(String),
    /// It is not clear which.
    #[error("it holds {0} private keys; leave only the one of the client certificate")]
    Several(usize),
    /// It is encrypted, and nobody says with what.
    #[error("it is encrypted, and the secret has no password for it: add privateKeyPassword")]
    PasswordMissing,
    /// What comes out is no key.
    #[error("privateKeyPassword is not the password of the key, or the key is damaged")]
    PasswordWrong,
    /// Encrypted as a text, which nothing but OpenSSL reads.
    #[error(
        "its encryption is a format of OpenSSL's own (Proc-Type: 4,ENCRYPTED); convert it: \
         openssl pkcs8 -topk8 -in key.pem -out key-pkcs8.pem"
    )]
    OpenSslEncrypted,
    /// Encrypted by a scheme that we lack.
    #[error(
        "it is encrypted with {0}, which is not supported; encrypt it anew: \
         openssl pkcs8 -topk8 -v2 aes-256-cbc -in key.pem -out key-pkcs8.pem"
    )]
    Encryption(String),
    /// A node has other things to do.
    #[error("to try a password on it costs too much ({0}); encrypt it anew, with less")]
    TooCostly(String),
    /// Another kind of key.
    #[error(
        "it is a key for {0}, which is not supported; take RSA with 2048, 3072 or 4096 bits, \
         EC on P-256 or P-384, or Ed25519"
    )]
    Algorithm(String),
    /// A curve by its equation.
    #[error(
        "its curve is given by its parameters; name it: \
         openssl ec -param_enc named_curve -in key.pem -out named.pem"
    )]
    UnnamedCurve,
    /// RSA, but not as ring does it.
    #[error("it is an RSA key of {0} bits; take one of 2048, 3072 or 4096 with the exponent 65537")]
    RsaSize(usize),
    /// It is not what its label says.
    #[error("what stands in its block {0} is no such key; it is damaged")]
    Malformed(String),
}

/// The only key in a PEM text. The password is not looked at unless the key is encrypted.
///
/// It may take a second of one CPU, where a password is to be tried. Whoever takes the key wipes it: its type
/// does not by itself.
pub(crate) fn private_key(
    text: &str,
    password: Option<&str>,
) -> Result<PrivateKeyDer<'static>, KeyError> {
    let blocks = pem::blocks(text)?;
    let is_key = |block: &&Block| block.label.ends_with("PRIVATE KEY");
    let keys: Vec<&Block> = blocks.iter().filter(is_key).collect();
    let block = match keys[..] {
        [block] => block,
        [] => {
            let labels: Vec<String> = blocks.iter().map(Block::shown_label).collect();
            return Err(KeyError::None(labels.join(", ")));
        }
        _ => return Err(KeyError::Several(keys.len())),
    };
    if block.encrypted {
        return Err(KeyError::OpenSslEncrypted);
    }
    let parameters = blocks.iter().find(|it| it.label == "EC PARAMETERS");
    let parameters = parameters.map(|block| block.der.as_slice());
    match read(block, parameters, password) {
        Ok(key) => Ok(key),
        Err(Failure::Key(error)) => Err(error),
        Err(Failure::Password) => Err(KeyError::PasswordWrong),
        Err(Failure::Malformed) => Err(KeyError::Malformed(block.shown_label())),
    }
}

fn read(
    block: &Block,
    parameters: Option<&[u8]>,
    password: Option<&str>,
) -> Result<PrivateKeyDer<'static>, Failure> {
    match block.label.as_str() {
        "PRIVATE KEY" => pkcs8(&block.der),
        "ENCRYPTED PRIVATE KEY" => {
            let password = password.ok_or(KeyError::PasswordMissing)?;
            let decrypted = encrypted::decrypt(&block.der, password)?;
            match pkcs8(&decrypted) {
                // One wrong password in 256 leaves a padding behind, by chance.
                Err(Failure::Malformed) => Err(Failure::Password),
                read => read,
            }
        }
        "RSA PRIVATE KEY" => rsa(&block.der),
        "EC PRIVATE KEY" => {
            let parameters = parameters.map(AnyRef::from_der).transpose()?;
            ec(&block.der, parameters)
        }
        "DSA PRIVATE KEY" => Err(KeyError::Algorithm("DSA".to_owned()).into()),
        other => {
            let kind = other.trim_end_matches("PRIVATE KEY").trim_end();
            let kind: String = kind.chars().filter(|c| !c.is_control()).take(20).collect();
            Err(KeyError::Algorithm(kind).into())
        }
    }
}

/// PrivateKeyInfo or OneAsymmetricKey: what comes behind the key itself is of no use here.
fn pkcs8(der: &[u8]) -> Result<PrivateKeyDer<'static>, Failure> {
    let (algorithm, key) = AnyRef::from_der(der)?.sequence(|reader| {
        let _version = u8::decode(reader)?;
        let algorithm = AlgorithmIdentifierRef::decode(reader)?;
        let key = <&OctetStringRef>::decode(reader)?;
        skip_rest(reader)?;
        der::Result::Ok((algorithm, key.as_bytes()))
    })?;
    match algorithm.oid {
        oid::RSA => rsa(key),
        oid::EC => ec(key, algorithm.parameters),
        oid::ED25519 => ed25519(key),
        other => Err(KeyError::Algorithm(oid::name(other)).into()),
    }
}

/// RSAPrivateKey.
fn rsa(der: &[u8]) -> Result<PrivateKeyDer<'static>, Failure> {
    let modulus = AnyRef::from_der(der)?.sequence(|reader| {
        let _version = u8::decode(reader)?;
        let modulus = UintRef::decode(reader)?;
        skip_rest(reader)?;
        der::Result::Ok(modulus.as_bytes())
    })?;
    let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = (8 * modulus.len()).saturating_sub(zeros as usize);
    let key = PrivatePkcs1KeyDer::from(der.to_vec()).into();
    signing(key, KeyError::RsaSize(bits).into())
}

/// ECPrivateKey, whose curve may stand elsewhere.
fn ec(der: &[u8], elsewhere: Option<AnyRef<'_>>) -> Result<PrivateKeyDer<'static>, Failure> {
    const PARAMETERS: u8 = 0;
    let (scalar, inside) = AnyRef::from_der(der)?.sequence(|reader| {
        let _version = u8::decode(reader)?;
        let scalar = <&OctetStringRef>::decode(reader)?;
        let mut inside = None;
        while !reader.is_finished() {
            let member = AnyRef::decode(reader)?;
            if let Tag::ContextSpecific { number, .. } = der::Tagged::tag(&member)
                && number.value() == u32::from(PARAMETERS)
            {
                inside = Some(AnyRef::from_der(member.value())?);
            }
        }
        der::Result::Ok((scalar.as_bytes(), inside))
    })?;
    let curve = match elsewhere.or(inside) {
        Some(named) if der::Tagged::tag(&named) == Tag::ObjectIdentifier => {
            named.decode_as::<ObjectIdentifier>()?
        }
        Some(_) => return Err(KeyError::UnnamedCurve.into()),
        None => {
            return Err(
                KeyError::Algorithm("EC on a curve that it does not name".to_owned()).into(),
            );
        }
    };
    let encoded = match curve {
        oid::P256 => curve::p256(scalar),
        oid::P384 => curve::p384(scalar),
        other => return Err(KeyError::Algorithm(format!("EC on {}", oid::name(other))).into()),
    };
    let mut encoded = encoded.ok_or(Failure::Malformed)?;
    let key = PrivatePkcs8KeyDer::from(std::mem::take(&mut *encoded)).into();
    signing(key, Failure::Malformed)
}

/// CurvePrivateKey.
fn ed25519(der: &[u8]) -> Result<PrivateKeyDer<'static>, Failure> {
    let seed = <&OctetStringRef>::from_der(der)?.as_bytes();
    let mut encoded = curve::ed25519(seed).ok_or(Failure::Malformed)?;
    let key = PrivatePkcs8KeyDer::from(std::mem::take(&mut *encoded)).into();
    signing(key, Failure::Malformed)
}

/// The key, if ring can sign with it.
fn signing(
    key: PrivateKeyDer<'static>,
    otherwise: Failure,
) -> Result<PrivateKeyDer<'static>, Failure> {
    match any_supported_type(&key) {
        Ok(_) => Ok(key),
        Err(_) => {
            drop(Zeroizing::new(key));
            Err(otherwise)
        }
    }
}

fn skip_rest<'a>(reader: &mut impl Reader<'a>) -> der::Result<()> {
    while !reader.is_finished() {
        AnyRef::decode(reader)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
