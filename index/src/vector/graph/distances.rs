//! How far rows are from one another and from a query.

use std::sync::Arc;

use crate::Kernels;
use crate::vector::Metric;
use crate::vector::lift::Lift;
use crate::vector::segment::Segment;

/// Distances in a segment: never negative and never NaN.
pub(super) struct Distances {
    segment: Arc<Segment>,
    metric: Metric,
    kernels: Kernels,
    /// For inner products.
    lift: Lift,
}

impl Distances {
    pub(super) fn new(segment: &Arc<Segment>, metric: Metric, kernels: Kernels) -> Self {
        let lift = match metric {
            Metric::InnerProduct => Lift::of(segment, kernels),
            Metric::Cosine | Metric::L2 => Lift::default(),
        };
        Self { segment: Arc::clone(segment), metric, kernels, lift }
    }

    /// From one row to another.
    pub(super) fn between(&self, a: u32, b: u32) -> f32 {
        let (x, y) = (self.segment.vector(a), self.segment.vector(b));
        match self.metric {
            // A lifted row is as long as the longest.
            Metric::InnerProduct => {
                let product = self.kernels.dot(x, y) + self.lift.at(a) * self.lift.at(b);
                (2.0 * (self.lift.square - product)).max(0.0)
            }
            Metric::Cosine | Metric::L2 => self.plain(x, y),
        }
    }

    /// From a vector, in the form in which vectors are stored, to each row.
    pub(super) fn from<'a>(&'a self, values: &'a [f32]) -> impl Fn(u32) -> f32 + 'a {
        let square = match self.metric {
            Metric::InnerProduct => self.kernels.dot(values, values) + self.lift.square,
            Metric::Cosine | Metric::L2 => 0.0,
        };
        move |row| {
            let vector = self.segment.vector(row);
            match self.metric {
                Metric::InnerProduct => (square - 2.0 * self.kernels.dot(values, vector)).max(0.0),
                Metric::Cosine | Metric::L2 => self.plain(values, vector),
            }
        }
    }

    /// `max` gives the other value for a NaN.
    fn plain(&self, x: &[f32], y: &[f32]) -> f32 {
        match self.metric {
            Metric::Cosine | Metric::InnerProduct => (1.0 - self.kernels.dot(x, y)).max(0.0),
            Metric::L2 => self.kernels.square_distance(x, y),
        }
    }
}
