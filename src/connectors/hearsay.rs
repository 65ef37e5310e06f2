//! Word of changed connectors that comes from outside the process, and may be anything.

use serde_json::Value;

use super::bus::Operation;
use super::{Connectors, Provider};

/// Why word is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dropped {
    /// It is no JSON object.
    InvalidJson,
    /// It names no tenant.
    MissingTenant,
    /// It names no provider.
    MissingProvider,
    /// It names no operation.
    MissingOperation,
    /// There is no such operation.
    InvalidOperation,
    /// It names a tenant that cannot be one, or a provider that there is not.
    Unexpected,
}

impl Dropped {
    /// The label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::MissingTenant => "missing_tenant_id",
            Self::MissingProvider => "missing_provider",
            Self::MissingOperation => "missing_operation",
            Self::InvalidOperation => "invalid_operation",
            Self::Unexpected => "unexpected_error",
        }
    }
}

impl Connectors {
    /// Takes word of a changed connector: forgets it, and tells whoever listens. What makes no sense
    /// is counted and dropped. Whether somebody listens.
    pub fn hear(&self, message: &[u8]) -> bool {
        match read(message) {
            Ok((tenant, provider, operation)) => self.0.changed(&tenant, provider, operation),
            Err(why) => {
                self.0.metrics.connectors.dropped(why.as_str());
                tracing::warn!(
                    reason = why.as_str(),
                    "cache subscriber dropped a message that makes no sense"
                );
            }
        }
        self.subscriber().is_some_and(|subscriber| subscriber.connected)
    }
}

fn read(message: &[u8]) -> Result<(activekg_storage::TenantId, Provider, Operation), Dropped> {
    let Ok(Value::Object(message)) = serde_json::from_slice(message) else {
        return Err(Dropped::InvalidJson);
    };
    let text =
        |name: &str| message.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let tenant = text("tenant_id").ok_or(Dropped::MissingTenant)?;
    let provider = text("provider").ok_or(Dropped::MissingProvider)?;
    let operation = text("operation").ok_or(Dropped::MissingOperation)?;
    let operation = Operation::ALL.into_iter().find(|known| known.as_str() == operation);
    let operation = operation.ok_or(Dropped::InvalidOperation)?;
    let tenant = activekg_storage::TenantId::new(tenant).map_err(|_| Dropped::Unexpected)?;
    let provider = Provider::named(provider).ok_or(Dropped::Unexpected)?;
    Ok((tenant, provider, operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_is_checked_part_by_part() {
        let why = |message: &str| read(message.as_bytes()).unwrap_err().as_str();
        assert_eq!(why("{"), "invalid_json");
        assert_eq!(why("[]"), "invalid_json");
        assert_eq!(why("{}"), "missing_tenant_id");
        assert_eq!(why(r#"{"tenant_id":"t"}"#), "missing_provider");
        assert_eq!(why(r#"{"tenant_id":"t","provider":"gcs"}"#), "missing_operation");
        let whole = |provider: &str, operation: &str| {
            format!(r#"{{"tenant_id":"t","provider":"{provider}","operation":"{operation}"}}"#)
        };
        assert_eq!(why(&whole("gcs", "burn")), "invalid_operation");
        assert_eq!(why(&whole("ftp", "upsert")), "unexpected_error");
        let (tenant, provider, operation) = read(whole("gcs", "rotate").as_bytes()).unwrap();
        assert_eq!((tenant.as_str(), provider, operation), ("t", Provider::Gcs, Operation::Rotate));
    }
}
