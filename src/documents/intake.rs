//! From files to documents in the graph.

use activekg_storage::ids::TenantId;
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::chunk::{Chunk, Chunking, chunks};
use super::{Extractor, Kind, NoText, identity, kind};
use crate::graph::{self, NewChunk, NewDocument, Object};
use crate::writes::Writes;

/// Longest name of a file, in characters.
const NAME_MAX: usize = 255;
/// What files without a name are called.
const UNNAMED: &str = "unnamed";

/// Takes in files.
#[derive(Clone)]
pub struct Intake {
    extractor: Extractor,
    chunking: Chunking,
    writes: Writes,
}

/// A file that was handed in.
#[derive(Debug, Clone)]
pub struct File {
    /// What it is called.
    pub name: String,
    /// What it is said to be.
    pub content_type: Option<String>,
    /// All of it.
    pub bytes: Bytes,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is a document now, or already was.
    Stored {
        /// The chunks it has.
        chunks: usize,
        /// How many of them will be embedded.
        queued: usize,
    },
    /// It has no text, and why.
    Skipped(String),
    /// It may have text, but was not taken in, and why.
    Failed(String),
}

impl Intake {
    /// Reads with `extractor` and writes to `writes`.
    #[must_use]
    pub fn new(extractor: Extractor, chunking: Chunking, writes: Writes) -> Self {
        Self { extractor, chunking, writes }
    }

    /// Makes documents of uploaded files, all in one change of the graph. The outcomes are in the
    /// order of the files.
    ///
    /// # Errors
    ///
    /// Those of [`graph::Graph::take_in`], for all files together: then no file was taken in.
    pub async fn upload(
        &self,
        tenant: &TenantId,
        files: Vec<File>,
        classes: &[String],
    ) -> Result<Vec<Outcome>, graph::Error> {
        let texts = join_all(files.iter().map(|file| self.text(file))).await;
        let maker = Maker {
            tenant: tenant.clone(),
            classes: classes.to_vec(),
            chunking: self.chunking,
            room: self.extractor.limits().text_bytes,
        };
        // Long texts take a while to be hashed and cut.
        let made = move || maker.documents(&files, texts);
        let made = tokio::task::spawn_blocking(made).await;
        let (documents, plan) = made.map_err(|_| graph::Error::Interrupted)?;
        let taken =
            if documents.is_empty() { Vec::new() } else { self.writes.take_in(documents).await? };
        let mut taken = taken.into_iter();
        let outcome = |planned| match planned {
            Err(outcome) => outcome,
            Ok(()) => match taken.next() {
                Some(Ok(taken)) => {
                    Outcome::Stored { chunks: taken.chunks, queued: taken.jobs.len() }
                }
                Some(Err(error)) => Outcome::Failed(error.to_string()),
                None => Outcome::Failed(graph::Error::Interrupted.to_string()),
            },
        };
        Ok(plan.into_iter().map(outcome).collect())
    }

    /// The text of a file, or its outcome without one.
    async fn text(&self, file: &File) -> Result<String, Outcome> {
        let File { name, content_type, bytes } = file;
        if name.chars().count() > NAME_MAX {
            let reason = format!("its name is longer than {NAME_MAX} characters");
            return Err(Outcome::Failed(reason));
        }
        let text = self.extractor.read(name, content_type.as_deref(), bytes.clone()).await;
        text.map_err(refused)
    }
}

/// Makes documents of the files of one upload.
struct Maker {
    tenant: TenantId,
    classes: Vec<String>,
    chunking: Chunking,
    /// Bytes of text that there is room for: all of it is written by one change.
    room: u64,
}

impl Maker {
    /// The documents of the files that have a text, and for every file whether it has one.
    fn documents(
        mut self,
        files: &[File],
        texts: Vec<Result<String, Outcome>>,
    ) -> (Vec<NewDocument>, Vec<Result<(), Outcome>>) {
        let mut documents = Vec::new();
        let plan = files.iter().zip(texts).map(|(file, text)| -> Result<(), Outcome> {
            let text = text?;
            let left = self.room.checked_sub(text.len() as u64);
            self.room = left.ok_or_else(|| refused(NoText::TooLong))?;
            documents.push(self.document(file, &text));
            Ok(())
        });
        let plan = plan.collect();
        (documents, plan)
    }

    fn document(&self, file: &File, text: &str) -> NewDocument {
        let File { name, content_type, bytes } = file;
        let name = if name.is_empty() { UNNAMED } else { name };
        let hash = identity::sha256(text);
        let content_type = match content_type.as_deref().map(kind::essence) {
            Some(told) if !kind::is_untold(&told) => told,
            Some(_) | None => Kind::content_type_of(name).to_owned(),
        };
        let members = [
            ("source", json!("manual_upload")),
            ("content_type", json!(content_type)),
            ("size", json!(bytes.len())),
            ("content_hash", json!(hash)),
        ];
        let props = members.map(|(name, value)| (name.to_owned(), value));
        // Clients know these to be there, and uploads know nothing of them.
        let unknown = ["entity_type", "role", "skills"].map(|name| (name.to_owned(), Value::Null));
        let pieces = chunks(text, self.chunking).into_iter();
        NewDocument {
            tenant: self.tenant.clone(),
            external_id: identity::of_upload(&self.tenant, name, &hash),
            title: name.to_owned(),
            classes: self.classes.clone(),
            props: Object::from_iter(props),
            chunk_props: Object::from_iter(unknown),
            chunks: pieces.map(|Chunk { text, chars }| NewChunk { text, chars }).collect(),
        }
    }
}

fn refused(reason: NoText) -> Outcome {
    if reason.is_failure() {
        Outcome::Failed(reason.to_string())
    } else {
        Outcome::Skipped(reason.to_string())
    }
}
