//! How far the recovery of a store is.

use std::fmt;
use std::sync::Arc;

/// Told how far the walk over a store that was not closed is, from 0 to 1. It is told only now and
/// then, and not at all if there is nothing to recover.
#[derive(Clone, Default)]
pub struct Recovery(Option<Arc<dyn Fn(f64) + Send + Sync>>);

impl Recovery {
    /// Tells `watch`.
    pub fn told(watch: impl Fn(f64) + Send + Sync + 'static) -> Recovery {
        Recovery(Some(Arc::new(watch)))
    }

    pub(super) fn tell(&self, done: f64) {
        if let Some(watch) = &self.0 {
            watch(done);
        }
    }
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recovery").field(&self.0.is_some()).finish()
    }
}

/// The same watcher, or none on both sides.
impl PartialEq for Recovery {
    fn eq(&self, other: &Recovery) -> bool {
        match (&self.0, &other.0) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl Eq for Recovery {}
