//! Seeded data that looks like embeddings: unit vectors in clusters.

use activekg_index::{VectorOp, VectorQuery, VectorSet};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(crate) struct Clusters {
    rng: StdRng,
    centers: Vec<Vec<f32>>,
}

impl Clusters {
    pub(crate) fn new(seed: u64, n: usize, dim: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let center = |_| (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        let centers = (0..n).map(center).collect();
        Self { rng, centers }
    }

    pub(crate) fn vector(&mut self) -> Vec<f32> {
        let center = self.rng.random_range(0..self.centers.len());
        let mut near = |&v: &f32| v + self.rng.random_range(-0.5..0.5);
        self.centers[center].iter().map(&mut near).collect()
    }

    /// Puts with the ids `first..first + n`; the tenant is `t` and the id modulo `tenants`.
    pub(crate) fn puts(&mut self, first: u128, n: usize, tenants: u128) -> Vec<VectorOp> {
        (first..first + n as u128)
            .map(|id| VectorOp::Put {
                id,
                tenant: format!("t{}", id % tenants),
                values: self.vector(),
            })
            .collect()
    }
}

pub(crate) fn ids(set: &VectorSet, query: &VectorQuery<'_>) -> Vec<u128> {
    set.search(query).unwrap().iter().map(|hit| hit.id).collect()
}
