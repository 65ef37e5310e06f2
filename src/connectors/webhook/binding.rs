//! Which tenants an event is for, and which topics may speak for them.

use activekg_storage::ids::TenantId;
use activekg_storage::tables::connectors::{CONFIGS, tenants_of_bucket};
use activekg_storage::{Readable, StorageError};
use serde_json::Value;

use crate::connectors::Provider;

/// What a connector says about events. None of it is secret, so that it can be read while its
/// secrets cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) bucket: String,
    prefix: String,
    pub(super) topics: Vec<String>,
    enabled: bool,
}

impl Binding {
    /// The binding of a tenant's connector, if it has one.
    pub(super) fn of(
        tx: &impl Readable,
        tenant: &TenantId,
        provider: Provider,
    ) -> Result<Option<Self>, StorageError> {
        let record = tx.get(&CONFIGS, &(tenant.clone(), provider.as_str().to_owned()))?;
        Ok(record.map(|record| {
            let settings: Value = serde_json::from_str(record.config.as_str()).unwrap_or_default();
            let prefix = settings.get("prefix").and_then(Value::as_str).unwrap_or_default();
            let topics = settings.get("topic_allowlist").and_then(Value::as_array);
            let topics = topics.into_iter().flatten().filter_map(Value::as_str);
            Self {
                bucket: record.bucket.unwrap_or_default(),
                prefix: prefix.to_owned(),
                topics: topics.map(str::to_owned).collect(),
                enabled: record.enabled,
            }
        }))
    }

    /// Whether the connector is about this object.
    pub(super) fn covers(&self, bucket: &str, object: &str) -> bool {
        self.bucket == bucket && object.starts_with(&self.prefix)
    }
}

/// The tenants with an enabled connector on this object, in order of their names.
pub(super) fn owners(
    tx: &impl Readable,
    provider: Provider,
    bucket: &str,
    object: &str,
) -> Result<Vec<(TenantId, Binding)>, StorageError> {
    let mut owners = Vec::new();
    for tenant in tenants_of_bucket(tx, provider.as_str(), bucket)? {
        if let Some(binding) = Binding::of(tx, &tenant, provider)?
            && binding.enabled
            && binding.covers(bucket, object)
        {
            owners.push((tenant, binding));
        }
    }
    Ok(owners)
}

/// Whether `topic` is one of `patterns`: equal, or equal in each part between colons that is not
/// `*`.
pub(super) fn listed(patterns: &[String], topic: &str) -> bool {
    patterns.iter().any(|pattern| {
        let (mut wanted, mut given) = (pattern.split(':'), topic.split(':'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(wanted), Some(given)) if wanted == "*" || wanted == given => {}
                _ => return false,
            }
        }
    })
}

/// What a list of topics says about a message of Pub/Sub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It names the topic or the subscription, or nothing at all.
    Listed,
    /// It names others.
    NotListed,
    /// It names topics, and the message names none.
    Unknown,
}

/// Looks a message up by what it names: the topic, if it names one, and the subscription it came
/// by, which every message that Pub/Sub pushes names.
pub(super) fn admission(list: &[String], topic: Option<&str>, subscription: &str) -> Admission {
    if list.is_empty() || listed(list, subscription) {
        return Admission::Listed;
    }
    match topic {
        Some(topic) if listed(list, topic) => Admission::Listed,
        Some(_) => Admission::NotListed,
        None if list.iter().all(|name| name.contains("/subscriptions/")) => Admission::NotListed,
        None => Admission::Unknown,
    }
}

/// The tenant that the name of a topic or subscription ends in.
pub(super) fn tenant_named(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    name.split_once("activekg-gcs-").map(|(_, tenant)| tenant).filter(|tenant| !tenant.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn patterns_have_as_many_parts_as_topics() {
        let topic = "arn:aws:sns:eu-west-1:000000000000:activekg-s3-harbor";
        for good in [topic, "arn:aws:sns:*:*:activekg-s3-harbor", "*:*:*:*:*:*"] {
            assert!(listed(&list(&[good]), topic), "{good}");
        }
        for bad in ["*", "", "arn:aws:sns:*:activekg-s3-harbor", "arn:aws:sns:*:*:activekg-s3-*"] {
            assert!(!listed(&list(&["x", bad]), topic), "{bad}");
        }
        assert!(!listed(&[], topic));
    }

    #[test]
    fn a_list_may_name_topics_and_subscriptions() {
        let (topic, other) = ("projects/p/topics/t", "projects/p/topics/u");
        let (by, else_) = ("projects/p/subscriptions/s", "projects/p/subscriptions/r");
        let topics = list(&[topic]);
        assert_eq!(admission(&[], None, by), Admission::Listed);
        assert_eq!(admission(&topics, Some(topic), by), Admission::Listed);
        assert_eq!(admission(&topics, Some(other), by), Admission::NotListed);
        assert_eq!(admission(&topics, None, by), Admission::Unknown);
        let both = list(&[topic, by]);
        assert_eq!(admission(&both, None, by), Admission::Listed);
        assert_eq!(admission(&both, None, else_), Admission::Unknown);
        let subscriptions = list(&[by]);
        assert_eq!(admission(&subscriptions, None, else_), Admission::NotListed);
        assert_eq!(admission(&subscriptions, Some(topic), by), Admission::Listed);
    }

    #[test]
    fn names_of_topics_and_subscriptions_end_in_their_tenant() {
        for (path, tenant) in [
            ("projects/p/topics/activekg-gcs-harbor", Some("harbor")),
            ("projects/p/subscriptions/push-activekg-gcs-a-b", Some("a-b")),
            ("projects/activekg-gcs-x/topics/t", None),
            ("projects/p/topics/activekg-gcs-", None),
            ("", None),
        ] {
            assert_eq!(tenant_named(path), tenant, "{path}");
        }
    }
}
