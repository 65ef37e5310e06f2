//! Nodes that refresh themselves.

pub mod schedule;
