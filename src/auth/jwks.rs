//! Sets of public keys, as issuers publish them (RFC 7517), that change while the server runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;

use super::key::{ED25519_BYTES, RSA_MIN_BYTES};
use crate::config::KeySource;

/// Most keys of a set; issuers publish two or three.
const KEYS_MAX: usize = 100;
/// Most keys tried for a token that does not say which one signed it.
const TRIES_MAX: usize = 8;

/// A set of keys as it is now.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<SetKey>,
}

struct SetKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Why a set cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is something else.
    #[error("it is not a JSON Web Key Set")]
    NotASet,
    /// It has no key that tokens are signed with here.
    #[error("it has no RSA key of 2048 bits or more and no Ed25519 key for signatures")]
    NoKey,
}

impl KeySet {
    /// The keys for RS256 and EdDSA in a published set. Keys of other kinds are passed over, and a
    /// secret that somebody published is none.
    ///
    /// # Errors
    ///
    /// As [`KeySetError`] says.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<Value>,
        }
        let set: Published = serde_json::from_slice(json).map_err(|_| KeySetError::NotASet)?;
        let known = set.keys.into_iter().take(KEYS_MAX).filter_map(|key| {
            let key: Jwk = serde_json::from_value(key).ok()?;
            set_key(&key)
        });
        let keys: Vec<SetKey> = known.collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self { keys }) }
    }

    /// The keys that may have signed a token with this algorithm: the one it names, or all if it
    /// names none.
    pub(super) fn of(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&SetKey| {
            key.algorithm == algorithm && id.is_none_or(|id| key.id.as_deref() == Some(id))
        };
        self.keys.iter().filter(fits).take(TRIES_MAX).map(|key| &key.key)
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn set_key(jwk: &Jwk) -> Option<SetKey> {
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
        return None;
    }
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
    let (algorithm, key) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = bytes(&rsa.n)?;
            let length = modulus.iter().skip_while(|byte| **byte == 0).count();
            if length < RSA_MIN_BYTES {
                return None;
            }
            (Algorithm::RS256, DecodingKey::from_rsa_components(&rsa.n, &rsa.e).ok()?)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            if bytes(&pair.x)?.len() != ED25519_BYTES {
                return None;
            }
            (Algorithm::EdDSA, DecodingKey::from_ed_components(&pair.x).ok()?)
        }
        _ => return None,
    };
    // A key made for another algorithm of its family is not used for this one.
    let named = common.key_algorithm.map(|named| named.to_string());
    let ours = match algorithm {
        Algorithm::RS256 => "RS256",
        _ => "EdDSA",
    };
    if named.is_some_and(|named| named != ours) {
        return None;
    }
    Some(SetKey { id: common.key_id.clone(), algorithm, key })
}

/// The keys of an issuer, wherever they come from. Clones share them.
#[derive(Clone)]
pub struct IssuerKeys {
    inside: Arc<Inside>,
}

struct Inside {
    source: KeySource,
    keys: ArcSwap<KeySet>,
    wanted: Notify,
}

impl IssuerKeys {
    /// No keys yet, to be had from `source`.
    pub(super) fn new(source: KeySource) -> Self {
        let inside = Inside { source, keys: ArcSwap::default(), wanted: Notify::new() };
        Self { inside: Arc::new(inside) }
    }

    /// Where they come from.
    #[must_use]
    pub fn source(&self) -> &KeySource {
        &self.inside.source
    }

    /// Checks tokens with `keys` from here on.
    pub fn change_to(&self, keys: KeySet) {
        self.inside.keys.store(Arc::new(keys));
    }

    /// Waits until a token names a key that is not in the set: the issuer may have a new one.
    pub async fn wanted(&self) {
        self.inside.wanted.notified().await;
    }

    /// Whether there are any.
    pub(super) fn are_there(&self) -> bool {
        !self.inside.keys.load().is_empty()
    }

    /// Whether one of them signed `message`.
    pub(super) fn signed(
        &self,
        message: &[u8],
        signature: &str,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> bool {
        let keys = self.inside.keys.load();
        let mut known = false;
        for key in keys.of(algorithm, id) {
            known = true;
            if jsonwebtoken::crypto::verify(signature, message, key, algorithm).unwrap_or(false) {
                return true;
            }
        }
        if !known {
            self.inside.wanted.notify_one();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(set: Value) -> Result<usize, KeySetError> {
        KeySet::parse(set.to_string().as_bytes()).map(|set| set.keys.len())
    }

    #[test]
    fn only_keys_for_signatures_are_taken() {
        let ed = |id: &str| {
            json!({"kty": "OKP", "crv": "Ed25519", "kid": id,
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
        };
        let short = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
        let long = json!({"kty": "RSA", "e": "AQAB", "alg": "RS256",
            "n": URL_SAFE_NO_PAD.encode([0xff; 256])});
        let secret = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"});
        let mut sealing = ed("b");
        sealing["use"] = "enc".into();
        let mut other = long.clone();
        other["alg"] = "RS512".into();
        let unknown = json!({"kty": "XYZ", "y": 1});
        let set = json!({"keys": [ed("a"), short, long, secret, sealing, other, unknown, 5]});
        assert_eq!(parse(set), Ok(2));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "null", "[]", "{}", "{\"keys\": 5}", "<html>"] {
            assert_eq!(KeySet::parse(text.as_bytes()).err(), Some(KeySetError::NotASet), "{text}");
        }
        assert_eq!(parse(json!({"keys": []})), Err(KeySetError::NoKey));
    }
}
