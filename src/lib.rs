//! activekg: a self-refreshing knowledge graph with search and cited answers, in one program.
//!
//! # Architecture
//!
//! `main → cli → startup → { http, jobs } → areas → { storage, index, embedding, llm }`: each
//! layer names only those to its right. The areas are [`graph`], [`documents`], [`search`] and
//! [`ask`]; they know nothing of HTTP, and `storage` and `index` know nothing of each other or of this crate.
//!
//! ```text
//! request → http (dialect, limits, auth) → writes → graph ─┐ one transaction: record, event,
//!                                                          │ change-log entry, job
//!                         storage (one file, one committer)┘
//!                              │ change log                       │ durable queue
//!                      search::indexer                    jobs::EmbeddingWorker
//!                              │                                  │
//!                  index: words, vectors              embedding: text → vector → graph
//! ```
//!
//! # Invariants
//!
//! - A write that answered 2xx is durable, with the jobs it causes: they are one transaction.
//! - Indexes are derived. They follow the change log, keep its sequence number in their own
//!   commits, and can be deleted at any time; the store rebuilds them.
//! - The store decides what a tenant sees. An index only proposes ids; each is read again and
//!   checked for tenant, deletion and filter.
//! - The tenant is the first part of every tenant-owned key, and part of the signature of every
//!   function over tenant data. `auth::tenancy` alone widens what a caller sees.
//! - A job may run twice and has one effect; one live job a node.
//! - Nothing blocks an async thread; no transaction and no lock lives across an `.await`.
//! - The environment is read in `config::options` only; clocks are handed in.

pub mod admin;
pub mod app;
pub mod ask;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod cli;
pub mod clouds;
pub mod config;
pub mod connectors;
pub mod documents;
pub mod embedding;
pub mod fetch;
pub mod graph;
pub mod http;
pub mod jobs;
pub mod llm;
pub mod mcp;
pub mod models;
pub mod names;
pub mod observability;
pub mod queues;
pub mod refresh;
pub mod resp;
pub mod search;
pub mod shutdown;
pub mod startup;
pub mod timestamp;
pub mod tls;
pub mod upstream;
pub mod writes;
