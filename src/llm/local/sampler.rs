//! Choosing the next token.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the best token always; higher values, up to 2, take others more often.
    pub temperature: f32,
    /// The best tokens are chosen from that have this share of the probability, above 0 to 1.
    pub top_p: f32,
    /// With the same seed, file and question the answer is the same.
    pub seed: u64,
}

/// Chooses the tokens of one answer.
pub struct Sampler {
    sampling: Sampling,
    random: StdRng,
    likely: Vec<(f32, u32)>,
}

impl Sampler {
    /// Begins an answer.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, random: StdRng::seed_from_u64(sampling.seed), likely: Vec::new() }
    }

    /// A token by its score in `scores`; `None` if no score is a number.
    pub fn choose(&mut self, scores: &[f32]) -> Option<u32> {
        let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !best.is_finite() {
            return None;
        }
        let Sampling { temperature, top_p, seed: _ } = self.sampling;
        // Below e^-16 of the best a token has no chance worth its sorting.
        let least = best - 16.0 * temperature;
        let likely = scores.iter().enumerate().filter(|(_, score)| **score >= least);
        self.likely.clear();
        self.likely.extend(likely.map(|(id, score)| {
            let weight = if temperature > 0.0 { ((score - best) / temperature).exp() } else { 1.0 };
            (weight, id as u32)
        }));
        if temperature <= 0.0 {
            return self.likely.first().map(|(_, id)| *id);
        }
        self.likely.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let all: f32 = self.likely.iter().map(|(weight, _)| weight).sum();
        let mut kept = 0.0;
        let end = self.likely.iter().position(|(weight, _)| {
            kept += weight;
            kept >= top_p * all
        });
        self.likely.truncate(end.map_or(self.likely.len(), |end| end + 1));
        let mut at = self.random.random::<f32>() * kept;
        let chosen = self.likely.iter().find(|(weight, _)| {
            at -= weight;
            at < 0.0
        });
        chosen.or(self.likely.last()).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(temperature: f32, top_p: f32, scores: &[f32]) -> Vec<u32> {
        let mut sampler = Sampler::new(Sampling { temperature, top_p, seed: 7 });
        (0..2000).map(|_| sampler.choose(scores).unwrap()).collect()
    }

    #[test]
    fn without_temperature_the_best_is_taken_the_first_of_equals() {
        assert!(draws(0.0, 1.0, &[1.0, 3.0, 3.0, 2.0]).iter().all(|id| *id == 1));
    }

    #[test]
    fn draws_follow_the_scores() {
        let scores = [0.0, 2.0_f32.ln(), f32::NEG_INFINITY, 5.0_f32.ln(), f32::NAN];
        let drawn = draws(1.0, 1.0, &scores);
        for (id, share) in [(0, 0.125), (1, 0.25), (2, 0.0), (3, 0.625), (4, 0.0)] {
            let found = drawn.iter().filter(|drawn| **drawn == id).count() as f64 / 2000.0;
            assert!((found - share).abs() < 0.05, "{id}: {found}");
        }
        assert_eq!(drawn, draws(1.0, 1.0, &scores), "the same seed");
    }

    #[test]
    fn the_unlikely_can_be_left_out() {
        let scores = [0.0, 2.0_f32.ln(), 5.0_f32.ln()];
        assert!(draws(1.0, 0.6, &scores).iter().all(|id| *id == 2));
        assert!(draws(1.0, 0.8, &scores).iter().all(|id| *id > 0));
    }

    #[test]
    fn no_number_is_no_token() {
        let mut sampler = Sampler::new(Sampling { temperature: 1.0, top_p: 1.0, seed: 0 });
        assert_eq!(sampler.choose(&[f32::NAN; 3]), None);
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY]), None);
        assert_eq!(sampler.choose(&[]), None);
        assert_eq!(sampler.choose(&[0.0, f32::INFINITY]), None);
    }
}
