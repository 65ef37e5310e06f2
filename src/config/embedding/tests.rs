//! Settings of vectors, from their words.

use super::super::tests::{config, fault};
use super::*;

#[test]
fn zero_takes_a_cap_away() {
    let config =
        config(&[("EMBEDDING_QUEUE_MAX_DEPTH", "0"), ("EMBEDDING_TENANT_MAX_PENDING", "7")])
            .unwrap();
    assert_eq!(config.embedding.queue_max_depth, None);
    assert_eq!(config.embedding.tenant_max_pending, Some(7));
}

#[test]
fn zero_keeps_the_vectors_of_queries_for_good_and_takes_every_core() {
    let defaults = config(&[]).unwrap().embedding;
    assert_eq!((defaults.cache_size, defaults.queue_texts), (4096, 1024));
    assert_eq!((defaults.cache_ttl, defaults.threads), (Some(Duration::from_secs(3600)), None));
    let zeros = [("EMBEDDING_CACHE_SIZE", "0"), ("EMBEDDING_CACHE_TTL", "0")];
    let zeros = config(&[&zeros[..], &[("EMBEDDING_THREADS", "0")]].concat()).unwrap();
    assert_eq!((zeros.embedding.cache_size, zeros.embedding.cache_ttl), (0, None));
    assert_eq!(zeros.embedding.threads, None);
    let threads = |set: &[(&str, &str)]| config(set).unwrap().embedding.threads;
    assert_eq!(threads(&[("EMBEDDING_WORKER_CONCURRENCY", "3")]), Some(3));
    let both = [("EMBEDDING_WORKER_CONCURRENCY", "3"), ("EMBEDDING_THREADS", "2")];
    assert_eq!(threads(&both), Some(2));
    assert!(fault(&[("EMBEDDING_QUEUE_TEXTS", "0")]).starts_with("EMBEDDING_QUEUE_TEXTS: "));
}

#[test]
fn instructions_are_named_or_left_to_the_processor() {
    assert_eq!(config(&[]).unwrap().embedding.cpu, None);
    let config = config(&[("ACTIVEKG_CPU", "avx2")]).unwrap();
    assert_eq!(config.embedding.cpu, Some(super::Cpu::Avx2));
    assert!(fault(&[("ACTIVEKG_CPU", "sse9")]).starts_with("ACTIVEKG_CPU: "));
}

#[test]
fn another_model_is_read_as_if_it_had_been_set() {
    let settings = config(&[
        ("EMBEDDING_BACKEND", "openai"),
        ("EMBEDDING_BASE_URL", "http://127.0.0.1:9/v1"),
        ("EMBEDDING_MODEL", "m"),
        ("EMBEDDING_DIMENSIONS", "8"),
        ("EMBEDDING_TIMEOUT_MS", "7"),
    ]);
    let settings = settings.unwrap().embedding;
    let choice = settings.choice();
    let same = settings.with_model(&choice).unwrap();
    assert_eq!(same.choice(), choice);

    let other = ModelChoice { model: "n".to_owned(), base_url: None, ..choice.clone() };
    let EmbeddingSource::Remote(remote) = settings.with_model(&other).unwrap().source else {
        panic!("it is remote")
    };
    assert_eq!(remote.base_url.reveal(), "http://127.0.0.1:9/v1", "the same service");
    assert_eq!(remote.timeout, Duration::from_millis(7));

    let local = ModelChoice {
        backend: "sentence-transformers".to_owned(),
        model: "all-MiniLM-L6-v2".to_owned(),
        base_url: None,
        dimensions: None,
    };
    let back = settings.with_model(&local).unwrap();
    assert!(matches!(back.source, EmbeddingSource::BuiltIn));
    // What was set for the first model is not taken for another one's.
    assert!(back.with_model(&ModelChoice { dimensions: None, ..choice.clone() }).is_err());
    assert_eq!(back.with_model(&choice).unwrap().choice(), choice);
    let leaking = ModelChoice { base_url: Some("http://u:p@h/".to_owned()), ..choice };
    assert!(settings.with_model(&leaking).is_err());
}

#[test]
fn what_this_build_lacks_is_said() {
    let text = fault(&[("EMBEDDING_WINDOWS", "all")]);
    assert!(text.starts_with("EMBEDDING_WINDOWS: \"all\" is not one of first, mean"), "{text}");
    assert!(fault(&[("EMBEDDING_BACKEND", "cohere")]).starts_with("EMBEDDING_BACKEND: \"cohere\""));
    assert!(fault(&[("EMBEDDING_MODEL", "a b")]).starts_with("EMBEDDING_MODEL: \"a b\""));
}

fn remote(variables: &[(&str, &str)]) -> (Embedding, RemoteEmbedding) {
    let embedding = config(variables).unwrap().embedding;
    match embedding.source.clone() {
        EmbeddingSource::Remote(remote) => (embedding, remote),
        EmbeddingSource::BuiltIn | EmbeddingSource::Folder(_) | EmbeddingSource::Kept(_) => {
            panic!("it is local")
        }
    }
}

#[test]
fn a_model_is_compiled_in_in_a_folder_or_at_a_service() {
    let source = |model| config(&[("EMBEDDING_MODEL", model)]).unwrap().embedding.source;
    assert!(matches!(source("all-MiniLM-L6-v2"), EmbeddingSource::BuiltIn));
    assert!(
        matches!(source("e5-small"), EmbeddingSource::Kept(name) if name.as_str() == "e5-small")
    );
    assert!(
        matches!(source("/models/e5"), EmbeddingSource::Folder(path) if path == Path::new("/models/e5"))
    );

    let (embedding, ollama) = remote(&[("EMBEDDING_BACKEND", "ollama"), ("OPENAI_API_KEY", "k")]);
    assert_eq!((embedding.model.as_str(), ollama.dimensions), ("nomic-embed-text", 768));
    assert_eq!(ollama.base_url.reveal(), "http://127.0.0.1:11434");
    assert!(ollama.key.is_none(), "the key is another service's");

    let openai = [("EMBEDDING_BACKEND", "openai"), ("OPENAI_API_KEY", "k")];
    let (embedding, found) = remote(&openai);
    assert_eq!((embedding.model.as_str(), found.dimensions), ("text-embedding-3-small", 1536));
    assert_eq!((found.base_url.reveal(), found.names_dimensions), (OPENAI_URL, false));
    let more = [
        ("EMBEDDING_BASE_URL", "http://127.0.0.1:9/v1/"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:8/v1"),
        ("EMBEDDING_DIMENSIONS", "256"),
        ("EMBEDDING_TOKEN_BUDGET", "1000"),
    ];
    let (_, found) = remote(&[&openai[..], &more[..]].concat());
    assert_eq!((found.base_url.reveal(), found.dimensions), ("http://127.0.0.1:9/v1", 256));
    assert_eq!((found.names_dimensions, found.tokens_a_day), (true, Some(1000)));
}

#[test]
fn what_a_service_needs_is_asked_for() {
    let text = fault(&[("EMBEDDING_BACKEND", "openai")]);
    assert!(text.contains("OPENAI_API_KEY") && text.contains("EMBEDDING_BASE_URL"), "{text}");
    let set = [("EMBEDDING_BACKEND", "ollama"), ("EMBEDDING_MODEL", "new:latest")];
    assert!(fault(&set).starts_with("EMBEDDING_DIMENSIONS: must be set for \"new:latest\""));
    let set = [("EMBEDDING_BACKEND", "ollama"), ("EMBEDDING_BASE_URL", "u:hunter2@h")];
    assert!(!fault(&set).contains("hunter2"));
}

#[test]
fn windows_are_first_mean_or_best_of_a_model_in_this_process() {
    let windows = |word| config(&[("EMBEDDING_WINDOWS", word)]).unwrap().embedding.windows;
    assert_eq!(config(&[]).unwrap().embedding.windows, Windows::Best);
    assert_eq!((windows("BEST"), windows("mean")), (Windows::Best, Windows::Mean));
    let remote = [("EMBEDDING_BACKEND", "ollama"), ("EMBEDDING_WINDOWS", "best")];
    let notices = config(&remote).unwrap().notices;
    assert!(
        notices.iter().any(|notice| notice.starts_with("EMBEDDING_WINDOWS=best has no effect"))
    );
}
