//! Settings of the keys that seal secrets.

use clap::Args;

use crate::config::Secret;

/// What the variables of keys begin with; a version follows, and `_FILE` if it names a file.
const PREFIX: &str = "CONNECTOR_KEK_V";

/// Versions with a flag.
const FLAGS: u32 = 9;

/// Keys that seal secrets.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Connector keys")]
pub struct KeyOptions {
    /// Key that seals connector secrets, version 1: 44 characters as `activekg keys generate` prints them; prefer the variable, other users can read a command line
    #[arg(long, env = "CONNECTOR_KEK_V1", value_name = "KEY", hide_env_values = true)]
    pub connector_kek_v1: Option<Secret>,
    /// The next version; the environment can name any further one (CONNECTOR_KEK_V10 and so on)
    #[arg(long, env = "CONNECTOR_KEK_V2", value_name = "KEY", hide_env_values = true)]
    pub connector_kek_v2: Option<Secret>,
    /// Version 3 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V3", value_name = "KEY", hide_env_values = true, hide = true)]
    pub connector_kek_v3: Option<Secret>,
    /// Version 4 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V4", value_name = "KEY", hide_env_values = true, hide = true)]
    pub connector_kek_v4: Option<Secret>,
    /// Version 5 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V5", value_name = "KEY", hide_env_values = true, hide = true)]
    pub connector_kek_v5: Option<Secret>,
    /// Version 6 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V6", value_name = "KEY", hide_env_values = true, hide = true)]
    pub connector_kek_v6: Option<Secret>,
    /// Version 7 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V7", value_name = "KEY", hide_env_values = true, hide = true)]
    pub connector_kek_v7: Option<Secret>,
    /// Version 8 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V8", value_name = "KEY", hide_env_values = true, hide = true)]
    pub connector_kek_v8: Option<Secret>,
    /// Version 9 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V9", value_name = "KEY", hide_env_values = true, hide = true)]
    pub connector_kek_v9: Option<Secret>,
    /// File with version 1 of the key, such as a systemd credential; likewise for every version
    #[arg(long, env = "CONNECTOR_KEK_V1_FILE", value_name = "FILE")]
    pub connector_kek_v1_file: Option<String>,
    /// File with version 2 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V2_FILE", value_name = "FILE", hide = true)]
    pub connector_kek_v2_file: Option<String>,
    /// File with version 3 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V3_FILE", value_name = "FILE", hide = true)]
    pub connector_kek_v3_file: Option<String>,
    /// File with version 4 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V4_FILE", value_name = "FILE", hide = true)]
    pub connector_kek_v4_file: Option<String>,
    /// File with version 5 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V5_FILE", value_name = "FILE", hide = true)]
    pub connector_kek_v5_file: Option<String>,
    /// File with version 6 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V6_FILE", value_name = "FILE", hide = true)]
    pub connector_kek_v6_file: Option<String>,
    /// File with version 7 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V7_FILE", value_name = "FILE", hide = true)]
    pub connector_kek_v7_file: Option<String>,
    /// File with version 8 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V8_FILE", value_name = "FILE", hide = true)]
    pub connector_kek_v8_file: Option<String>,
    /// File with version 9 of the key.
    #[arg(long, env = "CONNECTOR_KEK_V9_FILE", value_name = "FILE", hide = true)]
    pub connector_kek_v9_file: Option<String>,
    /// Version 1 of the key, where no numbered one is set
    #[arg(long, env = "CONNECTOR_KEK", value_name = "KEY", hide_env_values = true)]
    pub connector_kek: Option<Secret>,
    /// Version that seals; all of them open [default: 1]
    #[arg(long, env = "CONNECTOR_KEK_ACTIVE_VERSION", value_name = "N")]
    pub connector_kek_active_version: Option<String>,
    /// Versions without a flag, as the environment names them.
    #[arg(skip = further_of_environment())]
    pub further: Vec<NumberedKey>,
}

/// A numbered key as typed.
#[derive(Clone)]
pub struct NumberedKey {
    /// The number as written, not yet known to be one.
    pub version: String,
    /// Its text.
    pub key: Option<Secret>,
    /// The file that holds it.
    pub file: Option<String>,
}

impl KeyOptions {
    /// All numbered keys, set or not.
    pub(crate) fn numbered(&self) -> Vec<NumberedKey> {
        let flags = [
            (&self.connector_kek_v1, &self.connector_kek_v1_file),
            (&self.connector_kek_v2, &self.connector_kek_v2_file),
            (&self.connector_kek_v3, &self.connector_kek_v3_file),
            (&self.connector_kek_v4, &self.connector_kek_v4_file),
            (&self.connector_kek_v5, &self.connector_kek_v5_file),
            (&self.connector_kek_v6, &self.connector_kek_v6_file),
            (&self.connector_kek_v7, &self.connector_kek_v7_file),
            (&self.connector_kek_v8, &self.connector_kek_v8_file),
            (&self.connector_kek_v9, &self.connector_kek_v9_file),
        ];
        let flags = (1..=FLAGS).zip(flags).map(|(version, (key, file))| NumberedKey {
            version: version.to_string(),
            key: key.clone(),
            file: file.clone(),
        });
        flags.chain(self.further.iter().cloned()).collect()
    }
}

/// What is set in the environment besides the flags' variables.
fn further_of_environment() -> Vec<NumberedKey> {
    // What is not UTF-8 is no key and no number; the key's text then says so.
    let variables = std::env::vars_os();
    further(variables.map(|(name, value)| {
        (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
    }))
}

/// [`further_of_environment`] for versions of two digits, as `lookup` gives their variables.
pub(super) fn further_of(lookup: impl Fn(&str) -> Option<String>) -> Vec<NumberedKey> {
    let names = ["0".to_owned()].into_iter().chain((10..100).map(|version| version.to_string()));
    let names =
        names.flat_map(|version| ["", "_FILE"].map(|kind| format!("{PREFIX}{version}{kind}")));
    further(names.filter_map(|name| lookup(&name).map(|value| (name, value))))
}

fn further(variables: impl Iterator<Item = (String, String)>) -> Vec<NumberedKey> {
    let mut keys: Vec<NumberedKey> = Vec::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let (version, is_file) = match rest.strip_suffix("_FILE") {
            Some(version) => (version, true),
            None => (rest, false),
        };
        let numeric = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        let has_flag = version.len() == 1 && version != "0";
        if !numeric || has_flag {
            continue;
        }
        let at = keys.iter().position(|key| key.version == version).unwrap_or_else(|| {
            keys.push(NumberedKey { version: version.to_owned(), key: None, file: None });
            keys.len() - 1
        });
        if is_file {
            keys[at].file = Some(value);
        } else {
            keys[at].key = Some(Secret::from(value));
        }
    }
    keys
}
