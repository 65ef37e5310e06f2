//! Settings as an administrator may see them: what was given and how, secrets as fingerprints.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Secret;

/// A setting that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its variable.
    pub setting: String,
    /// What was typed, without what may be secret in it; of a secret its [`fingerprint`].
    pub value: String,
    /// How it was given: `flag` or `variable`.
    pub source: &'static str,
}

/// Tells a secret from another without showing it: the first 12 digits of its SHA-256.
#[must_use]
pub fn fingerprint(secret: &Secret) -> String {
    let digest = Sha256::digest(secret.reveal().trim().as_bytes());
    let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// A value without what addresses may hide: a password, and what follows the path.
#[must_use]
pub fn masked(value: &str) -> String {
    let masked = value.split(',').map(|part| match part.split_once("://") {
        None => part.to_owned(),
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (host, path) = rest.split_at(end);
            let host =
                host.rsplit_once('@').map_or(host.to_owned(), |(_, host)| format!("***@{host}"));
            let path = match path.find(['?', '#']) {
                Some(at) => format!("{}?***", &path[..at]),
                None => path.to_owned(),
            };
            format!("{scheme}://{host}{path}")
        }
    });
    masked.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_queries_of_addresses_are_hidden() {
        for (value, shown) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("https://api.example/v1", "https://api.example/v1"),
            ("https://me:pw@api.example/v1?key=k", "https://***@api.example/v1?***"),
            ("redis://:p@ss@h#x,s3://b/p?secret=s", "redis://***@h?***,s3://b/p?***"),
            ("https://h", "https://h"),
        ] {
            assert_eq!(masked(value), shown);
        }
    }

    #[test]
    fn a_fingerprint_tells_secrets_apart() {
        let of = |text: &str| fingerprint(&Secret::from(text.to_owned()));
        // printf pump | sha256sum
        assert_eq!(of(" pump\n"), "sha256:0b203c464bb3");
        assert_ne!(of("pump"), of("seal"));
    }
}
