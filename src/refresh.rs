//! Nodes that refresh themselves: when they are due, and when the scheduler ran. What is due is
//! found by the graph, and embedded through its queue.

mod log;
pub mod schedule;

pub use log::{Jobs, RunLog};

/// Name of the job that queues what is due.
pub const REFRESH_CYCLE: &str = "refresh_cycle";
/// Name of the job that purges what was deleted.
pub const PURGE_CYCLE: &str = "purge_deleted_cycle";
/// Name of the job that looks after the patterns.
pub const TRIGGER_CYCLE: &str = "trigger_cycle";
