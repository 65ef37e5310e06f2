//! How sure an answer is, from 0 to 1.

/// What confidence is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    /// How well each source fits the question, 0 to 1, best first.
    pub strengths: &'a [f64],
    /// The indexes that the answer cites, rising; some may be beyond the sources.
    pub cited: &'a [usize],
    /// Length of the answer, in characters.
    pub answer_chars: usize,
    /// An intent was detected and found nodes.
    pub intent: bool,
}

/// Confidence without sources or citations.
const UNGROUNDED: f64 = 0.3;
/// How many leading sources an answer is expected to cite.
const LEADING: usize = 3;

impl Grounds<'_> {
    /// The confidence, 0 to 0.95, to three decimals. It rises with the fit of what is cited and
    /// with how many of the leading sources are, and falls with length; an answer that does not
    /// cite the best source gets at most 0.85.
    pub fn confidence(&self) -> f64 {
        let Self { strengths, cited, answer_chars, intent } = *self;
        let (Some(first), Some(top)) = (cited.first(), strengths.first()) else {
            return UNGROUNDED;
        };
        let leading = strengths.len().min(LEADING);
        let covered = cited.iter().filter(|index| **index < leading).count();
        let coverage = covered as f64 / leading as f64;
        let chars = answer_chars as f64;
        let brevity = |least: f64, scale: f64| (1.0 - chars / scale).max(least);
        if intent {
            return thousandths((0.85 + 0.05 * coverage + 0.02 * brevity(0.95, 4000.0)).min(0.92));
        }
        let fits: Vec<f64> =
            cited.iter().filter_map(|index| strengths.get(*index).copied()).collect();
        let fit = if fits.is_empty() { 0.5 } else { fits.iter().sum::<f64>() / fits.len() as f64 };
        let score = 0.5 * fit + 0.3 * coverage + 0.2 * brevity(0.8, 2000.0);
        let cap = if *first == 0 { 0.95 } else { 0.85 };
        thousandths(score.min(0.5 + 0.5 * top).min(cap))
    }
}

/// `value` to three decimals.
pub fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(strengths: &[f64], cited: &[usize], answer_chars: usize, intent: bool) -> f64 {
        Grounds { strengths, cited, answer_chars, intent }.confidence()
    }

    #[test]
    fn values_of_the_contract() {
        let three = [0.8, 0.7, 0.6];
        assert_eq!(of(&three, &[0], 100, false), 0.69);
        assert_eq!(of(&three, &[0, 1, 2], 100, false), 0.84);
        assert_eq!(of(&three, &[1], 100, false), 0.64);
        assert_eq!(of(&three, &[], 100, false), 0.3);
        assert_eq!(of(&three, &[0], 100, true), 0.886);
        assert_eq!(of(&three, &[7], 100, false), 0.44);
        assert_eq!(of(&[0.033], &[0], 3000, false), 0.477);
    }

    #[test]
    fn caps() {
        assert_eq!(of(&[1.0, 1.0, 1.0], &[0, 1, 2], 0, false), 0.95);
        assert_eq!(of(&[1.0, 1.0, 1.0], &[1, 2], 0, false), 0.85);
        assert_eq!(of(&[0.2, 0.2], &[0, 1], 0, false), 0.6);
        assert_eq!(of(&[1.0], &[0], 0, true), 0.92);
        assert_eq!(of(&[], &[0], 0, true), 0.3);
    }
}
