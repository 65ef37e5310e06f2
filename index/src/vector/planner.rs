//! Scan or index: which is quicker for a query and still right.

/// How to search one segment that has a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Compare every allowed row.
    Exact,
    /// Walk the graph for this many rows and keep the allowed ones.
    Graph {
        /// Rows to ask the graph for.
        width: usize,
    },
}

/// What the plan depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    /// Rows of the whole set that tenant and filter allow; an upper bound.
    pub(super) candidates: usize,
    /// Those of them in this segment; an upper bound.
    pub(super) allowed: usize,
    /// All rows in the segment's graph, removed ones too.
    pub(super) rows: usize,
    /// Hits wanted.
    pub(super) k: usize,
    /// Breadth of the search where every row is allowed.
    pub(super) ef: usize,
    /// Up to this many candidates are always scanned.
    pub(super) exact_limit: usize,
}

/// What a row of width costs, in scanned rows. Measured by `benches/vector.rs` with 384 values, M 16
/// and 50 000 vectors: 3 µs for each row of width, against 0.09 µs for a scanned row.
const ROWS_PER_WIDTH: usize = 32;

/// The graph answers from all rows and the allowed ones are picked out afterwards, so it is asked
/// for more in proportion: with one row in ten allowed, for ten times as many. It pays only while
/// that stays cheaper than the scan.
pub(super) fn plan(situation: Situation) -> Plan {
    let Situation { candidates, allowed, rows, k, ef, exact_limit } = situation;
    if candidates <= exact_limit || allowed == 0 {
        return Plan::Exact;
    }
    let width = ef.max(k).saturating_mul(rows).div_ceil(allowed);
    if exact_limit > 0 && width.saturating_mul(ROWS_PER_WIDTH) >= allowed {
        Plan::Exact
    } else {
        Plan::Graph { width: width.min(rows) }
    }
}

/// Whether a segment that has lists is searched by them: while that compares fewer rows, `enough`
/// at least, than scanning those that are allowed.
pub(super) fn lists_pay(situation: Situation, enough: usize) -> bool {
    let Situation { candidates, allowed, exact_limit, .. } = situation;
    exact_limit == 0 || (candidates > exact_limit && enough < allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Situation = Situation {
        candidates: 100_000,
        allowed: 100_000,
        rows: 100_000,
        k: 10,
        ef: 80,
        exact_limit: 20_000,
    };

    #[test]
    fn a_large_unfiltered_set_uses_the_graph() {
        assert_eq!(plan(OPEN), Plan::Graph { width: 80 });
        assert_eq!(plan(Situation { k: 200, ..OPEN }), Plan::Graph { width: 200 });
    }

    #[test]
    fn few_candidates_are_scanned() {
        for candidates in [0, 1, 20_000] {
            let few = Situation { candidates, allowed: candidates, ..OPEN };
            assert_eq!(plan(few), Plan::Exact);
        }
        let more = Situation { candidates: 20_001, ..OPEN };
        assert!(matches!(plan(more), Plan::Graph { .. }));
    }

    #[test]
    fn a_filter_widens_the_walk_until_the_scan_is_cheaper() {
        let half = Situation { candidates: 50_000, allowed: 50_000, ..OPEN };
        assert_eq!(plan(half), Plan::Graph { width: 160 });
        // Thirty thousand of a million: many, but a small share.
        let rows = 1_000_000;
        let share = Situation { candidates: 30_000, allowed: 30_000, rows, ..OPEN };
        assert_eq!(plan(share), Plan::Exact);
    }

    #[test]
    fn asking_for_nearly_everything_is_a_scan() {
        assert_eq!(plan(Situation { k: 100_000, ..OPEN }), Plan::Exact);
        assert_eq!(plan(Situation { k: usize::MAX, ..OPEN }), Plan::Exact);
        assert_eq!(plan(Situation { ef: 5000, ..OPEN }), Plan::Exact);
    }

    #[test]
    fn a_limit_of_nothing_always_takes_the_graph() {
        let small = Situation { candidates: 50, allowed: 50, rows: 60, exact_limit: 0, ..OPEN };
        assert_eq!(plan(small), Plan::Graph { width: 60 });
    }

    #[test]
    fn lists_are_scanned_where_that_saves_comparisons() {
        assert!(lists_pay(OPEN, 4_000));
        assert!(!lists_pay(OPEN, 100_000));
        assert!(!lists_pay(Situation { candidates: 20_000, ..OPEN }, 4_000));
        assert!(!lists_pay(Situation { allowed: 3_000, ..OPEN }, 4_000));
        assert!(lists_pay(Situation { allowed: 3_000, exact_limit: 0, ..OPEN }, 4_000));
    }
}
