//! Work that comes in between: what a pass over the texts of jobs lets run on its own thread.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The queries that wait, and how to serve them. A pass looks here before every product and every
/// block of attention, which with tiles is a few times in a tenth of a millisecond: what a query
/// waits for a thread that is at work. No decision of the system's scheduler comes before that.
pub(super) struct Between<'a> {
    waiting: &'a AtomicUsize,
    serve: &'a dyn Fn(),
}

impl<'a> Between<'a> {
    /// `serve` is called when `waiting` is not zero, on the thread of the pass. It may start a
    /// pass of its own, which must have nothing in between.
    pub(super) fn new(waiting: &'a AtomicUsize, serve: &'a dyn Fn()) -> Self {
        Self { waiting, serve }
    }

    /// Serves whoever waits.
    pub(super) fn look(&self) {
        if self.is_wanted() {
            self.serve();
        }
    }

    /// Whether somebody waits.
    pub(super) fn is_wanted(&self) -> bool {
        // Only a hint: whoever serves takes the queue's lock.
        self.waiting.load(Relaxed) > 0
    }

    pub(super) fn serve(&self) {
        (self.serve)();
    }
}
