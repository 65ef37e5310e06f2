//! Keys for tokens, from the ways they are written down.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

use crate::config::{Jwt, JwtAlgorithm, JwtKey};

/// 2048 bits, the least RFC 7518 (3.3) allows.
pub(super) const RSA_MIN_BYTES: usize = 256;
pub(super) const ED25519_BYTES: usize = 32;

/// Why tokens cannot be checked; names the setting, never the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// The setting is unset.
    #[error("{setting} is not set; JWT_ALGORITHM={algorithm} needs it")]
    Missing {
        /// The variable.
        setting: &'static str,
        /// The algorithm.
        algorithm: &'static str,
    },
    /// The setting holds something else.
    #[error("JWT_PUBLIC_KEY is not a public key for {algorithm} in PEM form")]
    Unreadable {
        /// The algorithm.
        algorithm: &'static str,
    },
}

pub(super) fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// The key tokens are checked with, tried out once.
pub(super) fn verifying_key(jwt: &Jwt) -> Result<DecodingKey, KeyProblem> {
    let name = jwt.algorithm.as_str();
    let unreadable = || KeyProblem::Unreadable { algorithm: name };
    let key = match (jwt.algorithm, &jwt.key) {
        (JwtAlgorithm::Hs256, JwtKey::Secret(secret)) => {
            DecodingKey::from_secret(secret.reveal().as_bytes())
        }
        (JwtAlgorithm::Rs256, JwtKey::Public(text)) => {
            DecodingKey::from_rsa_pem(pem(text).as_bytes()).map_err(|_| unreadable())?
        }
        (JwtAlgorithm::EdDsa, JwtKey::Public(text)) => {
            DecodingKey::from_ed_pem(pem(text).as_bytes()).map_err(|_| unreadable())?
        }
        (algorithm, _) => {
            let secret = algorithm == JwtAlgorithm::Hs256;
            let setting = if secret { "JWT_SECRET_KEY" } else { "JWT_PUBLIC_KEY" };
            return Err(KeyProblem::Missing { setting, algorithm: name });
        }
    };
    // The PEM reader looks at the wrapping only, and a key that cannot be used would make every
    // signature look wrong.
    let bytes = key.try_get_as_bytes().map_err(|_| unreadable())?;
    let usable = match jwt.algorithm {
        JwtAlgorithm::Hs256 => true,
        JwtAlgorithm::Rs256 => modulus_bytes(bytes).is_some_and(|length| length >= RSA_MIN_BYTES),
        JwtAlgorithm::EdDsa => bytes.len() == ED25519_BYTES,
    };
    if usable { Ok(key) } else { Err(unreadable()) }
}

/// Length of the modulus of an RSA public key, a DER sequence of modulus and exponent. A private
/// key begins with a version and comes out as length 1.
fn modulus_bytes(der: &[u8]) -> Option<usize> {
    let (tag, sequence) = der_value(der)?;
    let (first, modulus) = der_value(sequence)?;
    (tag == 0x30 && first == 0x02)
        .then(|| modulus.iter().skip_while(|byte| **byte == 0).count().max(1))
}

/// Tag and content of the DER value `bytes` begin with.
fn der_value(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if length < 0x80 {
        return Some((tag, rest.get(..usize::from(length))?));
    }
    // The long form: the low bits count the bytes of the length.
    let (length, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
    if length.len() > 4 {
        return None;
    }
    let length = length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
    Some((tag, rest.get(..length)?))
}

/// The key development tokens are signed with.
/// Only a secret signs: private keys stay with whoever issues tokens.
pub(super) fn signing_key(jwt: &Jwt) -> Result<EncodingKey, KeyProblem> {
    match &jwt.key {
        JwtKey::Secret(secret) => Ok(EncodingKey::from_secret(secret.reveal().as_bytes())),
        JwtKey::Missing | JwtKey::Public(_) | JwtKey::Published(_) => Err(KeyProblem::Missing {
            setting: "JWT_SECRET_KEY",
            algorithm: JwtAlgorithm::Hs256.as_str(),
        }),
    }
}

/// PEM text from PEM, PEM with `\n` written out, or base64 of either; other text comes back as it
/// is and fails to parse as a key.
fn pem(text: &str) -> String {
    let unescaped = |text: &str| text.trim().replace("\\n", "\n");
    let text = unescaped(text);
    if text.starts_with("-----BEGIN") {
        return text;
    }
    let compact: String = text.split_whitespace().collect();
    match STANDARD.decode(compact).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(decoded) => unescaped(&decoded),
        None => text,
    }
}
