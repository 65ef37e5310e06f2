//! Collectors that answer with the caller's ids.

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::query::Weight;
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader};

use super::schema::{ID_HIGH, ID_LOW};
use crate::rank::{Hit, Top};

/// The ids of a segment by document number.
pub(super) struct Ids {
    high: Column<u64>,
    low: Column<u64>,
}

impl Ids {
    fn of(reader: &SegmentReader) -> tantivy::Result<Self> {
        Ok(Self {
            high: reader.fast_fields().u64(ID_HIGH)?,
            low: reader.fast_fields().u64(ID_LOW)?,
        })
    }

    fn get(&self, doc: DocId) -> u128 {
        let half = |column: &Column<u64>| u128::from(column.first(doc).unwrap_or_default());
        half(&self.high) << 64 | half(&self.low)
    }
}

/// The best hits, equal scores by id. tantivy's own collector breaks ties by document number,
/// which changes with every merge.
pub(super) struct BestIds {
    pub(super) limit: usize,
}

pub(super) struct BestIdsOfSegment {
    ids: Ids,
    top: Top,
}

impl Collector for BestIds {
    type Fruit = Vec<Hit>;
    type Child = BestIdsOfSegment;

    fn for_segment(
        &self,
        _: SegmentOrdinal,
        reader: &SegmentReader,
    ) -> tantivy::Result<BestIdsOfSegment> {
        Ok(BestIdsOfSegment { ids: Ids::of(reader)?, top: Top::new(self.limit) })
    }

    fn requires_scoring(&self) -> bool {
        true
    }

    fn collect_segment(
        &self,
        weight: &dyn Weight,
        ord: SegmentOrdinal,
        reader: &SegmentReader,
    ) -> tantivy::Result<Vec<Hit>> {
        let mut child = self.for_segment(ord, reader)?;
        let alive = reader.alive_bitset();
        // Pruning skips documents that score at most the threshold; one step below the worst kept
        // score still lets ties through.
        weight.for_each_pruning(Score::MIN, reader, &mut |doc, score| {
            if alive.is_none_or(|alive| alive.is_alive(doc)) {
                child.collect(doc, score);
            }
            child.top.floor().max(Score::MIN).next_down()
        })?;
        Ok(child.harvest())
    }

    fn merge_fruits(&self, segments: Vec<Vec<Hit>>) -> tantivy::Result<Vec<Hit>> {
        let mut top = Top::new(self.limit);
        segments.into_iter().flatten().for_each(|hit| top.push(hit));
        Ok(top.into_sorted())
    }
}

impl SegmentCollector for BestIdsOfSegment {
    type Fruit = Vec<Hit>;

    fn collect(&mut self, doc: DocId, score: Score) {
        if score >= self.top.floor() {
            let id = self.ids.get(doc);
            self.top.push(Hit { id, score });
        }
    }

    fn harvest(self) -> Vec<Hit> {
        self.top.into_sorted()
    }
}

/// Every matching id, in no order.
pub(super) struct AllIds;

pub(super) struct AllIdsOfSegment {
    ids: Ids,
    found: Vec<u128>,
}

impl Collector for AllIds {
    type Fruit = Vec<u128>;
    type Child = AllIdsOfSegment;

    fn for_segment(
        &self,
        _: SegmentOrdinal,
        reader: &SegmentReader,
    ) -> tantivy::Result<AllIdsOfSegment> {
        Ok(AllIdsOfSegment { ids: Ids::of(reader)?, found: Vec::new() })
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<Vec<u128>>) -> tantivy::Result<Vec<u128>> {
        Ok(segments.concat())
    }
}

impl SegmentCollector for AllIdsOfSegment {
    type Fruit = Vec<u128>;

    fn collect(&mut self, doc: DocId, _: Score) {
        let id = self.ids.get(doc);
        self.found.push(id);
    }

    fn harvest(self) -> Vec<u128> {
        self.found
    }
}
