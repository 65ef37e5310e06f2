//! Which build this is.

/// The version of the program, as in its file name. (`/health` reports the version of the API.)
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, shortened; empty when it was built
/// outside of version control.
pub const COMMIT: &str = env!("ACTIVEKG_COMMIT");

/// Version and commit for people: `0.1.0 (3f2a9c1d)`.
pub const FULL: &str = env!("ACTIVEKG_FULL_VERSION");
