//! Messages that Pub/Sub pushes: who sends them, for whom they are, whether they may.

use activekg_storage::ids::TenantId;
use tracing::warn;

use super::binding::{self, Admission, Binding, admission, tenant_named};
use super::pubsub::Push;
use super::take::Part;
use super::{Outcome, Refused, Webhooks, bearer, blocking, same};
use crate::auth::PushError;
use crate::connectors::Provider;
use crate::observability::metrics::PushVerified;

/// A message to the webhook of Google Cloud Storage.
#[derive(Clone, Copy)]
pub struct PushRequest<'a> {
    /// The value of its `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The secret it shows: that of its header, or else that of its query.
    pub secret: Option<&'a str>,
    /// The topic it names: that of its header, or else that of its query.
    pub topic: Option<&'a str>,
    /// It.
    pub body: &'a [u8],
}

/// For whom a message is.
enum Route {
    /// For these, whose connectors are about the object.
    Owners(Vec<(TenantId, Binding)>),
    /// For the tenant that the topic or subscription is named after, who may have a connector that
    /// is about something else.
    Named(TenantId, Option<Binding>),
}

impl Webhooks {
    /// Takes a message to the webhook of Google Cloud Storage.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing is enqueued then.
    pub async fn gcs(&self, request: PushRequest<'_>) -> Result<Outcome, Refused> {
        self.verify_push(request)?;
        let topic = request.topic.filter(|topic| !topic.is_empty());
        let push = Push::parse(request.body, self.now())?;
        let route = self.route(&push, topic).await?;
        let admitted = self.admitted(route, &push, topic)?;
        let change = match push.change {
            Ok(change) => change,
            Err(why) => return Ok(Outcome::Ignored(why)),
        };
        let Some(tenants) = admitted else { return Ok(Outcome::Ignored("bucket")) };
        let part =
            |tenant: &TenantId| Part { tenant: tenant.clone(), changes: vec![change.clone()] };
        let parts = tenants.iter().map(part).collect();
        let message = push.id.map(|id| ("pubsub", id));
        Ok(match self.take(Provider::Gcs, message, parts).await? {
            None => Outcome::Duplicate,
            Some(0) => Outcome::Ignored("older"),
            Some(n_queued) => Outcome::Queued { tenants, n_queued, n_ignored: 0 },
        })
    }

    /// Whether a message shows a token or a secret that counts. One of them is enough.
    fn verify_push(&self, request: PushRequest<'_>) -> Result<(), Refused> {
        let PushRequest { authorization, secret: given, topic: _, body: _ } = request;
        let settings = &self.0.settings;
        let metrics = &self.0.metrics.webhooks;
        let mut failure = None;
        if let (Some(verifier), Some(token)) = (&self.0.push, authorization.and_then(bearer)) {
            match verifier.check(token, self.now().get().div_euclid(1_000_000)) {
                Ok(()) => {
                    metrics.push_verified(PushVerified::Oidc);
                    return Ok(());
                }
                Err(error) => failure = Some((verified(&error), error.to_string())),
            }
        }
        if let (Some(secret), Some(given)) = (&settings.push_secret, given) {
            if same(secret, given) {
                metrics.push_verified(PushVerified::Secret);
                return Ok(());
            }
            let why = "the secret is not PUBSUB_VERIFY_SECRET".to_owned();
            failure = failure.or(Some((PushVerified::Invalid, why)));
        }
        let none = self.0.push.is_none() && settings.push_secret.is_none();
        if none && (!self.0.tokens_required || settings.allow_unverified) {
            warn!(
                provider = "gcs",
                "a Pub/Sub message is not verified: set PUBSUB_VERIFY_SECRET or PUBSUB_OIDC_AUDIENCE"
            );
            metrics.push_verified(PushVerified::Skipped);
            return Ok(());
        }
        let missing = if none {
            "neither PUBSUB_VERIFY_SECRET nor PUBSUB_OIDC_AUDIENCE is set"
        } else {
            "it shows neither token nor secret"
        };
        let (result, why) = failure.unwrap_or((PushVerified::Missing, missing.to_owned()));
        metrics.push_verified(result);
        self.failed(Provider::Gcs, &why);
        Err(if result == PushVerified::NoKeys { Refused::Unverifiable } else { Refused::PushToken })
    }

    async fn route(&self, push: &Push, topic: Option<&str>) -> Result<Route, Refused> {
        let named = topic.and_then(tenant_named).or_else(|| tenant_named(&push.subscription));
        let named = TenantId::new(named.unwrap_or("default")).map_err(|_| Refused::Topic)?;
        let store = self.0.store.clone();
        let (bucket, object) = (push.bucket.clone(), push.object.clone());
        blocking(move || {
            let tx = store.read()?;
            let owners = binding::owners(&tx, Provider::Gcs, &bucket, &object)?;
            if !owners.is_empty() {
                return Ok(Route::Owners(owners));
            }
            let binding = Binding::of(&tx, &named, Provider::Gcs)?;
            Ok(Route::Named(named, binding))
        })
        .await
    }

    /// The tenants that a message may speak to; `None` if it is about another bucket than theirs.
    fn admitted(
        &self,
        route: Route,
        push: &Push,
        topic: Option<&str>,
    ) -> Result<Option<Vec<TenantId>>, Refused> {
        let (mut candidates, covered) = match route {
            Route::Owners(owners) => (owners, true),
            Route::Named(tenant, None) => return Ok(Some(vec![tenant])),
            Route::Named(tenant, Some(binding)) => {
                let covered = binding.covers(&push.bucket, &push.object);
                (vec![(tenant, binding)], covered)
            }
        };
        let subscription = push.subscription.as_str();
        let names = |binding: &Binding| {
            !binding.topics.is_empty()
                && admission(&binding.topics, topic, subscription) == Admission::Listed
        };
        // Whoever names the topic is meant; others have a connector on the same bucket by chance.
        if candidates.iter().any(|(_, binding)| names(binding)) {
            candidates.retain(|(_, binding)| names(binding));
        }
        let mut admitted = Vec::with_capacity(candidates.len());
        let mut rejected = None;
        for (tenant, binding) in candidates {
            match admission(&binding.topics, topic, subscription) {
                Admission::Listed => admitted.push(tenant),
                Admission::Unknown if !self.0.settings.topic_strict => {
                    let why = "the topic_allowlist cannot be checked: messages name no topic; put ?topic= into the push endpoint, or list the subscription";
                    self.warn_once(Provider::Gcs, &tenant, why);
                    admitted.push(tenant);
                }
                Admission::Unknown | Admission::NotListed => rejected = Some(tenant),
            }
        }
        match (admitted.is_empty(), rejected) {
            (true, Some(tenant)) => {
                let shown = topic.unwrap_or(subscription);
                self.topic_rejected(Provider::Gcs, &tenant, shown);
                Err(Refused::Topic)
            }
            _ => Ok(covered.then_some(admitted)),
        }
    }
}

fn verified(error: &PushError) -> PushVerified {
    match error {
        PushError::NoKeys => PushVerified::NoKeys,
        PushError::Audience => PushVerified::Audience,
        PushError::Issuer | PushError::Account | PushError::Invalid(_) => PushVerified::Invalid,
    }
}
