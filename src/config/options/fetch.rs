//! Settings of what is fetched for nodes.

use clap::Args;

/// What a `payload_ref` may lead to.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Payloads")]
pub struct FetchOptions {
    /// Hosts that http:// and https:// payloads may be fetched from, comma separated [default: any public one]
    #[arg(long, env = "ACTIVEKG_URL_ALLOWLIST", value_name = "HOSTS")]
    pub url_allowlist: Option<String>,
    /// Largest payload fetched from the web or a bucket; what is beyond is cut off [default: 10485760]
    #[arg(long, env = "ACTIVEKG_MAX_FETCH_BYTES", value_name = "BYTES")]
    pub max_fetch_bytes: Option<String>,
    /// Longest time for one payload, with redirects and the whole body [default: 10]
    #[arg(long, env = "ACTIVEKG_FETCH_TIMEOUT", value_name = "SECONDS")]
    pub fetch_timeout: Option<String>,
    /// Folders that file:// payloads may be read from, comma separated [default: none, file:// is off]
    #[arg(long, env = "ACTIVEKG_FILE_BASEDIRS", value_name = "DIRS")]
    pub file_basedirs: Option<String>,
    /// Largest part of a file that is read [default: 1048576]
    #[arg(long, env = "ACTIVEKG_MAX_FILE_BYTES", value_name = "BYTES")]
    pub max_file_bytes: Option<String>,
    /// Buckets that s3:// payloads may be read from, comma separated, with AWS_* variables [default: none, s3:// is off]
    #[arg(long, env = "ALLOWED_S3_BUCKETS", value_name = "BUCKETS")]
    pub allowed_s3_buckets: Option<String>,
    /// Also fetch from private, loopback and link-local addresses: whoever can write a node can then reach what this machine reaches [default: false]
    #[arg(long, env = "ACTIVEKG_DANGER_ALLOW_PRIVATE_ADDRESSES", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub danger_allow_private_addresses: Option<String>,
}
