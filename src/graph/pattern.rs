//! Patterns that nodes listen for. They belong to a tenant, as everything else does.

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::{PATTERNS, PatternRecord, add_count, note_tenant};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, WriteTx};

use super::{Error, Graph, View, fire};

/// Counter of a tenant's patterns.
const COUNT: &str = "patterns";
/// Most patterns of a tenant.
pub const PATTERNS_MAX: u64 = 10_000;

/// A pattern to be registered, under a name that may be taken: then it is changed.
#[derive(Debug, Clone)]
pub struct NewPattern {
    /// Its name, unique in its tenant.
    pub name: String,
    /// A text that is an example of it.
    pub example_text: String,
    /// What it is for.
    pub description: Option<String>,
}

/// The vector of a text, and who made it.
#[derive(Debug, Clone)]
pub struct MadeVector {
    /// The model's name.
    pub model: String,
    /// The vector.
    pub values: Vec<f32>,
}

/// A pattern, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// When it was first registered.
    pub created_at: UnixMicros,
    /// When it was last registered.
    pub updated_at: UnixMicros,
}

/// A pattern whose vector is of another model than the one asked for.
#[derive(Debug, Clone)]
pub struct StalePattern {
    /// Its owner.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// What it is an example of.
    pub example_text: String,
    revision: u64,
}

impl Graph {
    /// Registers a pattern of the caller's own tenant, and the job that looks for it at the nodes
    /// that listen for it.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyPatterns`], [`Error::NoSpace`], the store's own.
    pub async fn register_pattern(
        &self,
        view: &View,
        new: NewPattern,
        vector: MadeVector,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        self.space.check(now)?;
        let tenant = view.tenant().clone();
        self.store
            .write(move |tx| -> Result<(), Error> {
                let NewPattern { name, example_text, description } = new.clone();
                let MadeVector { model, values } = vector.clone();
                let key = (tenant.clone(), name.clone());
                let before = tx.get(&PATTERNS, &key)?;
                if before.is_none() && add_count(tx, &tenant, COUNT, 1)? > PATTERNS_MAX {
                    return Err(Error::TooManyPatterns);
                }
                let unchanged = before.as_ref().filter(|old| old.example_text == example_text);
                // An instant, so that a name that is used again does not begin anew.
                let revision = unchanged.map_or(now.get().unsigned_abs(), |old| old.revision);
                let created_at = before.as_ref().map_or(now, |old| old.created_at);
                let record = PatternRecord {
                    example_text,
                    description,
                    revision,
                    model,
                    values,
                    created_at,
                    updated_at: now,
                };
                tx.put(&PATTERNS, &key, &record)?;
                note_tenant(tx, &tenant, now)?;
                fire::check_listeners(tx, &tenant, &name, now)
            })
            .await?;
        Ok(())
    }

    /// The patterns that the caller sees, by name. One of its own hides a shared one.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn patterns(&self, view: &View) -> Result<Vec<Pattern>, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let mut found: Vec<Pattern> = Vec::new();
            for owner in owners {
                for row in tx.scan(&PATTERNS, Scan::prefix(&(owner,)))? {
                    let ((_, name), record) = row?;
                    let PatternRecord { description, created_at, updated_at, .. } = record;
                    if found.iter().all(|own| own.name != name) {
                        found.push(Pattern { name, description, created_at, updated_at });
                    }
                }
            }
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        })
        .await
    }

    /// Removes a pattern of the caller's own tenant. Nodes go on to name it, to no effect. A full
    /// disk does not stop it.
    ///
    /// # Errors
    ///
    /// [`Error::PatternNotFound`] (also for a shared one, which is read-only), the store's own.
    pub async fn remove_pattern(&self, view: &View, name: String) -> Result<(), Error> {
        let tenant = view.tenant().clone();
        self.store
            .make_room(move |tx| -> Result<(), Error> {
                if !tx.remove(&PATTERNS, &(tenant.clone(), name.clone()))? {
                    return Err(Error::PatternNotFound(name.clone()));
                }
                add_count(tx, &tenant, COUNT, -1)?;
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// How many patterns the caller's own tenant has registered.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn n_patterns(&self, view: &View) -> Result<u64, Error> {
        let tenant = view.tenant().clone();
        self.reading(move |tx| Ok(activekg_storage::tables::graph::count(tx, &tenant, COUNT)?))
            .await
    }

    /// Up to `n` patterns of all tenants whose vector another model than `model` made.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn stale_patterns(
        &self,
        model: String,
        n: usize,
    ) -> Result<Vec<StalePattern>, Error> {
        self.reading(move |tx| {
            let mut stale = Vec::new();
            for row in tx.scan(&PATTERNS, Scan::all())? {
                let ((tenant, name), record) = row?;
                if record.model != model {
                    let PatternRecord { example_text, revision, .. } = record;
                    stale.push(StalePattern { tenant, name, example_text, revision });
                }
                if stale.len() == n {
                    break;
                }
            }
            Ok(stale)
        })
        .await
    }

    /// Gives patterns the vectors that were made for them. What has changed meanwhile keeps its own.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn embed_patterns(&self, made: Vec<(StalePattern, MadeVector)>) -> Result<(), Error> {
        self.space.check(self.clock.now())?;
        let write_all = move |tx: &mut WriteTx<'_>| -> Result<(), Error> {
            for (StalePattern { tenant, name, revision, .. }, vector) in &made {
                let key = (tenant.clone(), name.clone());
                let there = tx.get(&PATTERNS, &key)?.filter(|there| there.revision == *revision);
                let Some(mut record) = there else { continue };
                record.model = vector.model.clone();
                record.values = vector.values.clone();
                tx.put(&PATTERNS, &key, &record)?;
            }
            Ok(())
        };
        self.store.write(write_all).await?;
        Ok(())
    }
}
