//! Entries of the vector index for the further windows of a node's text.
//!
//! The vector of a node is in the index under the node's id. Vectors of further windows are there
//! under ids made of it that no node has: the ids of nodes are UUIDs of the variant that RFC 9562
//! describes, which leaves three of the four values of two bits. Those and the four bits of the
//! version tell the window and the version that the id had.

use activekg_index::{IdSet, VectorSet};

use crate::embedding::WINDOWS_MAX;

/// Versions of the ids of nodes that may have windows: random, of a name, of a time.
const VERSIONS: [u128; 3] = [4, 5, 7];
/// Where the version is.
const VERSION_BIT: u32 = 76;
/// Where the variant is, of which two bits matter.
const VARIANT_BIT: u32 = 62;
/// The variant of the ids of nodes.
const VARIANT: u128 = 0b10;
/// The variants of the ids of windows.
const OTHER_VARIANTS: [u128; 3] = [0b00, 0b01, 0b11];
/// Windows of a node besides the first.
pub(super) const FURTHER_MAX: usize = WINDOWS_MAX - 1;

const _: () = assert!(VERSIONS.len() * FURTHER_MAX <= OTHER_VARIANTS.len() * 16);

/// The id of the further window `n`, from 0, of a node; none if the node can have none.
pub(super) fn entry(node: u128, n: usize) -> Option<u128> {
    let version = VERSIONS.iter().position(|&version| version == bits(node, VERSION_BIT, 4))?;
    if bits(node, VARIANT_BIT, 2) != VARIANT || n >= FURTHER_MAX {
        return None;
    }
    let code = version * FURTHER_MAX + n;
    let marked = with_bits(node, VARIANT_BIT, 2, OTHER_VARIANTS[code / 16]);
    Some(with_bits(marked, VERSION_BIT, 4, (code % 16) as u128))
}

/// The node of an entry, which may be that of the node itself.
pub(crate) fn node_of(entry: u128) -> u128 {
    let variant = bits(entry, VARIANT_BIT, 2);
    let Some(high) = OTHER_VARIANTS.iter().position(|&other| other == variant) else {
        return entry;
    };
    let code = high * 16 + bits(entry, VERSION_BIT, 4) as usize;
    match VERSIONS.get(code / FURTHER_MAX) {
        Some(&version) => {
            with_bits(with_bits(entry, VARIANT_BIT, 2, VARIANT), VERSION_BIT, 4, version)
        }
        // No window is called so.
        None => entry,
    }
}

/// Whether an id is that of a window.
pub(super) fn is_window(entry: u128) -> bool {
    node_of(entry) != entry
}

/// The score of a node: the best one of its windows. `None` if it has no vector.
pub(super) fn score(vectors: &VectorSet, vector: &[f32], node: u128) -> Option<f32> {
    let first = vectors.score(vector, node)?;
    // They are there up to the last one.
    let further = (0..FURTHER_MAX).map_while(|n| vectors.score(vector, entry(node, n)?));
    Some(further.fold(first, f32::max))
}

/// The ids with those of their windows that are in the index.
pub(super) fn with_windows(ids: &IdSet, vectors: &VectorSet) -> IdSet {
    let windows_of = |node: u128| {
        let windows = (0..FURTHER_MAX).map_while(move |n| entry(node, n));
        windows.take_while(|window| vectors.get(*window).is_some())
    };
    ids.iter().flat_map(|node| std::iter::once(node).chain(windows_of(node))).collect()
}

fn bits(id: u128, at: u32, n: u32) -> u128 {
    id >> at & ((1 << n) - 1)
}

fn with_bits(id: u128, at: u32, n: u32, value: u128) -> u128 {
    let mask = ((1 << n) - 1) << at;
    id & !mask | value << at
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Windows of different nodes, and of one node, have different ids, and none that a node
        /// may have.
        #[test]
        fn windows_are_told_apart(bits: u128, version in prop::sample::select(VERSIONS.to_vec())) {
            let node = with_bits(with_bits(bits, VERSION_BIT, 4, version), VARIANT_BIT, 2, VARIANT);
            prop_assert_eq!(node_of(node), node);
            prop_assert!(!is_window(node));
            let entries: HashSet<u128> =
                (0..FURTHER_MAX).map(|n| entry(node, n).unwrap()).collect();
            prop_assert_eq!(entries.len(), FURTHER_MAX);
            for entry in entries {
                prop_assert!(is_window(entry));
                prop_assert_eq!(node_of(entry), node);
            }
            prop_assert_eq!(entry(node, FURTHER_MAX), None);
        }

        /// No id is that of windows of two nodes: what names a node leads back to the entry.
        #[test]
        fn any_id_is_of_one_node(id: u128) {
            let node = node_of(id);
            if node != id {
                prop_assert!((0..FURTHER_MAX).any(|n| entry(node, n) == Some(id)));
            } else {
                prop_assert_eq!(node_of(node), node);
            }
        }
    }

    #[test]
    fn bits_are_where_a_uuid_has_them() {
        let id = uuid::Uuid::parse_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
        assert_eq!(bits(id.as_u128(), VERSION_BIT, 4), 7);
        assert_eq!(bits(id.as_u128(), VARIANT_BIT, 2), VARIANT);
        assert_eq!(entry(5, 0), None, "not such a UUID");
    }
}
