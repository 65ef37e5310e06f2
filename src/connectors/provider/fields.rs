//! The settings of each provider, as data.

use super::Provider;

/// Characters in a text at most.
pub const TEXT_MAX: usize = 4096;
/// Characters in a secret at most; credentials of service accounts have about 2,400.
pub const SECRET_MAX: usize = 65_536;
/// Items in a list, and members of a map, at most.
pub const LIST_MAX: usize = 1000;

/// A setting.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What is stored where none is given.
    pub if_unset: IfUnset,
}

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A secret of at least so many characters, or an object, which is kept as its JSON.
    Secret {
        /// Characters it has at least.
        min: usize,
    },
    /// An `http` or `https` address without a user in it.
    Url,
    /// Several of those, at least one.
    Urls,
    /// A whole path.
    Path,
    /// Yes or no.
    Bool,
    /// A whole number in a range, ends included.
    Int {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A list of texts.
    Texts,
    /// A list of topics, of Pub/Sub or SNS.
    Topics,
    /// A list of patterns of at most [`GLOBS_BYTES`].
    Globs,
    /// An object of texts.
    Map,
}

/// What is stored where no value is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfUnset {
    /// Nothing: the setting must be given.
    Required,
    /// Nothing.
    Absent,
    /// Null.
    Null,
    /// A text.
    Text(&'static str),
    /// A number.
    Int(i64),
    /// A switch.
    Bool(bool),
}

const fn field(name: &'static str, kind: Kind, if_unset: IfUnset) -> Field {
    Field { name, kind, if_unset }
}

const fn text(name: &'static str, if_unset: IfUnset) -> Field {
    field(name, Kind::Text, if_unset)
}

const fn secret(name: &'static str, min: usize, if_unset: IfUnset) -> Field {
    field(name, Kind::Secret { min }, if_unset)
}

/// Longest list of patterns, in bytes of all of them together: every name is matched with each.
pub const GLOBS_BYTES: usize = 4 << 10;

/// Largest document a connector may be told to take: a gigabyte.
const BYTES_MAX: i64 = 1 << 30;

const INT_BYTES: Kind = Kind::Int { min: 1, max: BYTES_MAX };

use self::IfUnset::{Absent, Null, Required};

/// The settings that all providers have.
pub(super) const COMMON: &[Field] = &[
    field("enabled", Kind::Bool, IfUnset::Bool(true)),
    field("poll_interval_seconds", Kind::Int { min: 60, max: 3600 }, IfUnset::Int(900)),
    field("max_file_size_bytes", INT_BYTES, Absent),
    field("include_globs", Kind::Globs, Absent),
    field("exclude_globs", Kind::Globs, Absent),
    field("topic_allowlist", Kind::Topics, Absent),
];

/// The settings that only this provider has.
pub(super) const fn of(provider: Provider) -> &'static [Field] {
    match provider {
        Provider::S3 => S3,
        Provider::Gcs => GCS,
        Provider::Drive => DRIVE,
        Provider::Azure => AZURE,
        Provider::Local => LOCAL,
        Provider::Http => HTTP,
    }
}

const S3: &[Field] = &[
    text("bucket", Required),
    text("prefix", IfUnset::Text("")),
    text("region", IfUnset::Text("us-east-1")),
    secret("access_key_id", 16, Absent),
    secret("secret_access_key", 32, Absent),
    secret("session_token", 1, Absent),
    field("endpoint", Kind::Url, Absent),
    field("force_path_style", Kind::Bool, Absent),
];

const GCS: &[Field] = &[
    text("bucket", Required),
    text("prefix", IfUnset::Text("")),
    text("project", Null),
    field("credentials_path", Kind::Path, Null),
    secret("credentials_json", 1, Null),
];

const DRIVE: &[Field] = &[
    secret("credentials", 1, Absent),
    field("credentials_path", Kind::Path, Absent),
    text("folder_id", Absent),
    text("subject_email", Absent),
    text("project", Absent),
    field("shared_drives", Kind::Texts, Absent),
    field("root_folders", Kind::Texts, Absent),
    field("include_folders", Kind::Texts, Absent),
    field("exclude_folders", Kind::Texts, Absent),
    field("include_mime_types", Kind::Texts, Absent),
    field("export_formats", Kind::Map, Absent),
    field("page_size", Kind::Int { min: 1, max: 1000 }, IfUnset::Int(100)),
    field("use_changes_feed", Kind::Bool, IfUnset::Bool(true)),
    secret("webhook_secret", 1, Absent),
];

const AZURE: &[Field] = &[
    text("container", Required),
    text("prefix", IfUnset::Text("")),
    secret("connection_string", 32, Required),
];

const LOCAL: &[Field] = &[
    field("path", Kind::Path, Required),
    field("follow_symlinks", Kind::Bool, IfUnset::Bool(false)),
];

const HTTP: &[Field] = &[field("urls", Kind::Urls, Required), secret("bearer_token", 1, Absent)];
