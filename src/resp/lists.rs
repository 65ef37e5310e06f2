//! Queues as the lists that scripts take them for: the newest item first, leased ones at the end.

use activekg_storage::ids::TenantId;
use activekg_storage::queue::{DeadJob, End, Peeked, QueueStats, State};
use serde_json::{Value, json};

use super::frame::Reply;
use super::key::Key;
use crate::app::App;
use crate::connectors::{Provider, queue as changes};
use crate::queues::{self, Error, LIST_MAX, Letters, Managed, Waiting};
use crate::timestamp::iso;

/// Whom the audit trail names.
const ACTOR: &str = "resp";

/// A list, and what it is of.
pub(super) struct List<'a> {
    app: &'a App,
    queue: &'static Managed,
    tenant: Option<TenantId>,
    provider: Option<Provider>,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Live,
    Ready,
    Delayed,
    Dead,
}

impl<'a> List<'a> {
    /// The list of this name; nothing if it is the name of something else.
    pub(super) fn of(app: &'a App, key: &Key) -> Result<Option<Self>, Error> {
        let embedding = || queues::find(crate::graph::QUEUE.name);
        let changes = |provider| queues::find(changes::def(provider).name);
        let (queue, tenant, provider, part) = match key {
            Key::Changes(provider, tenant) => {
                (changes(*provider)?, Some(tenant.clone()), Some(*provider), Part::Live)
            }
            Key::DeadChanges(provider, tenant) => {
                (changes(*provider)?, Some(tenant.clone()), Some(*provider), Part::Dead)
            }
            Key::Embeddings => (embedding()?, None, None, Part::Ready),
            Key::DelayedEmbeddings => (embedding()?, None, None, Part::Delayed),
            Key::DeadEmbeddings => (embedding()?, None, None, Part::Dead),
            Key::Pending(_) | Key::TenantPending(_) | Key::ActiveTenants => return Ok(None),
        };
        Ok(Some(Self { app, queue, tenant, provider, part }))
    }

    /// Items of the list.
    pub(super) async fn len(&self) -> Result<u64, Error> {
        let QueueStats { depths, .. } =
            self.app.queues.stats(self.queue, self.tenant.clone()).await?;
        Ok(match self.part {
            Part::Live => depths.live(),
            Part::Ready => depths.ready,
            Part::Delayed => depths.delayed,
            Part::Dead => depths.dead,
        })
    }

    /// The items from one index to another, both included; negative ones count from the end.
    pub(super) async fn range(&self, start: i64, stop: i64) -> Result<Reply, Error> {
        let len = i64::try_from(self.len().await?).unwrap_or(i64::MAX);
        let at = |index: i64| if index < 0 { len.saturating_add(index) } else { index };
        let (start, stop) = (at(start).max(0), at(stop).min(len - 1));
        if start > stop {
            return Ok(Reply::Array(Vec::new()));
        }
        let max = LIST_MAX as i64;
        // As many as one look shows, from the nearer end.
        let (items, first) = if stop < max {
            (self.items(End::Newest).await?, 0)
        } else if len - start <= max {
            let mut items = self.items(End::Oldest).await?;
            items.reverse();
            let first = len - items.len() as i64;
            (items, first)
        } else {
            let text = format!("at most {LIST_MAX} items from either end can be read");
            return Ok(Reply::refused(text));
        };
        let skip = usize::try_from(start - first).unwrap_or(0);
        let n = usize::try_from(stop - start + 1).unwrap_or(0);
        let items = items.into_iter().skip(skip).take(n);
        Ok(Reply::Array(items.map(|item| Reply::text(item.to_string())).collect()))
    }

    /// The items that one look from an end shows.
    async fn items(&self, from: End) -> Result<Vec<Value>, Error> {
        let tenant = self.tenant.clone();
        if self.part == Part::Dead {
            let letters = Letters { tenant, ..Letters::default() };
            let (_, dead) = self.app.queues.dead(self.queue, letters, from, LIST_MAX).await?;
            return Ok(dead.into_iter().map(|letter| self.letter(letter)).collect());
        }
        let mut items = self.app.queues.peek(self.queue, tenant, from, LIST_MAX).await?.items;
        match self.part {
            Part::Ready => items.retain(|(_, item)| item.state == State::Ready),
            Part::Delayed => items.retain(|(_, item)| item.state == State::Delayed),
            // Stable, so that the others keep their order.
            Part::Live | Part::Dead => items
                .sort_by_key(|(_, item)| (item.state == State::Leased) == (from == End::Newest)),
        }
        Ok(items.into_iter().map(|(tenant, item)| self.item(&tenant, &item)).collect())
    }

    fn item(&self, tenant: &TenantId, item: &Peeked) -> Value {
        let Peeked { id, payload, attempts, enqueued_at, .. } = item;
        let mut shown = (self.queue.item)(payload);
        if let Value::Object(shown) = &mut shown {
            shown.insert("attempts".to_owned(), (*attempts).into());
            if self.provider.is_none() {
                shown.insert("job_id".to_owned(), id.to_string().into());
                shown.insert("tenant_id".to_owned(), tenant.as_str().into());
                shown.insert("enqueued_at".to_owned(), iso(enqueued_at.get()).into());
            }
        }
        shown
    }

    fn letter(&self, letter: DeadJob) -> Value {
        let DeadJob { tenant, payload, attempts, reason, error, first_failed_at, died_at, .. } =
            letter;
        let item = (self.queue.item)(&payload);
        let died = iso(died_at.get());
        json!({
            "operation": item.get("operation"),
            "item": item,
            "error": error,
            "reason": reason.as_str(),
            "attempts": attempts,
            "first_failed_at": first_failed_at.map(|at| iso(at.get())),
            "failed_at": died,
            "timestamp": died,
            "provider": self.provider.map(Provider::as_str),
            "tenant_id": tenant.as_str(),
        })
    }

    /// Throws away what waits, but for the newest `keep` items; leased ones stay. False if this is
    /// no list of changes that wait.
    pub(super) async fn trim(&self, keep: u64) -> Result<bool, Error> {
        if self.part != Part::Live {
            return Ok(false);
        }
        let waiting = Waiting { tenant: self.tenant.clone(), keep, ..Waiting::default() };
        self.app.queues.purge(self.queue, waiting, ACTOR).await?;
        Ok(true)
    }

    /// Throws away dead letters: how many, or nothing if this is no list of them.
    pub(super) async fn clear(&self) -> Result<Option<u64>, Error> {
        if self.part != Part::Dead {
            return Ok(None);
        }
        let letters = Letters { tenant: self.tenant.clone(), ..Letters::default() };
        Ok(Some(self.app.queues.clear(self.queue, letters, 0, ACTOR).await?.purged))
    }
}

/// The names of all lists that hold something, in order.
pub(super) async fn names(app: &App) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for provider in Provider::ALL {
        let queue = queues::find(changes::def(provider).name)?;
        for (tenant, stats) in app.queues.tenants(queue).await? {
            if stats.depths.live() > 0 {
                names.push(Key::Changes(provider, tenant.clone()).to_string());
            }
            if stats.depths.dead > 0 {
                names.push(Key::DeadChanges(provider, tenant).to_string());
            }
        }
    }
    for key in [Key::Embeddings, Key::DelayedEmbeddings, Key::DeadEmbeddings] {
        if let Some(list) = List::of(app, &key)?
            && list.len().await? > 0
        {
            names.push(key.to_string());
        }
    }
    names.sort();
    Ok(names)
}
