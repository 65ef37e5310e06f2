//! Connectors: sources outside that documents come from.

pub mod keyring;
