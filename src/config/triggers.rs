//! Triggers: who is told when one fires.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use zeroize::Zeroizing;

use super::options::TriggerOptions;
use super::{ConfigError, Secret};

/// Least length of a secret, in bytes.
const SECRET_MIN: usize = 24;
/// What secrets in base64 begin with.
const PREFIX: &str = "whsec_";

/// Triggers.
#[derive(Clone, Default)]
pub struct Triggers {
    /// Where deliveries go, if anywhere.
    pub webhook: Option<Webhook>,
}

/// Where deliveries go.
#[derive(Clone)]
pub struct Webhook {
    /// The address; it may hold a password.
    pub url: Secret,
    /// What they are signed with.
    pub key: Zeroizing<Vec<u8>>,
}

impl Triggers {
    /// What the settings mean.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for an address that is none, or a secret that is missing or too short.
    pub fn new(options: &TriggerOptions) -> Result<Self, ConfigError> {
        let TriggerOptions { trigger_webhook_url, trigger_webhook_secret } = options;
        let set = |secret: &Option<Secret>| {
            secret.clone().filter(|secret| !secret.reveal().trim().is_empty())
        };
        let Some(url) = set(trigger_webhook_url) else { return Ok(Self::default()) };
        let parsed = Url::parse(url.reveal().trim()).ok();
        if !parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            let fault = "not an address that begins with http:// or https://";
            return Err(ConfigError::new("TRIGGER_WEBHOOK_URL", fault));
        }
        let fault = |fault: &str| ConfigError::new("TRIGGER_WEBHOOK_SECRET", fault);
        let secret = set(trigger_webhook_secret).ok_or_else(|| {
            fault("is needed with TRIGGER_WEBHOOK_URL: `openssl rand -base64 32` makes one")
        })?;
        let secret = secret.reveal().trim();
        let key = match secret.strip_prefix(PREFIX) {
            Some(base64) => STANDARD.decode(base64).map_err(|_| fault("is no base64"))?,
            None => secret.as_bytes().to_vec(),
        };
        if key.len() < SECRET_MIN {
            return Err(fault("is too short: 24 bytes or more"));
        }
        Ok(Self { webhook: Some(Webhook { url, key: Zeroizing::new(key) }) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    const URL: (&str, &str) = ("TRIGGER_WEBHOOK_URL", "https://hooks.example/a");

    #[test]
    fn nobody_is_told_unless_it_is_set() {
        assert!(config(&[]).unwrap().triggers.webhook.is_none());
        let alone = [("TRIGGER_WEBHOOK_SECRET", "0123456789012345678901234567")];
        assert!(config(&alone).unwrap().triggers.webhook.is_none());
    }

    #[test]
    fn an_address_needs_a_good_secret() {
        assert!(fault(&[URL]).starts_with("TRIGGER_WEBHOOK_SECRET: is needed"));
        let secret = |secret| [URL, ("TRIGGER_WEBHOOK_SECRET", secret)];
        assert!(fault(&secret("short")).contains("too short"));
        assert!(fault(&secret("whsec_short!")).contains("no base64"));
        assert!(fault(&secret("whsec_c2hvcnQ=")).contains("too short"));
        let config = config(&secret("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")).unwrap();
        assert_eq!(*config.triggers.webhook.unwrap().key, b"012345678901234567890123");
        let text = fault(&[("TRIGGER_WEBHOOK_URL", "ftp://x"), ("TRIGGER_WEBHOOK_SECRET", "s")]);
        assert!(text.starts_with("TRIGGER_WEBHOOK_URL: "), "{text}");
    }
}
