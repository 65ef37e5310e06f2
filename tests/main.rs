//! Tests of the program from outside: the real binary, started as an operator starts it, spoken
//! to over HTTP. Nothing here uses the library.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod backup;
mod care;
mod common;
mod disk_full;
mod kill;
mod startup;
mod vectors;
