//! The transactional store of activekg: one file, typed tables, one writer that syncs once for
//! many changes, a change log, durable queues.
//!
//! - A write that was answered is on disk. A row, its history, its change-log entry and the jobs it
//!   causes are one transaction, so they cannot disagree.
//! - Everything stored carries a checksum over its key and bytes; what does not fit is an error
//!   ([`StorageError::Corrupt`]) and never a wrong answer.
//! - The tenant is the first part of every tenant-owned key.
//! - One process holds a store, one thread writes to it; readers see snapshots and never wait.
//!
//! ```
//! use activekg_storage::tables::graph::{add_count, count};
//! use activekg_storage::{StorageError, Store, StoreOptions, ids::TenantId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path(), StoreOptions::default())?;
//! let tenant = TenantId::new("acme")?;
//! let owner = tenant.clone();
//! let committed = store.write_blocking(move |tx| add_count(tx, &owner, "nodes", 2))?;
//! assert_eq!(committed.value, 2);
//! assert_eq!(count(&store.read()?, &tenant, "nodes")?, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }
//! ```

pub mod backup;
pub mod blob;
pub mod changes;
pub mod check;
pub mod codec;
pub mod compact;
mod consistency;
pub mod crypt;
mod error;
pub mod ids;
pub mod keys;
mod load;
mod migrate;
mod offline;
mod open;
mod opened;
mod pages;
pub mod queue;
mod read;
mod readers;
pub mod repair;
mod restore;
pub mod scrub;
mod space;
mod stats;
mod store;
mod table;
pub mod tables;
pub mod time;
mod walk;
mod write;
mod writer;

pub use blob::{BlobId, Blobs};
pub use changes::{Change, ChangeKind, ChangeRecord};
pub use codec::{Glance, Record, SkippedText};
pub use consistency::{Disagreement, Isolation};
pub use error::StorageError;
pub use ids::{EventId, JobId, NodeId, Seq, TenantId};
pub use offline::{Offline, Pages};
pub use open::{FORMAT, OpenError, Recovery};
pub use read::{ReadTx, Readable, Rows};
pub use readers::ReaderStats;
#[doc(hidden)]
pub use space::Holder;
pub use stats::{Histogram, StoreStats};
pub use store::{Store, StoreOptions};
pub use table::{Scan, Table, TableInfo};
pub use time::{Clock, ManualClock, SystemClock, UnixMicros};
pub use walk::{DamagedRow, TableReport};
pub use write::WriteTx;
pub use writer::Committed;
