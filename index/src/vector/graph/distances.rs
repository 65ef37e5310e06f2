//! How far rows are from one another and from a query.

use std::borrow::Cow;
use std::sync::Arc;

use super::codes::{Code, Codes};
use crate::vector::Metric;
use crate::vector::lift::Lift;
use crate::vector::segment::Segment;
use crate::{Kernels, kernels};

/// Vectors of fewer values are compared in full: they are small, and each of them counts.
const CODES_FROM: usize = 64;

/// Distances in a segment: never negative and never NaN.
pub(super) struct Distances {
    segment: Arc<Segment>,
    metric: Metric,
    kernels: Kernels,
    /// For inner products.
    lift: Lift,
    /// What is compared in place of the vectors, for cosines: all are of length one, so that what
    /// rounding takes away is small beside what tells them apart.
    codes: Option<Codes>,
}

impl Distances {
    pub(super) fn new(segment: &Arc<Segment>, metric: Metric, kernels: Kernels) -> Self {
        let lift = match metric {
            Metric::InnerProduct => Lift::of(segment, kernels),
            Metric::Cosine | Metric::L2 => Lift::default(),
        };
        let coded = metric == Metric::Cosine && segment.dim() >= CODES_FROM;
        let codes = coded.then(|| Codes::of(segment));
        Self { segment: Arc::clone(segment), metric, kernels, lift, codes }
    }

    /// Memory in use beside the segment.
    pub(super) fn bytes(&self) -> usize {
        self.codes.as_ref().map_or(0, Codes::bytes)
    }

    /// Distances from a row.
    pub(super) fn of_row(&self, row: u32) -> Origin<'_> {
        let values = self.segment.vector(row);
        let code = self.codes.as_ref().map(|codes| {
            let (code, step) = codes.row(row);
            (codes, Cow::Borrowed(code), step)
        });
        let (square, extra) = (2.0 * self.lift.square, self.lift(row));
        Origin { distances: self, values, code, square, extra }
    }

    /// Distances from a vector, in the form in which vectors are stored.
    pub(super) fn of_values<'a>(&'a self, values: &'a [f32]) -> Origin<'a> {
        let square = match self.metric {
            Metric::InnerProduct => self.kernels.dot(values, values) + self.lift.square,
            Metric::Cosine | Metric::L2 => 0.0,
        };
        let code = self.codes.as_ref().map(|codes| {
            let (code, step) = codes.rounded(values);
            (codes, Cow::Owned(code), step)
        });
        Origin { distances: self, values, code, square, extra: 0.0 }
    }

    /// The extra coordinate of a row, if rows are lifted.
    fn lift(&self, row: u32) -> f32 {
        match self.metric {
            Metric::InnerProduct => self.lift.at(row),
            Metric::Cosine | Metric::L2 => 0.0,
        }
    }
}

/// Where distances are measured from.
pub(super) struct Origin<'a> {
    distances: &'a Distances,
    values: &'a [f32],
    /// The codes to compare with, this one's own, and its step.
    code: Option<(&'a Codes, Cow<'a, Code>, f32)>,
    /// For inner products: the squared lengths of both, and this one's extra coordinate.
    square: f32,
    extra: f32,
}

impl Origin<'_> {
    pub(super) fn to(&self, row: u32) -> f32 {
        let Self { distances: Distances { segment, metric, kernels, .. }, values, .. } = *self;
        if let Some((codes, own, step)) = &self.code {
            let (code, other) = codes.row(row);
            return (1.0 - kernels.dot_codes(own, code) as f32 * (step * other)).max(0.0);
        }
        let vector = segment.vector(row);
        // `max` gives the other value for a NaN.
        match metric {
            Metric::Cosine => (1.0 - kernels.dot(values, vector)).max(0.0),
            Metric::L2 => kernels.square_distance(values, vector),
            Metric::InnerProduct => {
                let lifted = self.extra * self.distances.lift(row);
                (self.square - 2.0 * (kernels.dot(values, vector) + lifted)).max(0.0)
            }
        }
    }

    /// Has the processor bring the vector of a row, which is wanted next.
    pub(super) fn prefetch(&self, row: u32) {
        match &self.code {
            Some((codes, ..)) => kernels::prefetch(codes.row(row).0),
            None => kernels::prefetch(self.distances.segment.vector(row)),
        }
    }
}
