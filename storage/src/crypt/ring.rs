//! The key ring: numbered keys, one of which seals while all of them open.

use std::collections::BTreeMap;

use super::{Kek, Secret};
use crate::time::UnixMicros;

/// Every Fernet token begins so: its version byte, and the upper 28 bits of a time before 4147.
const TOKEN_PREFIX: &str = "gAAAAA";

/// Whether `text` is a sealed secret. What is not is a secret in the clear, from an import.
#[must_use]
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(TOKEN_PREFIX)
}

/// The loaded keys by version.
pub struct KeyRing {
    keys: BTreeMap<u32, Kek>,
    active: u32,
    /// The key of version `active`.
    sealer: Kek,
    /// Opens what other keys do not; a key whose version another key has taken.
    spare: Option<(u32, Kek)>,
}

/// Why keys make no ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Versions count from 1.
    #[error("key versions count from 1")]
    VersionZero,
    /// The key that is to seal is not there.
    #[error("Active KEK version {active} not found. Available versions: {available:?}")]
    ActiveMissing {
        /// Its version.
        active: u32,
        /// The versions there are, ascending.
        available: Vec<u32>,
    },
}

/// No loaded key opens it: it was sealed with another one, or it is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Decryption failed with all available KEKs")]
pub struct DecryptionFailed;

/// A sealed secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// A Fernet token.
    pub token: String,
    /// The version of the key that opens it.
    pub version: u32,
}

/// An opened secret.
pub struct Opened {
    /// What was sealed.
    pub secret: Secret,
    /// The version of the key that opened it.
    pub version: u32,
}

impl KeyRing {
    /// A ring that seals with the key of version `active`.
    ///
    /// # Errors
    ///
    /// [`RingError`] says which rule the versions break.
    pub fn new(keys: BTreeMap<u32, Kek>, active: u32) -> Result<KeyRing, RingError> {
        if keys.contains_key(&0) {
            return Err(RingError::VersionZero);
        }
        match keys.get(&active).cloned() {
            Some(sealer) => Ok(KeyRing { keys, active, sealer, spare: None }),
            None => {
                let available = keys.into_keys().collect();
                Err(RingError::ActiveMissing { active, available })
            }
        }
    }

    /// Adds a key for opening only. If another key has its version, it is tried last, and
    /// [`is_current`](KeyRing::is_current) tells the two apart.
    #[must_use]
    pub fn with_old(mut self, version: u32, kek: Kek) -> KeyRing {
        match self.keys.get(&version) {
            None => drop(self.keys.insert(version, kek)),
            Some(taken) if taken.is(&kek) => {}
            Some(_) => self.spare = Some((version, kek)),
        }
        self
    }

    /// The version that seals.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active
    }

    /// The versions that open, ascending.
    #[must_use]
    pub fn versions(&self) -> Vec<u32> {
        self.keys.keys().copied().collect()
    }

    /// Whether a key of this version is loaded.
    #[must_use]
    pub fn has(&self, version: u32) -> bool {
        self.keys.contains_key(&version)
    }

    /// Whether two different keys of this version are loaded.
    #[must_use]
    pub fn is_ambiguous(&self, version: u32) -> bool {
        self.spare.as_ref().is_some_and(|(spare, _)| *spare == version)
    }

    /// Seals with the active key. The token holds `now` in the clear.
    #[must_use]
    pub fn seal(&self, plaintext: &[u8], now: UnixMicros) -> Sealed {
        let token = self.sealer.seal(plaintext, now);
        Sealed { token, version: self.active }
    }

    /// Opens a token, first with the key of version `hint`, then with every other, ascending. The
    /// age of the token does not matter.
    ///
    /// # Errors
    ///
    /// [`DecryptionFailed`].
    pub fn open(&self, token: &str, hint: u32) -> Result<Opened, DecryptionFailed> {
        let hinted = self.keys.get(&hint).map(|kek| (hint, kek));
        let others = self.keys.iter().filter(|(version, _)| **version != hint);
        let others = others.map(|(version, kek)| (*version, kek));
        let spare = self.spare.as_ref().map(|(version, kek)| (*version, kek));
        hinted
            .into_iter()
            .chain(others)
            .chain(spare)
            .find_map(|(version, kek)| Some(Opened { secret: kek.open(token)?, version }))
            .ok_or(DecryptionFailed)
    }

    /// Whether the active key itself opens a token.
    #[must_use]
    pub fn is_current(&self, token: &str) -> bool {
        self.sealer.open(token).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEC: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const SPEC_TOKEN: &str = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
    const OWN: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OWN_TOKEN: &str = "gAAAAABpVbkAAAECAwQFBgcICQoLDA0OD8lLEYUrDkz0b1pFer_KmgZqa_XRmUqoca2Z1sEfNaWJiDHNfIaFw06qGhHjkqK3Zsfy-YfcPFoMz1Kv2iW1Ajc=";
    const SECOND: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    const NOW: UnixMicros = UnixMicros(1_770_000_000_000_000);

    fn kek(text: &str) -> Kek {
        Kek::parse(text).unwrap()
    }

    fn ring(keys: &[(u32, &str)], active: u32) -> KeyRing {
        let keys = keys.iter().map(|(version, text)| (*version, kek(text)));
        KeyRing::new(keys.collect(), active).unwrap()
    }

    fn text(opened: &Opened) -> (&str, u32) {
        (opened.secret.reveal_text().unwrap(), opened.version)
    }

    #[test]
    fn public_vectors_open() {
        let ring = ring(&[(1, SPEC), (2, OWN)], 1);
        assert_eq!(text(&ring.open(SPEC_TOKEN, 1).unwrap()), ("hello", 1));
        assert_eq!(text(&ring.open(OWN_TOKEN, 2).unwrap()), ("AKIAIOSFODNN7EXAMPLE", 2));
    }

    #[test]
    fn a_wrong_hint_only_costs_time() {
        let ring = ring(&[(1, SPEC), (2, SECOND), (7, OWN)], 2);
        for hint in [0, 1, 2, 7, 8] {
            assert_eq!(ring.open(OWN_TOKEN, hint).unwrap().version, 7);
        }
    }

    #[test]
    fn the_active_key_seals() {
        let keys = [(1, OWN), (2, SECOND)];
        let sealed = ring(&keys, 2).seal(b"secret", NOW);
        assert_eq!(sealed.version, 2);
        assert!(is_sealed(&sealed.token));
        assert_eq!(text(&ring(&keys, 1).open(&sealed.token, 1).unwrap()), ("secret", 2));
        let error = ring(&keys[..1], 1).open(&sealed.token, 2).err().unwrap();
        assert_eq!(error.to_string(), "Decryption failed with all available KEKs");
    }

    #[test]
    fn clocks_that_are_wrong_lock_nobody_out() {
        let ring = ring(&[(1, OWN)], 1);
        for now in [UnixMicros(i64::MIN), UnixMicros(0), UnixMicros(i64::MAX)] {
            let sealed = ring.seal(b"x", now);
            assert!(is_sealed(&sealed.token));
            assert_eq!(text(&ring.open(&sealed.token, 1).unwrap()), ("x", 1));
        }
    }

    #[test]
    fn rings_need_their_active_key() {
        let keys = || [3, 1].map(|version| (version, kek(OWN))).into();
        let error = KeyRing::new(keys(), 2).err().unwrap();
        assert_eq!(error.to_string(), "Active KEK version 2 not found. Available versions: [1, 3]");
        assert!(KeyRing::new(BTreeMap::new(), 1).is_err());
        assert_eq!(KeyRing::new([(0, kek(OWN))].into(), 0).err(), Some(RingError::VersionZero));
        let ring = KeyRing::new(keys(), 3).unwrap();
        assert_eq!((ring.active(), ring.versions()), (3, vec![1, 3]));
    }

    #[test]
    fn an_old_key_opens_and_never_seals() {
        let first = ring(&[(1, OWN)], 1).seal(b"old", NOW);
        // Under its own version, beside another key of that version, and beside itself.
        let free = ring(&[(2, SECOND)], 2).with_old(1, kek(OWN));
        assert_eq!((free.versions(), free.is_ambiguous(1)), (vec![1, 2], false));
        let taken = ring(&[(1, SECOND)], 1).with_old(1, kek(OWN));
        assert_eq!((taken.versions(), taken.is_ambiguous(1)), (vec![1], true));
        let same = ring(&[(1, OWN)], 1).with_old(1, kek(OWN));
        assert!(!same.is_ambiguous(1) && same.is_current(&first.token));
        for ring in [&free, &taken] {
            assert_eq!(text(&ring.open(&first.token, 1).unwrap()), ("old", 1));
            assert!(!ring.is_current(&first.token));
            assert!(ring.is_current(&ring.seal(b"new", NOW).token));
        }
    }

    #[test]
    fn any_changed_character_is_an_error() {
        let ring = ring(&[(1, OWN)], 1);
        for at in 0..OWN_TOKEN.len() {
            for bit in 0..7 {
                let mut changed = OWN_TOKEN.as_bytes().to_vec();
                changed[at] ^= 1 << bit;
                let changed = String::from_utf8(changed).unwrap();
                assert!(ring.open(&changed, 1).is_err(), "bit {bit} of character {at}");
            }
        }
        // The padding says nothing, and some programs leave it out.
        let token = OWN_TOKEN.trim_end_matches('=');
        assert_eq!(text(&ring.open(token, 1).unwrap()), ("AKIAIOSFODNN7EXAMPLE", 1));
        for cut in 0..token.len() {
            assert!(ring.open(&token[..cut], 1).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(plaintext in prop::collection::vec(any::<u8>(), 0..200)) {
            let ring = ring(&[(1, OWN)], 1);
            let sealed = ring.seal(&plaintext, NOW);
            let opened = ring.open(&sealed.token, 1).unwrap();
            prop_assert_eq!(opened.secret.reveal(), plaintext);
        }

        #[test]
        fn other_texts_are_an_error(token in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            use base64::Engine as _;
            let ring = ring(&[(1, OWN)], 1);
            prop_assert!(ring.open(&token, 1).is_err());
            let bytes = [&[0x80], bytes.as_slice()].concat();
            let token = base64::engine::general_purpose::URL_SAFE.encode(bytes);
            prop_assert!(ring.open(&token, 1).is_err());
        }
    }
}
