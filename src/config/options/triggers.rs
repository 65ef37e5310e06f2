//! Settings of triggers.

use clap::Args;

use crate::config::Secret;

/// Triggers.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Triggers")]
pub struct TriggerOptions {
    /// Also POST every trigger that fires, of all tenants, to this address; needs a secret
    #[arg(long, env = "TRIGGER_WEBHOOK_URL", value_name = "URL", hide_env_values = true)]
    pub trigger_webhook_url: Option<Secret>,
    /// Signs what is posted (standardwebhooks.com), 24 characters or more; `whsec_` and base64 is taken as bytes. Prefer the variable, other users can read a command line
    #[arg(long, env = "TRIGGER_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub trigger_webhook_secret: Option<Secret>,
}
