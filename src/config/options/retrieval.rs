//! Settings of vectors and of search.

use clap::Args;

use crate::config::Secret;

/// Vectors of nodes and queries.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Embedding")]
pub struct EmbeddingOptions {
    /// Embedder: sentence-transformers (in this process), openai or ollama [default: sentence-transformers]
    #[arg(long, env = "EMBEDDING_BACKEND", value_name = "NAME")]
    pub embedding_backend: Option<String>,
    /// Model: all-MiniLM-L6-v2 (compiled in), the path of a model's folder, or its name at the service [default: all-MiniLM-L6-v2, text-embedding-3-small, nomic-embed-text]
    #[arg(long, env = "EMBEDDING_MODEL", value_name = "NAME")]
    pub embedding_model: Option<String>,
    /// Address of the service; openai falls back to OPENAI_BASE_URL [default: its public one, http://127.0.0.1:11434 for ollama]
    #[arg(long, env = "EMBEDDING_BASE_URL", value_name = "URL", hide_env_values = true)]
    pub embedding_base_url: Option<Secret>,
    /// Numbers in a vector of the service's model [default: what the model is known to have]
    #[arg(long, env = "EMBEDDING_DIMENSIONS", value_name = "N")]
    pub embedding_dimensions: Option<String>,
    /// Most tokens a UTC day the service may take, 0 = no limit [default: 0]
    #[arg(long, env = "EMBEDDING_TOKEN_BUDGET", value_name = "N")]
    pub embedding_token_budget: Option<String>,
    /// Longest time for a request to the service, in milliseconds [default: 30000]
    #[arg(long, env = "EMBEDDING_TIMEOUT_MS", value_name = "MS")]
    pub embedding_timeout_ms: Option<String>,
    /// Arithmetic: f32 (exact) or auto (the fastest this processor has) [default: auto]
    #[arg(long, env = "EMBEDDING_PRECISION", value_name = "NAME")]
    pub embedding_precision: Option<String>,
    /// Instructions: amx, avx512vnni, avx2 or portable [default: the best this processor has]
    #[arg(long = "cpu", env = "ACTIVEKG_CPU", value_name = "NAME", hide_short_help = true)]
    pub cpu: Option<String>,
    /// Answer creates before the node is embedded [default: false]
    #[arg(long, env = "EMBEDDING_ASYNC", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub embedding_async: Option<String>,
    /// Longest wait of a create for its embedding, in milliseconds [default: 10000]
    #[arg(long, env = "EMBEDDING_SYNC_WAIT_MS", value_name = "MS")]
    pub embedding_sync_wait_ms: Option<String>,
    /// Most queued nodes, 0 = no limit [default: 5000]
    #[arg(long, env = "EMBEDDING_QUEUE_MAX_DEPTH", value_name = "N")]
    pub embedding_queue_max_depth: Option<String>,
    /// Most queued nodes of one tenant, 0 = no limit [default: 2000]
    #[arg(long, env = "EMBEDDING_TENANT_MAX_PENDING", value_name = "N")]
    pub embedding_tenant_max_pending: Option<String>,
    /// Put labelled properties before the text of resumes and jobs [default: false]
    #[arg(long, env = "EMBEDDING_PREFIX_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub embedding_prefix_enabled: Option<String>,
    /// Text beyond the model's window: first = not embedded, mean = in the node's vector, best = found by its best window [default: best]
    #[arg(long, env = "EMBEDDING_WINDOWS", value_name = "NAME")]
    pub embedding_windows: Option<String>,
    /// Queries whose vectors are kept in memory, 0 = none [default: 4096]
    #[arg(long, env = "EMBEDDING_CACHE_SIZE", value_name = "N")]
    pub embedding_cache_size: Option<String>,
    /// How long they are kept, in seconds, 0 = until there is no room [default: 3600]
    #[arg(long, env = "EMBEDDING_CACHE_TTL", value_name = "SECONDS")]
    pub embedding_cache_ttl: Option<String>,
    /// Texts in line for the model: more queries are refused, more texts of jobs wait [default: 1024]
    #[arg(long, env = "EMBEDDING_QUEUE_TEXTS", value_name = "N")]
    pub embedding_queue_texts: Option<String>,
    /// Threads that embed, 0 = one for each core [default: 0]
    #[arg(long, env = "EMBEDDING_THREADS", value_name = "N")]
    pub embedding_threads: Option<String>,
    /// Another name of EMBEDDING_THREADS, which goes before it
    #[arg(long, env = "EMBEDDING_WORKER_CONCURRENCY", value_name = "N")]
    pub embedding_worker_concurrency: Option<String>,
    /// Embed nodes as they are created [default: true]
    #[arg(long, env = "AUTO_EMBED_ON_CREATE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub auto_embed_on_create: Option<String>,
    /// Version stamped into props [default: 1.0.0]
    #[arg(long, env = "EXTRACTION_VERSION", value_name = "TEXT")]
    pub extraction_version: Option<String>,
}

/// Retrieval.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Search")]
pub struct SearchOptions {
    /// Distance of vectors: cosine, l2 or ip [default: cosine]
    #[arg(long, env = "SEARCH_DISTANCE", value_name = "NAME")]
    pub search_distance: Option<String>,
    /// Fuse hybrid lists by rank; false = by weighted scores [default: true]
    #[arg(long, env = "HYBRID_RRF_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub hybrid_rrf_enabled: Option<String>,
    /// The k of reciprocal rank fusion [default: 60]
    #[arg(long, env = "HYBRID_RRF_K", value_name = "N")]
    pub hybrid_rrf_k: Option<String>,
    /// Least candidates of each list of a hybrid search [default: 20]
    #[arg(long, env = "HYBRID_RERANKER_BASE", value_name = "N")]
    pub hybrid_reranker_base: Option<String>,
    /// Candidates of a weighted search, as a multiple of top_k [default: 2.0]
    #[arg(long, env = "WEIGHTED_SEARCH_CANDIDATE_FACTOR", value_name = "X")]
    pub weighted_search_candidate_factor: Option<String>,
    /// Types of vector index to build, comma separated: hnsw, ivfflat [default: hnsw]
    #[arg(long, env = "PGVECTOR_INDEXES", value_name = "LIST")]
    pub pgvector_indexes: Option<String>,
    /// Read when PGVECTOR_INDEXES is unset
    #[arg(long, env = "PGVECTOR_INDEX", value_name = "NAME")]
    pub pgvector_index: Option<String>,
    /// Links of a node in the graph index [default: 16]
    #[arg(long, env = "HNSW_M", value_name = "N")]
    pub hnsw_m: Option<String>,
    /// Candidates kept while the graph is built [default: 128]
    #[arg(long, env = "HNSW_EF_CONSTRUCTION", value_name = "N")]
    pub hnsw_ef_construction: Option<String>,
    /// Candidates kept while the graph is searched [default: 80]
    #[arg(long, env = "HNSW_EF_SEARCH", value_name = "N")]
    pub hnsw_ef_search: Option<String>,
    /// Implementation of the graph: builtin [default: builtin]
    #[arg(long, env = "HNSW_ENGINE", value_name = "NAME")]
    pub hnsw_engine: Option<String>,
    /// Lists of the ivfflat index; fewer where they would have under 32 vectors [default: 100]
    #[arg(long, env = "IVFFLAT_LISTS", value_name = "N")]
    pub ivfflat_lists: Option<String>,
    /// Lists that a search looks into at least; more under a filter [default: 4]
    #[arg(long, env = "IVFFLAT_PROBES", value_name = "N")]
    pub ivfflat_probes: Option<String>,
    /// Build these types without being asked; false = only what POST /admin/indexes ensures [default: true]
    #[arg(long, env = "AUTO_INDEX_ON_STARTUP", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub auto_index_on_startup: Option<String>,
}
