//! One change of a source, and what it makes of the graph.
//!
//! A change says that an object may have changed, not what it is now: what counts is what the
//! source has when the change is worked on. So a change may be worked on twice, late, or in
//! another order, and the document is as the object is.

use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::time::UnixMicros;
use serde_json::Value;
use tracing::info;

use super::budget::Budget;
use super::change::{Action, Change};
use super::source::{FaultClass, Found, Looked, Source};
use super::throttle::Said;
use super::{Fault, Provider};
use crate::documents::chunk::{Chunk, Chunking, chunks};
use crate::documents::{Extractor, NoText, identity};
use crate::graph::{self, DocumentChange, Graph, KnownDocument, NewChunk, NewDocument, Object};
use crate::timestamp::iso;

/// The class of every parent.
const DOCUMENT: &str = "Document";
/// Bytes of objects that are in memory at the same time, of all workers together.
const IN_HAND_BYTES: u64 = 256 << 20;
/// How long a source is left alone that has too much to do and does not say for how long.
const PAUSE: Duration = Duration::from_secs(30);

/// Makes documents of the objects of sources.
#[derive(Clone)]
pub struct Processor {
    graph: Graph,
    extractor: Extractor,
    chunking: Chunking,
    /// Largest object that is taken, in bytes, unless its connector has a limit of its own.
    max_bytes: u64,
    /// Room for the objects in hand.
    budget: Budget,
}

/// A source, and whose it is.
#[derive(Clone)]
pub struct Place {
    /// The owner of the documents.
    pub tenant: TenantId,
    /// What kind of source it is.
    pub provider: Provider,
    /// The source.
    pub source: Source,
    /// What the names of its objects begin with.
    pub prefix: String,
    /// The largest object its connector takes, in bytes, if it says.
    pub max_bytes: Option<u64>,
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// A document that was not there, or was deleted.
    Created,
    /// A document that was there is another now.
    Updated,
    /// Nothing, or what is said of the document.
    Skipped,
    /// A document is soft-deleted.
    Deleted,
}

impl Effect {
    /// Every effect.
    pub const ALL: [Self; 4] = [Self::Created, Self::Updated, Self::Skipped, Self::Deleted];

    /// The word in labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Skipped => "skipped",
            Self::Deleted => "deleted",
        }
    }
}

/// Why a change came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The source.
    #[error("{0}")]
    Source(#[from] Fault),
    /// The object has no text that can be read.
    #[error("{class}: {0}", class = class_of(*.0))]
    Text(NoText),
    /// There is no room: the embedder has too much to do, or the disk is full.
    #[error("busy: {0}")]
    Busy(graph::Error),
    /// The graph.
    #[error("storage: {0}")]
    Graph(graph::Error),
}

/// Names of classes that are not the source's.
const UNSUPPORTED: &str = "unsupported_type";
const EXTRACT_FAILED: &str = "extract_failed";
const EXTRACTOR_BUSY: &str = "extractor_busy";

/// What there is to do about no text.
fn class_of(reason: NoText) -> &'static str {
    match reason {
        NoText::Unsupported | NoText::Legacy => UNSUPPORTED,
        NoText::NotStarted | NoText::Busy => EXTRACTOR_BUSY,
        NoText::Empty
        | NoText::Blank
        | NoText::Encrypted
        | NoText::Damaged
        | NoText::TooLong
        | NoText::Expands
        | NoText::TooDeep
        | NoText::Timeout
        | NoText::Crashed => EXTRACT_FAILED,
    }
}

impl Failure {
    /// Every class there is, for series that begin at zero.
    pub const CLASSES: [&'static str; 12] = [
        "not_found",
        "access_denied",
        "rate_limited",
        "network",
        "timeout",
        "too_large",
        UNSUPPORTED,
        "settings",
        EXTRACT_FAILED,
        EXTRACTOR_BUSY,
        "storage",
        "panic",
    ];

    /// The class in labels, logs and dead letters.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Source(fault) => fault.class.as_str(),
            Self::Text(reason) => class_of(*reason),
            Self::Busy(_) => "busy",
            Self::Graph(_) => "storage",
        }
    }

    /// Whether another attempt may fare better.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            // Settings may be mended before the attempts end.
            Self::Source(fault) => {
                fault.class.is_transient() || fault.class == FaultClass::Settings
            }
            Self::Text(reason) => class_of(*reason) == EXTRACTOR_BUSY,
            Self::Busy(_) => true,
            Self::Graph(error) => !matches!(error, graph::Error::ExternalIdTaken { .. }),
        }
    }

    /// What it says about the source.
    #[must_use]
    pub fn says(&self) -> Said {
        let Self::Source(fault) = self else { return Said::Works };
        match fault.class {
            FaultClass::AccessDenied | FaultClass::Network | FaultClass::Timeout => Said::Fails,
            FaultClass::RateLimited => Said::Pauses(fault.retry_after.unwrap_or(PAUSE)),
            FaultClass::NotFound
            | FaultClass::Changed
            | FaultClass::TooLarge
            | FaultClass::Unsupported
            | FaultClass::Settings => Said::Nothing,
        }
    }
}

impl From<graph::Error> for Failure {
    fn from(error: graph::Error) -> Self {
        match error {
            busy @ (graph::Error::QueueFull
            | graph::Error::TenantQueueFull
            | graph::Error::NoSpace { .. }) => Self::Busy(busy),
            other => Self::Graph(other),
        }
    }
}

impl Processor {
    /// Reads with `extractor`, cuts as `chunking` says, and writes to `graph`.
    #[must_use]
    pub fn new(graph: Graph, extractor: Extractor, chunking: Chunking, max_bytes: u64) -> Self {
        Self { graph, extractor, chunking, max_bytes, budget: Budget::new(IN_HAND_BYTES) }
    }

    /// Makes the document of a change what the object is now, and tells what that says about the
    /// source. The same change twice is once.
    ///
    /// # Errors
    ///
    /// [`Failure`]; then the document is as it was.
    pub async fn apply(&self, place: &Place, change: &Change) -> Result<(Effect, Said), Failure> {
        let Place { tenant, provider, .. } = place;
        let name = document_name(*provider, tenant, &change.uri);
        let known = self.graph.known_documents(tenant, vec![name.clone()]).await?;
        let known = known.into_iter().next().flatten();
        if is_older(*provider, change, known.as_ref()) {
            skipping(place, &change.uri, "a newer change was taken in");
            return Ok((Effect::Skipped, Said::Nothing));
        }
        Ok((self.follow(place, change, name, known).await?, Said::Works))
    }

    /// Makes the document of this name, of which so much is known, what the object is now.
    async fn follow(
        &self,
        place: &Place,
        change: &Change,
        name: String,
        known: Option<KnownDocument>,
    ) -> Result<Effect, Failure> {
        let Place { tenant, provider: _, source, prefix: _, max_bytes } = place;
        let (live, hidden) = match known {
            Some(known) if known.is_deleted => (None, Some(known)),
            known => (known, None),
        };
        // What somebody deleted stays so until the object is another, or is asked for.
        let kept_out =
            hidden.filter(|known| !known.is_deleted_by_source && !change.origin.is_asked_for());
        let had = live.as_ref().or(kept_out.as_ref()).and_then(|known| known.etag.as_deref());
        // A deletion is news like any other: it may be of an older version, or late, or long past.
        let (found, begun) = match source.look(&change.uri, had).await {
            Ok(Looked::Other(found, begun)) => (*found, begun),
            Ok(Looked::Same) => {
                let why = match live {
                    Some(_) => "ETag unchanged",
                    None => "its document was deleted by hand",
                };
                skipping(place, &change.uri, why);
                return Ok(Effect::Skipped);
            }
            Ok(Looked::Nothing) => return self.delete(tenant, &name).await,
            Err(fault) if fault.class == FaultClass::NotFound => {
                return self.delete(tenant, &name).await;
            }
            Err(fault) => {
                let permanent = !Failure::from(fault.clone()).is_transient();
                if permanent && change.action == Action::Deleted && live.is_none() {
                    skipping(place, &change.uri, "there is no document of it");
                    return Ok(Effect::Skipped);
                }
                return Err(fault.into());
            }
        };
        let max_bytes = max_bytes.unwrap_or(self.max_bytes);
        let in_hand = self.budget.room_for(found.size.unwrap_or(max_bytes).min(max_bytes)).await;
        let bytes = match source.read(&found, begun, max_bytes).await {
            Ok(bytes) => bytes,
            // It went between the two questions, or only that version of it.
            Err(fault) if fault.class == FaultClass::NotFound => {
                return match source.stat(&change.uri).await {
                    Ok(None) => self.delete(tenant, &name).await,
                    Err(fault) if fault.class == FaultClass::NotFound => {
                        self.delete(tenant, &name).await
                    }
                    Ok(Some(_)) => {
                        let why = "the object changed while it was read";
                        Err(Fault::new(FaultClass::Changed, why).into())
                    }
                    Err(fault) => Err(fault.into()),
                };
            }
            Err(fault) => return Err(fault.into()),
        };
        let n_bytes = bytes.len();
        let text = self.extractor.read(&found.title, found.content_type.as_deref(), bytes).await;
        drop(in_hand);
        let text = text.map_err(Failure::Text)?;
        let chunking = self.chunking;
        // Long texts take a while to be hashed and cut.
        let cut = tokio::task::spawn_blocking(move || {
            let pieces = chunks(&text, chunking).into_iter();
            let pieces = pieces.map(|Chunk { text, chars }| NewChunk { text, chars }).collect();
            (identity::sha256(&text), pieces)
        });
        let (hash, pieces): (String, Vec<NewChunk>) =
            cut.await.map_err(|_| graph::Error::Interrupted)?;
        let same = |known: &KnownDocument| known.content_hash.as_ref() == Some(&hash);
        if kept_out.as_ref().is_some_and(same) {
            skipping(place, &change.uri, "its document was deleted by hand, of the same text");
            return Ok(Effect::Skipped);
        }
        let same_text = live.as_ref().is_some_and(same);
        let said = said(change, &found, &hash, n_bytes);
        if same_text && self.graph.describe_document(tenant, &name, said.clone()).await? {
            skipping(place, &change.uri, "content hash unchanged");
            return Ok(Effect::Skipped);
        }
        let mut props = found.props;
        props.extend(said.into_iter().filter(|(_, value)| !value.is_null()));
        let document = NewDocument {
            tenant: tenant.clone(),
            external_id: name,
            title: found.title,
            classes: vec![DOCUMENT.to_owned()],
            props,
            chunk_props: Object::new(),
            chunks: pieces,
        };
        // Nobody waits for the embedding.
        let (mut outcomes, _) = self.graph.take_in(vec![document]).await?;
        match outcomes.pop().unwrap_or(Err(graph::Error::Interrupted))?.change {
            DocumentChange::Created => Ok(Effect::Created),
            DocumentChange::Updated => Ok(Effect::Updated),
            DocumentChange::Unchanged => Ok(Effect::Skipped),
        }
    }

    async fn delete(&self, tenant: &TenantId, name: &str) -> Result<Effect, Failure> {
        let deleted = self.graph.delete_document(tenant, name).await?;
        Ok(if deleted { Effect::Deleted } else { Effect::Skipped })
    }
}

/// The name of the document of an object.
#[must_use]
pub fn document_name(provider: Provider, tenant: &TenantId, uri: &str) -> String {
    let rest = uri.split_once("://").or_else(|| uri.split_once(':')).map_or(uri, |(_, rest)| rest);
    identity::external_id(provider.as_str(), tenant, rest)
}

/// Whether the document is of a later change of the object than this one.
fn is_older(provider: Provider, change: &Change, known: Option<&KnownDocument>) -> bool {
    let Some(KnownDocument { generation, sequencer, .. }) = known else { return false };
    let of_known = Change {
        generation: generation.clone(),
        sequencer: sequencer.clone(),
        ..Change::new(String::new(), change.action, change.origin)
    };
    match (change.rank(provider), of_known.rank(provider)) {
        (Some(rank), Some(known)) => rank < known,
        _ => false,
    }
}

/// What is written down of an object besides its text; null is nothing.
fn said(change: &Change, found: &Found, hash: &str, n_bytes: usize) -> Object {
    let text = |text: &Option<String>| Value::from(text.clone());
    let modified_at = found.modified_at.or(change.modified_at);
    let mut said = Object::new();
    let mut say = |name: &str, value: Value| drop(said.insert(name.to_owned(), value));
    say("etag", text(&found.etag));
    say("modified_at", modified_at.map(|at: UnixMicros| iso(at.get())).into());
    say("content_hash", hash.into());
    say("mime_type", text(&found.content_type));
    say("size", n_bytes.into());
    if found.generation.is_some() {
        say("generation", text(&found.generation));
    }
    // Without one, what is known of an earlier change stays: it still is one.
    if change.sequencer.is_some() {
        say("sequencer", text(&change.sequencer));
    }
    said
}

fn skipping(place: &Place, uri: &str, why: &str) {
    let Place { tenant, provider, .. } = place;
    let provider = provider.as_str();
    info!(tenant_id = %tenant, provider, uri, "Skipping a connector item: {why}");
}

#[cfg(test)]
mod tests;
