//! What an answer refers to.

use activekg_storage::ids::NodeId;
use activekg_storage::time::UnixMicros;

use crate::graph::{Ancestor, Node};

/// A source that an answer refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct Citation {
    /// The node.
    pub node: NodeId,
    /// Its labels.
    pub classes: Vec<String>,
    /// How far its text had moved when it was last embedded, 0 to 2; none before the first time.
    pub drift_score: Option<f64>,
    /// Days since it was last embedded, to two decimals; none before the first time.
    pub age_days: Option<f64>,
    /// What it derives from and in how many steps, as far as the caller sees it.
    pub lineage: Vec<(NodeId, u32)>,
}

impl Citation {
    /// Refers to `node`, which derives from `ancestors`.
    pub fn of(node: &Node, ancestors: &[Ancestor], now: UnixMicros) -> Self {
        Self {
            node: node.id,
            classes: node.classes.clone(),
            drift_score: node.drift_score,
            age_days: age_days(node, now).map(|days| (days * 100.0).round() / 100.0),
            lineage: ancestors.iter().map(|ancestor| (ancestor.id, ancestor.depth)).collect(),
        }
    }
}

/// Days since `node` was last embedded.
pub fn age_days(node: &Node, now: UnixMicros) -> Option<f64> {
    const DAY: f64 = 86_400.0;
    node.last_refreshed.map(|at| now.since(at).as_secs_f64() / DAY)
}

/// The indexes that `answer` refers to as `[0]`, each once, rising. A number too large to be an
/// index counts as the largest.
pub fn indexes(answer: &str) -> Vec<usize> {
    let mut found: Vec<usize> = answer
        .split('[')
        .skip(1)
        .filter_map(|rest| {
            let (digits, _) = rest.split_once(']')?;
            let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            number.then(|| digits.parse().unwrap_or(usize::MAX))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::candidate::tests::node;
    use super::*;

    #[test]
    fn integers_in_brackets_count() {
        assert_eq!(indexes("Valve A needs a seal kit [0]."), [0]);
        assert_eq!(indexes("b [2], a [0][1] and again [2]"), [0, 1, 2]);
        assert_eq!(indexes("none, [x], [-1], [1.5], [], [ 3 ], [4"), [0; 0]);
        assert_eq!(indexes("[[5]] and [6[7]"), [5, 7]);
        assert_eq!(indexes("[99999999999999999999999999]"), [usize::MAX]);
    }

    proptest! {
        #[test]
        fn every_written_index_is_found(mut written in prop::collection::vec(0_usize..30, 0..10)) {
            let answer: String = written.iter().map(|index| format!("claim [{index}]. ")).collect();
            written.sort_unstable();
            written.dedup();
            prop_assert_eq!(indexes(&answer), written);
        }

        #[test]
        fn any_text_will_do(text in ".*") {
            let found = indexes(&text);
            prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn age_has_two_decimals_and_is_absent_before_the_first_embedding() {
        let mut node = node(1, "text");
        let now = UnixMicros(0).plus(Duration::from_secs(129_700));
        assert_eq!(Citation::of(&node, &[], now).age_days, None);
        node.last_refreshed = Some(UnixMicros(0));
        assert_eq!(Citation::of(&node, &[], now).age_days, Some(1.5));
        node.last_refreshed = Some(now.plus(Duration::from_secs(60)));
        assert_eq!(Citation::of(&node, &[], now).age_days, Some(0.0));
    }
}
