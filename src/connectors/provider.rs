//! What kinds of sources there are, and which settings a connector of each has.

mod fields;

pub use fields::{Field, GLOBS_BYTES, IfUnset, Kind, LIST_MAX, SECRET_MAX, TEXT_MAX};

/// The kind of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// Amazon S3, and servers that speak its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Google Drive.
    Drive,
    /// Azure Blob Storage.
    Azure,
    /// A folder of this machine.
    Local,
    /// Web addresses.
    Http,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::S3, Self::Gcs, Self::Drive, Self::Azure, Self::Local, Self::Http];

    /// The name in paths, keys and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Drive => "drive",
            Self::Azure => "azure",
            Self::Local => "local",
            Self::Http => "http",
        }
    }

    /// The provider of this name; names are exact.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == name)
    }

    /// How addresses of its objects begin, before what their names hold.
    #[must_use]
    pub const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &["s3://"],
            Self::Gcs => &["gs://"],
            Self::Drive => &["drive://", "drive:"],
            Self::Azure => &["azure://", "az://"],
            Self::Local => &["file://"],
            Self::Http => &["https://", "http://"],
        }
    }

    /// The provider whose objects have addresses like this.
    #[must_use]
    pub fn of_uri(uri: &str) -> Option<Self> {
        let begins = |provider: &Self| provider.schemes().iter().any(|s| uri.starts_with(s));
        Self::ALL.into_iter().find(begins)
    }

    /// Its settings, those of all providers last.
    pub fn fields(self) -> impl Iterator<Item = &'static Field> {
        fields::of(self).iter().chain(fields::COMMON)
    }

    /// The setting that names the place events tell of, where events name one.
    #[must_use]
    pub const fn bucket_field(self) -> Option<&'static str> {
        match self {
            Self::S3 | Self::Gcs => Some("bucket"),
            Self::Azure => Some("container"),
            Self::Drive | Self::Local | Self::Http => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use activekg_storage::crypt::fields::SECRET_FIELDS;

    use super::*;

    #[test]
    fn names_lead_back_to_their_providers() {
        for provider in Provider::ALL {
            assert_eq!(Provider::named(provider.as_str()), Some(provider));
        }
        assert_eq!((Provider::named("S3"), Provider::named("ftp")), (None, None));
    }

    #[test]
    fn every_secret_setting_is_one_that_is_sealed_and_no_other_is() {
        for provider in Provider::ALL {
            let mut names = BTreeSet::new();
            for field in provider.fields() {
                assert!(names.insert(field.name), "{} has {} twice", provider.as_str(), field.name);
                let secret = matches!(field.kind, Kind::Secret { .. });
                assert_eq!(SECRET_FIELDS.contains(&field.name), secret, "{}", field.name);
            }
        }
    }
}
