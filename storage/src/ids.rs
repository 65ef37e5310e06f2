//! Names of things: tenants, nodes, events, jobs, positions in the change log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::time::UnixMicros;

/// Longest tenant name, in characters.
pub const TENANT_MAX: usize = 100;

/// Who owns a row. Cheap to clone.
///
/// The name has 1 to [`TENANT_MAX`] characters, is not blank and holds no NUL. The one exception is
/// [`TenantId::shared`], which no outside name can produce.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

/// Why a text cannot be a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTenant {
    /// Empty, or nothing but white space.
    #[error("tenant must not be blank")]
    Blank,
    /// More than [`TENANT_MAX`] characters.
    #[error("tenant must have at most {TENANT_MAX} characters")]
    TooLong,
    /// Holds a NUL.
    #[error("tenant must not hold a NUL character")]
    Nul,
}

impl TenantId {
    /// Takes a name from outside.
    ///
    /// # Errors
    ///
    /// [`InvalidTenant`] says which rule the name breaks.
    pub fn new(name: &str) -> Result<TenantId, InvalidTenant> {
        if name.trim().is_empty() {
            return Err(InvalidTenant::Blank);
        }
        if name.chars().count() > TENANT_MAX {
            return Err(InvalidTenant::TooLong);
        }
        if name.contains('\0') {
            return Err(InvalidTenant::Nul);
        }
        Ok(TenantId(Arc::from(name)))
    }

    /// The owner of rows that every tenant sees. Stored as the empty text.
    #[must_use]
    pub fn shared() -> TenantId {
        TenantId(Arc::from(""))
    }

    /// Takes a name from stored bytes, where the empty text stands for [`TenantId::shared`].
    pub(crate) fn stored(name: &str) -> Result<TenantId, InvalidTenant> {
        if name.is_empty() { Ok(TenantId::shared()) } else { TenantId::new(name) }
    }

    /// The name; empty for [`TenantId::shared`].
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is [`TenantId::shared`].
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_shared() { "(shared)" } else { &self.0 })
    }
}

impl Serialize for TenantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Text formats come from outside and cannot name [`TenantId::shared`]; stored records can.
impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TenantId, D::Error> {
        let outside = deserializer.is_human_readable();
        let name = String::deserialize(deserializer)?;
        let tenant = if outside { TenantId::new(&name) } else { TenantId::stored(&name) };
        tenant.map_err(de::Error::custom)
    }
}

/// A text that is not a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct InvalidId;

fn sorted_by_time(now: UnixMicros) -> Uuid {
    let millis = u64::try_from(now.get().div_euclid(1000)).unwrap_or(0);
    // Ten of the sixteen bytes, none of them one that tells the version.
    let [a, b, c, d, e, f, _, _, _, g, h, i, j, ..] = Uuid::new_v4().into_bytes();
    let random = [a, b, c, d, e, f, g, h, i, j];
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id (UUID version 4).
            #[must_use]
            pub fn random() -> $name {
                $name(Uuid::new_v4())
            }

            /// A new id that sorts after ids of earlier milliseconds (UUID version 7), and is
            /// random otherwise. Rows under such ids are written side by side, which costs a
            /// commit far fewer pages than rows scattered by [`random`](Self::random) ids.
            #[must_use]
            pub fn at(now: UnixMicros) -> $name {
                $name(sorted_by_time(now))
            }

            /// The id with these 128 bits.
            #[must_use]
            pub const fn from_u128(bits: u128) -> $name {
                $name(Uuid::from_u128(bits))
            }

            /// The id's 128 bits.
            #[must_use]
            pub const fn as_u128(self) -> u128 {
                self.0.as_u128()
            }

            /// Any UUID, whatever its version.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> $name {
                $name(uuid)
            }

            /// The UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        /// Lower case, with hyphens.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        /// Upper or lower case, with or without hyphens.
        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<$name, InvalidId> {
                Uuid::try_parse(text).map($name).map_err(|_| InvalidId)
            }
        }

        /// Text where people read it, 16 bytes in the store.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.as_bytes().serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    let bytes = <[u8; 16]>::deserialize(deserializer)?;
                    Ok($name(Uuid::from_bytes(bytes)))
                }
            }
        }
    };
}

uuid_id! {
    /// A node of the graph.
    NodeId
}
uuid_id! {
    /// An event in a node's history.
    EventId
}
uuid_id! {
    /// An item of a durable queue.
    JobId
}

/// A position in the change log. 0 is before the first entry; numbers never repeat and never fall.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub(crate) fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_rules() {
        assert_eq!(TenantId::new("acme").unwrap().as_str(), "acme");
        assert_eq!(TenantId::new(""), Err(InvalidTenant::Blank));
        assert_eq!(TenantId::new(" \t"), Err(InvalidTenant::Blank));
        assert_eq!(TenantId::new("a\0b"), Err(InvalidTenant::Nul));
        // Characters count, not bytes.
        assert!(TenantId::new(&"é".repeat(TENANT_MAX)).is_ok());
        let longer = "é".repeat(TENANT_MAX + 1);
        assert_eq!(TenantId::new(&longer), Err(InvalidTenant::TooLong));
    }

    #[test]
    fn shared_cannot_come_from_outside_but_is_stored() {
        let shared = TenantId::shared();
        assert!(shared.is_shared());
        assert_eq!(TenantId::stored(""), Ok(shared));
        assert!(!TenantId::new("(shared)").unwrap().is_shared());
    }

    #[test]
    fn ids_print_lower_case_and_parse_either() {
        let id = NodeId::from_u128(0xABCD << 64);
        assert_eq!(id.to_string(), "00000000-0000-abcd-0000-000000000000");
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        assert_eq!("x".parse::<NodeId>(), Err(InvalidId));
        assert_ne!(JobId::random(), JobId::random());
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let now = UnixMicros(1_770_000_000_000_000);
        let [early, late] = [0, 1000].map(|later| JobId::at(UnixMicros(now.0 + later)));
        assert!(early < late);
        assert_ne!(JobId::at(now), JobId::at(now));
        assert_eq!(early.as_uuid().get_version_num(), 7);
        assert_eq!(JobId::at(UnixMicros(-5)).as_u128() >> 80, 0);
    }
}
