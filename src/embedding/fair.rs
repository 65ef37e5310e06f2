//! A line in which tenants take turns.

use std::collections::{HashMap, VecDeque};

use activekg_storage::ids::TenantId;

/// Items of many tenants, first come first served within a tenant. Between tenants it is deficit
/// round robin (Shreedhar and Varghese, SIGCOMM 1995): a turn is worth `quantum`, what an item
/// costs is paid from it, and what is left counts in the next turn. Tenants that always have
/// something waiting are served the same, whatever the sizes of their items and however many
/// there are; nothing is idle meanwhile.
#[derive(Debug)]
pub(super) struct Fair<T> {
    lines: HashMap<TenantId, Line<T>>,
    /// Those with items, each once; the first has its turn.
    turns: VecDeque<TenantId>,
    /// The first of `turns` has been given its quantum.
    begun: bool,
    quantum: usize,
    len: usize,
}

#[derive(Debug)]
struct Line<T> {
    items: VecDeque<T>,
    credit: usize,
}

impl<T> Fair<T> {
    /// An empty line. No item may cost more than `quantum`, so that every turn serves one.
    pub(super) fn new(quantum: usize) -> Self {
        let quantum = quantum.max(1);
        Self { lines: HashMap::new(), turns: VecDeque::new(), begun: false, quantum, len: 0 }
    }

    /// Adds `item` behind what `tenant` has waiting. A tenant that had nothing is last in turn.
    pub(super) fn push(&mut self, tenant: &TenantId, item: T) {
        self.len += 1;
        match self.lines.get_mut(tenant) {
            Some(line) => line.items.push_back(item),
            None => {
                let line = Line { items: VecDeque::from([item]), credit: 0 };
                self.lines.insert(tenant.clone(), line);
                self.turns.push_back(tenant.clone());
            }
        }
    }

    /// Takes the item whose turn it is, if it `fits`; else nothing, and it stays the next. A cost
    /// above the quantum counts as the quantum, one of 0 costs nothing.
    pub(super) fn pop(
        &mut self,
        cost: impl Fn(&T) -> usize,
        fits: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        loop {
            let tenant = self.turns.front()?;
            let line = self.lines.get_mut(tenant)?;
            if !self.begun {
                line.credit += self.quantum;
                self.begun = true;
            }
            let item = line.items.front()?;
            let cost = cost(item).min(self.quantum);
            if cost > line.credit {
                self.turns.rotate_left(1);
                self.begun = false;
                continue;
            }
            if !fits(item) {
                return None;
            }
            line.credit -= cost;
            let item = line.items.pop_front();
            if line.items.is_empty() {
                // Nothing is saved up while nothing waits.
                self.lines.remove(tenant);
                self.turns.pop_front();
                self.begun = false;
            }
            self.len -= 1;
            return item;
        }
    }

    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.quantum);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const QUANTUM: usize = 10;

    fn tenant(n: usize) -> TenantId {
        TenantId::new(&format!("t{n}")).unwrap()
    }

    /// An item: its tenant, its number among all, its cost.
    type Item = (usize, usize, usize);

    fn pop(fair: &mut Fair<Item>) -> Option<Item> {
        fair.pop(|&(_, _, cost)| cost, |_| true)
    }

    #[test]
    fn a_flood_of_one_tenant_does_not_keep_another_waiting() {
        let mut fair = Fair::new(QUANTUM);
        for n in 0..1000 {
            fair.push(&tenant(0), (0, n, QUANTUM));
        }
        fair.push(&tenant(1), (1, 0, QUANTUM));
        fair.push(&tenant(2), (2, 0, QUANTUM));
        let served: Vec<usize> = (0..5).filter_map(|_| pop(&mut fair)).map(|item| item.0).collect();
        assert_eq!(served, [0, 1, 2, 0, 0]);
    }

    #[test]
    fn small_items_share_a_turn() {
        let mut fair = Fair::new(QUANTUM);
        for n in 0..10 {
            fair.push(&tenant(0), (0, n, 4));
            fair.push(&tenant(1), (1, n, 10));
        }
        let served: Vec<usize> = (0..8).filter_map(|_| pop(&mut fair)).map(|item| item.0).collect();
        // Two of four, and two are left over for the next turn, which then has three.
        assert_eq!(served, [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn what_does_not_fit_stays_the_next() {
        let mut fair = Fair::new(QUANTUM);
        fair.push(&tenant(0), (0, 0, 5));
        fair.push(&tenant(1), (1, 1, 1));
        assert_eq!(fair.pop(|item| item.2, |item| item.2 < 5), None);
        assert_eq!(fair.len(), 2);
        assert_eq!(pop(&mut fair), Some((0, 0, 5)));
        fair.clear();
        assert_eq!((fair.len(), pop(&mut fair)), (0, None));
    }

    proptest! {
        /// Against lists in which everything is looked for: each tenant's items come in their
        /// order, all of them, and while two tenants both have items waiting, what they are given
        /// never differs by more than three turns.
        #[test]
        fn turns_are_even_and_nothing_is_lost(
            ops in prop::collection::vec(prop_oneof![
                (0..4usize, 0..=QUANTUM).prop_map(Some),
                Just(None),
            ], 1..200)
        ) {
            let mut fair = Fair::new(QUANTUM);
            let mut waiting: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
            // What each of a pair was given since both have been waiting.
            let mut given: BTreeMap<(usize, usize), [usize; 2]> = BTreeMap::new();
            let drain = std::iter::repeat_n(None, ops.len());
            for (n, op) in ops.iter().copied().chain(drain).enumerate() {
                match op {
                    Some((who, cost)) => {
                        fair.push(&tenant(who), (who, n, cost));
                        waiting.entry(who).or_default().push((who, n, cost));
                    }
                    None => {
                        let popped = pop(&mut fair);
                        prop_assert_eq!(popped.is_none(), waiting.is_empty());
                        let Some((who, _, cost)) = popped else { continue };
                        let line = waiting.get_mut(&who).unwrap();
                        prop_assert_eq!(popped, Some(line.remove(0)));
                        if line.is_empty() {
                            waiting.remove(&who);
                        }
                        for (pair, sums) in &mut given {
                            if pair.0 == who { sums[0] += cost; }
                            if pair.1 == who { sums[1] += cost; }
                        }
                    }
                }
                prop_assert_eq!(fair.len(), waiting.values().map(Vec::len).sum::<usize>());
                given.retain(|(a, b), _| waiting.contains_key(a) && waiting.contains_key(b));
                for &a in waiting.keys() {
                    for &b in waiting.keys().filter(|&&b| b > a) {
                        given.entry((a, b)).or_default();
                    }
                }
                for (pair, [a, b]) in &given {
                    prop_assert!(a.abs_diff(*b) <= 3 * QUANTUM, "{pair:?} were given {a} and {b}");
                }
            }
        }
    }
}
