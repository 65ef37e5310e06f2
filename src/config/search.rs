//! Retrieval.

use activekg_index::{Engine, Engines};

use super::options::SearchOptions;
use super::{ConfigError, read};

/// Retrieval.
#[derive(Debug, Clone)]
pub struct Search {
    /// How vectors are compared.
    pub distance: Distance,
    /// Hybrid lists are fused by rank; otherwise by weighted scores.
    pub rrf_enabled: bool,
    /// The k of reciprocal rank fusion.
    pub rrf_k: f32,
    /// Least candidates of each list of a hybrid search with the reranker asked for.
    pub reranker_base: usize,
    /// Candidates of a weighted search, as a multiple of `top_k`.
    pub candidate_factor: f64,
    /// Types of vector index to have, as they were named; none twice, at least one.
    pub index_types: Vec<Engine>,
    /// Whether they are built without being asked for.
    pub auto_index: bool,
    /// The graph index.
    pub hnsw: Hnsw,
    /// The index of lists.
    pub ivfflat: IvfFlat,
}

/// How vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// One minus the cosine of the angle.
    Cosine,
    /// Euclidean.
    L2,
    /// Inner product, larger is nearer.
    Ip,
}

impl Distance {
    /// The word of the setting.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::L2 => "l2",
            Self::Ip => "ip",
        }
    }
}

/// Parameters of the graph index, within what its implementation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hnsw {
    /// Links of a node, 2 to 128.
    pub m: usize,
    /// Candidates kept while building, 4 to 4096.
    pub ef_construction: usize,
    /// Candidates kept while searching, 1 to 4096.
    pub ef_search: usize,
}

/// Parameters of the index of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IvfFlat {
    /// Lists, 1 to 32,768; fewer where they would be short.
    pub lists: usize,
    /// Lists a search looks into at least, 1 to 32,768.
    pub probes: usize,
}

impl Search {
    pub(super) fn new(options: &SearchOptions) -> Result<Self, ConfigError> {
        let SearchOptions {
            search_distance,
            hybrid_rrf_enabled,
            hybrid_rrf_k,
            hybrid_reranker_base,
            weighted_search_candidate_factor,
            pgvector_indexes,
            pgvector_index,
            hnsw_m,
            hnsw_ef_construction,
            hnsw_ef_search,
            hnsw_engine,
            ivfflat_lists,
            ivfflat_probes,
            auto_index_on_startup,
        } = options;
        let index_types = match (read::text(pgvector_indexes), read::text(pgvector_index)) {
            (Some(list), _) => index_types("PGVECTOR_INDEXES", list)?,
            (None, Some(list)) => index_types("PGVECTOR_INDEX", list)?,
            (None, None) => vec![Engine::Hnsw],
        };
        // The bounds are those of pgvector.
        let ivfflat = IvfFlat {
            lists: read::number("IVFFLAT_LISTS", ivfflat_lists, 1..=32_768)?.unwrap_or(100),
            probes: read::number("IVFFLAT_PROBES", ivfflat_probes, 1..=32_768)?.unwrap_or(4),
        };
        read::word("HNSW_ENGINE", hnsw_engine, &[("builtin", ())])?;
        let distances =
            [Distance::Cosine, Distance::L2, Distance::Ip].map(|known| (known.as_str(), known));
        let hnsw = Hnsw {
            m: read::number("HNSW_M", hnsw_m, 2..=128)?.unwrap_or(16),
            ef_construction: read::number("HNSW_EF_CONSTRUCTION", hnsw_ef_construction, 4..=4096)?
                .unwrap_or(128),
            ef_search: read::number("HNSW_EF_SEARCH", hnsw_ef_search, 1..=4096)?.unwrap_or(80),
        };
        let factor = &weighted_search_candidate_factor;
        Ok(Self {
            distance: read::word("SEARCH_DISTANCE", search_distance, &distances)?
                .unwrap_or(Distance::Cosine),
            rrf_enabled: read::boolean("HYBRID_RRF_ENABLED", hybrid_rrf_enabled, true)?,
            rrf_k: read::number("HYBRID_RRF_K", hybrid_rrf_k, 0.0..=1e6)?.unwrap_or(60.0),
            reranker_base: read::number("HYBRID_RERANKER_BASE", hybrid_reranker_base, 1..=1000)?
                .unwrap_or(20),
            candidate_factor: read::number(
                "WEIGHTED_SEARCH_CANDIDATE_FACTOR",
                factor,
                1.0..=100.0,
            )?
            .unwrap_or(2.0),
            index_types,
            auto_index: read::boolean("AUTO_INDEX_ON_STARTUP", auto_index_on_startup, true)?,
            hnsw,
            ivfflat,
        })
    }

    /// The vector indexes to have from the start on, if nothing else was decided since.
    #[must_use]
    pub fn engines_at_start(&self) -> Engines {
        if self.auto_index { self.index_types.iter().copied().collect() } else { Engines::NONE }
    }
}

/// A list of index types, as it is named.
fn index_types(setting: &'static str, list: &str) -> Result<Vec<Engine>, ConfigError> {
    let mut types = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let known = Engine::ALL.into_iter().find(|known| known.as_str() == name);
        let fault = || ConfigError::new(setting, format!("{name:?} is not one of hnsw, ivfflat"));
        let engine = known.ok_or_else(fault)?;
        if !types.contains(&engine) {
            types.push(engine);
        }
    }
    if types.is_empty() {
        let fault = format!("{list:?} names none of hnsw, ivfflat");
        return Err(ConfigError::new(setting, fault));
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};
    use super::*;

    #[test]
    fn graph_parameters_are_checked_before_the_graph_sees_them() {
        for (setting, value) in [
            ("HNSW_M", "0"),
            ("HNSW_M", "129"),
            ("HNSW_EF_SEARCH", "0"),
            ("HNSW_EF_CONSTRUCTION", "-3"),
        ] {
            assert!(fault(&[(setting, value)]).starts_with(&format!("{setting}: ")));
        }
        let hnsw = config(&[("HNSW_M", "24")]).unwrap().search.hnsw;
        assert_eq!(hnsw, Hnsw { m: 24, ef_construction: 128, ef_search: 80 });
    }

    #[test]
    fn index_types_are_those_that_are_named() {
        let types = |settings: &[(&str, &str)]| config(settings).unwrap().search.index_types;
        assert_eq!(types(&[]), [Engine::Hnsw]);
        assert_eq!(types(&[("PGVECTOR_INDEX", "ivfflat")]), [Engine::IvfFlat]);
        let both = [("PGVECTOR_INDEXES", "ivfflat, hnsw,ivfflat"), ("PGVECTOR_INDEX", "hnsw")];
        assert_eq!(types(&both), [Engine::IvfFlat, Engine::Hnsw]);
        assert_eq!(config(&both).unwrap().notices.len(), 0);
        assert!(fault(&[("PGVECTOR_INDEX", "diskann")]).starts_with("PGVECTOR_INDEX: \"diskann\""));
        assert!(fault(&[("PGVECTOR_INDEXES", ",")]).starts_with("PGVECTOR_INDEXES: "));
        assert!(fault(&[("HNSW_ENGINE", "faiss")]).starts_with("HNSW_ENGINE: "));
        let off = config(&[("AUTO_INDEX_ON_STARTUP", "false")]).unwrap().search;
        assert!(off.engines_at_start().is_empty());
    }

    #[test]
    fn lists_and_probes_have_bounds() {
        let ivfflat = config(&[("IVFFLAT_PROBES", "10")]).unwrap().search.ivfflat;
        assert_eq!(ivfflat, IvfFlat { lists: 100, probes: 10 });
        for (setting, value) in [("IVFFLAT_LISTS", "0"), ("IVFFLAT_PROBES", "32769")] {
            assert!(fault(&[(setting, value)]).starts_with(&format!("{setting}: ")));
        }
    }
}
