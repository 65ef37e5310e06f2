//! Retrieval.

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
    /// The graph index.
    pub hnsw: Hnsw,
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
    /// Links of a node, 2 to 255.
    pub m: usize,
    /// Candidates kept while building, 1 to 10,000.
    pub ef_construction: usize,
    /// Candidates kept while searching, 1 to 10,000.
    pub ef_search: usize,
}

impl Search {
    pub(super) fn new(
        options: &SearchOptions,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
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
        } = options;
        match read::text(pgvector_indexes) {
            Some(list) => index_types("PGVECTOR_INDEXES", list, notices)?,
            None => index_types(
                "PGVECTOR_INDEX",
                read::text(pgvector_index).unwrap_or("hnsw"),
                notices,
            )?,
        }
        read::word("HNSW_ENGINE", hnsw_engine, &[("hnsw_rs", ())])?;
        let distances =
            [Distance::Cosine, Distance::L2, Distance::Ip].map(|known| (known.as_str(), known));
        // The graph exits the process on parameters it does not like, so they are checked here.
        let hnsw = Hnsw {
            m: read::number("HNSW_M", hnsw_m, 2..=255)?.unwrap_or(16),
            ef_construction: read::number(
                "HNSW_EF_CONSTRUCTION",
                hnsw_ef_construction,
                1..=10_000,
            )?
            .unwrap_or(128),
            ef_search: read::number("HNSW_EF_SEARCH", hnsw_ef_search, 1..=10_000)?.unwrap_or(80),
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
            hnsw,
        })
    }
}

/// Checks a list of index types. `hnsw` is the one this build has; `ivfflat` stands in most
/// settings written for the original and must not stop the start.
fn index_types(
    setting: &'static str,
    list: &str,
    notices: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    if let Some(other) = names.clone().find(|name| !["hnsw", "ivfflat"].contains(name)) {
        return Err(ConfigError::new(setting, format!("{other:?} is not one of hnsw, ivfflat")));
    }
    if names.any(|name| name == "ivfflat") {
        notices.push(format!("{setting} names ivfflat, which is not in this build: hnsw serves"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};
    use super::*;

    #[test]
    fn graph_parameters_are_checked_before_the_graph_sees_them() {
        for (setting, value) in [
            ("HNSW_M", "0"),
            ("HNSW_M", "256"),
            ("HNSW_EF_SEARCH", "0"),
            ("HNSW_EF_CONSTRUCTION", "-3"),
        ] {
            assert!(fault(&[(setting, value)]).starts_with(&format!("{setting}: ")));
        }
        let hnsw = config(&[("HNSW_M", "24")]).unwrap().search.hnsw;
        assert_eq!(hnsw, Hnsw { m: 24, ef_construction: 128, ef_search: 80 });
    }

    #[test]
    fn ivfflat_is_taken_with_a_word() {
        assert_eq!(config(&[("PGVECTOR_INDEXES", "ivfflat,hnsw")]).unwrap().notices.len(), 1);
        assert_eq!(config(&[("PGVECTOR_INDEX", "hnsw")]).unwrap().notices.len(), 0);
        assert!(fault(&[("PGVECTOR_INDEX", "diskann")]).starts_with("PGVECTOR_INDEX: \"diskann\""));
        assert!(fault(&[("HNSW_ENGINE", "faiss")]).starts_with("HNSW_ENGINE: "));
    }
}
