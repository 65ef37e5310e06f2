//! Tests of the program from outside: the real binary, started as an operator starts it, spoken
//! to over HTTP. Nothing here uses the library; what no request can bring about is put into the
//! store, or read from it, while no server runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod asking;
mod backup;
mod care;
mod changing;
mod common;
mod crash_points;
mod dashboards;
mod disk_full;
mod handbook;
mod keeping;
mod kill;
mod logging;
mod startup;
mod vectors;
mod windows;
