//! The names that scripts know the queues by.

use activekg_storage::ids::{NodeId, TenantId};

use crate::connectors::Provider;

/// What a name is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// A tenant's changes of a provider.
    Changes(Provider, TenantId),
    /// Those that were given up.
    DeadChanges(Provider, TenantId),
    /// Jobs of the embedder that are ready.
    Embeddings,
    /// Those that are tried again later.
    DelayedEmbeddings,
    /// Those that were given up.
    DeadEmbeddings,
    /// Whether a node has a job.
    Pending(NodeId),
    /// How many jobs a tenant has.
    TenantPending(TenantId),
    /// The connectors that run.
    ActiveTenants,
}

impl Key {
    /// What the name is of; nothing for any other name, which is an empty one to its readers.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        let tenant = |name| TenantId::new(name).ok();
        match name {
            "embedding:queue" => return Some(Self::Embeddings),
            "embedding:retry" => return Some(Self::DelayedEmbeddings),
            "embedding:dlq" => return Some(Self::DeadEmbeddings),
            "connector:active_tenants" => return Some(Self::ActiveTenants),
            _ => {}
        }
        if let Some(rest) = name.strip_prefix("embedding:tenant:pending:") {
            return tenant(rest).map(Self::TenantPending);
        }
        if let Some(rest) = name.strip_prefix("embedding:pending:") {
            return rest.parse().ok().map(Self::Pending);
        }
        // A tenant's name may hold colons.
        if let Some((provider, rest)) = name.strip_prefix("dlq:").and_then(|n| n.split_once(':')) {
            return Some(Self::DeadChanges(Provider::named(provider)?, tenant(rest)?));
        }
        let (provider, rest) = name.strip_prefix("connector:")?.split_once(':')?;
        let provider = Provider::named(provider)?;
        if let Some(name) = rest.strip_suffix(":queue") {
            return Some(Self::Changes(provider, tenant(name)?));
        }
        Some(Self::DeadChanges(provider, tenant(rest.strip_suffix(":dlq")?)?))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changes(provider, tenant) => {
                write!(f, "connector:{}:{tenant}:queue", provider.as_str())
            }
            Self::DeadChanges(provider, tenant) => {
                write!(f, "connector:{}:{tenant}:dlq", provider.as_str())
            }
            Self::Embeddings => f.write_str("embedding:queue"),
            Self::DelayedEmbeddings => f.write_str("embedding:retry"),
            Self::DeadEmbeddings => f.write_str("embedding:dlq"),
            Self::Pending(node) => write!(f, "embedding:pending:{node}"),
            Self::TenantPending(tenant) => write!(f, "embedding:tenant:pending:{tenant}"),
            Self::ActiveTenants => f.write_str("connector:active_tenants"),
        }
    }
}

/// Whether a name is of a pattern, in which `*` is any text and `?` any byte.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on when what follows the latest star does not fit.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    p = after;
                    n = from + 1;
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let node = "00000000-0000-4000-8000-000000000000";
        for name in [
            "connector:gcs:default:queue".to_owned(),
            "connector:s3:a:b:c:dlq".to_owned(),
            "embedding:queue".to_owned(),
            "embedding:retry".to_owned(),
            "embedding:dlq".to_owned(),
            format!("embedding:pending:{node}"),
            "embedding:tenant:pending:acme".to_owned(),
            "connector:active_tenants".to_owned(),
        ] {
            assert_eq!(Key::parse(name.as_bytes()).map(|key| key.to_string()), Some(name));
        }
        let alias = Key::parse(b"dlq:gcs:default");
        assert_eq!(alias, Key::parse(b"connector:gcs:default:dlq"));
        for name in ["", "connector:ftp:t:queue", "connector:gcs:t", "connector:gcs::queue", "x"] {
            assert_eq!(Key::parse(name.as_bytes()), None, "{name}");
        }
        assert_eq!(Key::parse(b"embedding:pending:\xff"), None);
    }

    #[test]
    fn patterns_are_of_names() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("connector:*:queue", "connector:gcs:default:queue", true),
            ("connector:*:queue", "connector:gcs:default:dlq", false),
            ("e?b*", "embedding:queue", true),
            ("", "a", false),
            ("**a**", "bab", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_agrees_with_the_slow_way(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            fn slow(pattern: &[u8], name: &[u8]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) => (0..=name.len()).any(|n| slow(rest, &name[n..])),
                    Some((byte, rest)) => name.split_first().is_some_and(|(first, name)| {
                        (*byte == b'?' || byte == first) && slow(rest, name)
                    }),
                }
            }
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(pattern, name), slow(pattern, name));
        }
    }
}
