//! Settings of backups.

use clap::Args;

use crate::config::Secret;

/// What variables of object stores begin with.
const CLOUDS: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Backups.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Backups")]
pub struct BackupOptions {
    /// Where archives go: a folder, or an address that begins with s3://, gs:// or az:// (with AWS_*, GOOGLE_* or AZURE_* variables) [default: `backups` in the data directory]
    #[arg(long, env = "ACTIVEKG_BACKUP_DIR", value_name = "DIR-OR-URL")]
    pub backup_dir: Option<String>,
    /// Back up this often, 0 turns it off [default: 24]
    #[arg(long, env = "BACKUP_INTERVAL_HOURS", value_name = "HOURS")]
    pub backup_interval_hours: Option<String>,
    /// Remove older archives, though never the newest good one; 0 keeps them all [default: 7]
    #[arg(long, env = "BACKUP_RETENTION_DAYS", value_name = "DAYS")]
    pub backup_retention_days: Option<String>,
    /// Encrypt archives to this key: 44 characters as `activekg keys generate` prints them; prefer the variable, other users can read a command line
    #[arg(long, env = "ACTIVEKG_BACKUP_KEY", value_name = "KEY", hide_env_values = true)]
    pub backup_key: Option<Secret>,
    /// File with that key, such as a systemd credential
    #[arg(long, env = "ACTIVEKG_BACKUP_KEY_FILE", value_name = "FILE")]
    pub backup_key_file: Option<String>,
    /// Variables of object stores, in lower case.
    #[arg(skip = clouds_of_environment())]
    pub clouds: Vec<(String, Secret)>,
}

fn clouds_of_environment() -> Vec<(String, Secret)> {
    let named = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        CLOUDS.iter().any(|cloud| name.starts_with(cloud)).then_some((name, value))
    });
    named.map(|(name, value)| (name.to_ascii_lowercase(), Secret::from(value))).collect()
}
