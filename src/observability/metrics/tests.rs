use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::embedding::{EmbedderOptions, Encoder, Precision};

const STARTED: UnixMicros = UnixMicros(1_770_112_800_123_456);

fn metrics() -> Metrics {
    Metrics::new(Registry::new(), STARTED).unwrap()
}

/// Type by family name.
fn types(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.filter_map(|line| line.split_once(' ')).collect()
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_fresh_process_announces_every_family() {
    let text = metrics().prometheus_text();
    let types = types(&text);
    for (name, kind) in [
        ("activekg_access_violations_total", "counter"),
        ("activekg_api_errors_total", "counter"),
        ("activekg_ask_first_chunk_latency_seconds", "histogram"),
        ("activekg_ask_first_chunk_latency_seconds_created", "gauge"),
        ("activekg_ask_latency_seconds", "histogram"),
        ("activekg_ask_requests_total", "counter"),
        ("activekg_backup_last_bytes", "gauge"),
        ("activekg_backup_last_duration_seconds", "gauge"),
        ("activekg_backup_last_success_timestamp_seconds", "gauge"),
        ("activekg_backups_total", "counter"),
        ("activekg_cited_nodes", "histogram"),
        ("activekg_embedding_coverage_ratio", "gauge"),
        ("activekg_embedding_max_staleness_seconds", "gauge"),
        ("activekg_gating_score", "histogram"),
        ("activekg_last_refresh_timestamp", "gauge"),
        ("activekg_node_refresh_latency_seconds", "histogram"),
        ("activekg_nodes_refreshed_total", "counter"),
        ("activekg_refresh_cycle_nodes", "histogram"),
        ("activekg_refresh_cycle_nodes_created", "gauge"),
        ("activekg_rejections_total", "counter"),
        ("activekg_retrieval_uplift_mrr_percent", "gauge"),
        ("activekg_schedule_inter_run_seconds", "histogram"),
        ("activekg_schedule_runs_total", "counter"),
        ("activekg_search_latency_seconds", "histogram"),
        ("activekg_search_requests_total", "counter"),
        ("activekg_trigger_run_latency_seconds", "histogram"),
        ("activekg_triggers_fired_total", "counter"),
        ("activekg_vector_index_build_seconds", "histogram"),
        ("activekg_zero_citations_total", "counter"),
        ("api_rate_limited_total", "counter"),
        ("process_cpu_seconds_total", "counter"),
        ("process_max_fds", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_start_time_seconds", "gauge"),
        ("process_virtual_memory_bytes", "gauge"),
    ] {
        assert_eq!(types.get(name), Some(&kind), "{name}");
    }
    assert_eq!(value(&text, "activekg_access_violations_total{type=\"missing_token\"}"), Some(0.0));
    assert_eq!(
        value(&text, "activekg_search_requests_total{mode=\"vector\",score_type=\"cosine\"}"),
        Some(0.0)
    );
    assert_eq!(value(&text, "activekg_refresh_cycle_nodes_created"), Some(1_770_112_800.123));
}

#[test]
fn each_family_is_announced_once_and_before_its_series() {
    let metrics = metrics();
    metrics.http.error(Some("/nodes/{id}"), 404);
    let text = metrics.prometheus_text();
    let mut seen: Vec<&str> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next()) {
            assert!(!seen.contains(&name), "{name} twice");
            seen.push(name);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = seen.last().unwrap();
            let suffix =
                name.strip_prefix(family).unwrap_or_else(|| panic!("{line} under {family}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
        }
    }
}

#[test]
fn searches_show_in_both_forms() {
    let metrics = metrics();
    metrics.search.answered("hybrid", "rrf_fused", false, Duration::from_millis(60));
    metrics.search.answered("vector", "cosine", false, Duration::from_millis(20));
    let text = metrics.prometheus_text();
    let series = "activekg_search_latency_seconds_bucket{mode=\"hybrid\",reranked=\"false\",score_type=\"rrf_fused\",le=";
    assert_eq!(value(&text, &format!("{series}\"0.05\"}}")), Some(0.0));
    assert_eq!(value(&text, &format!("{series}\"0.1\"}}")), Some(1.0));
    let json = metrics.json(STARTED);
    assert_eq!(json["counters"]["search_requests_total"], 2);
    assert_eq!(json["histograms"]["search_latency_ms"]["count"], 2);
    assert_eq!(json["histograms"]["search_latency_ms"]["max"].as_f64(), Some(60.0));
}

#[test]
fn the_json_form_has_its_keys() {
    let metrics = metrics();
    let json = metrics.json(STARTED);
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["counters", "gauges", "histograms", "timestamp"]);
    assert_eq!(json["timestamp"], "2026-02-03T10:00:00.123456+00:00");
    for name in [
        "log_messages_total[level=info]",
        "log_messages_total[level=warning]",
        "log_warnings_total[level=warning]",
        "log_errors_total[level=error]",
        "search_requests_total",
        "ask_requests_total",
    ] {
        assert_eq!(json["counters"][name], 0, "{name}");
    }
    assert_eq!((&json["gauges"], &json["histograms"]), (&json!({}), &json!({})));

    metrics.embedding.overall(0.5);
    metrics.llm.succeeded("openai", "m", (10, 4), Duration::from_millis(3));
    metrics.llm.failed("openai", "m");
    let json = metrics.json(STARTED);
    assert_eq!(json["gauges"]["embedding_coverage_ratio"], 0.5);
    assert_eq!(json["counters"]["llm_requests_total[backend=openai,model=m,status=success]"], 1);
    assert_eq!(json["counters"]["llm_tokens_total[backend=openai,model=m,type=output]"], 4);
    assert_eq!(json["histograms"]["llm_latency_ms[backend=openai,model=m]"]["count"], 1);
}

#[test]
fn rejected_questions_are_counted_by_reason() {
    let metrics = metrics();
    let outcome = |answer| AskOutcome {
        score_type: "cosine",
        gating_score: 0.1,
        answer,
        reranked: false,
        latency: Duration::from_millis(5),
    };
    metrics.ask.ended(&outcome(Err(Rejection::NoResults)));
    metrics.ask.ended(&outcome(Err(Rejection::Ambiguity)));
    metrics.ask.ended(&outcome(Ok(2)));
    let text = metrics.prometheus_text();
    assert_eq!(
        value(&text, "activekg_ask_requests_total{rejected=\"true\",score_type=\"cosine\"}"),
        Some(2.0)
    );
    assert_eq!(
        value(&text, "activekg_rejections_total{reason=\"ambiguity\",score_type=\"cosine\"}"),
        Some(1.0)
    );
    assert_eq!(
        value(&text, "activekg_zero_citations_total{reason=\"no_results\",score_type=\"cosine\"}"),
        Some(1.0)
    );
    assert_eq!(value(&text, "activekg_cited_nodes_count{score_type=\"cosine\"}"), Some(1.0));
    assert_eq!(metrics.json(STARTED)["counters"]["ask_requests_total"], 3);
}

#[test]
fn errors_are_sorted_by_status() {
    let metrics = metrics();
    for (status, kind) in [
        (400, "bad_request"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "client_error"),
        (413, "request_too_large"),
        (422, "validation_error"),
        (429, "rate_limit_exceeded"),
        (503, "server_error"),
    ] {
        metrics.http.error(None, status);
        let series = format!(
            "activekg_api_errors_total{{endpoint=\"unmatched\",error_type=\"{kind}\",status=\"{status}\"}}"
        );
        assert_eq!(value(&metrics.prometheus_text(), &series), Some(1.0), "{status}");
    }
    let created = "activekg_api_errors_created{endpoint=\"unmatched\",error_type=\"not_found\",status=\"404\"}";
    assert!(value(&metrics.prometheus_text(), created).is_some());
}

#[test]
fn label_values_cannot_break_out_of_their_quotes() {
    let metrics = metrics();
    metrics.triggers.fired("a\"b\\c\nd", TriggerMode::Full);
    let text = metrics.prometheus_text();
    assert_eq!(
        value(&text, r#"activekg_triggers_fired_total{mode="full",pattern="a\"b\\c\nd"}"#),
        Some(1.0)
    );
    assert!(
        value(&text, r#"activekg_triggers_fired_created{mode="full",pattern="a\"b\\c\nd"}"#)
            .is_some()
    );
}

#[test]
fn tenants_beyond_the_limit_have_no_gauges() {
    let metrics = metrics();
    for tenant in 0..1001 {
        metrics.embedding.tenant(&format!("t{tenant}"), 1.0, Some(2.0));
    }
    let text = metrics.prometheus_text();
    assert_eq!(value(&text, "activekg_embedding_coverage_ratio{tenant_id=\"t999\"}"), Some(1.0));
    assert_eq!(value(&text, "activekg_embedding_coverage_ratio{tenant_id=\"t1000\"}"), None);
    assert_eq!(value(&text, "activekg_embedding_tenants_omitted"), Some(1.0));
}

#[test]
fn the_process_is_measured() {
    let text = metrics().prometheus_text();
    assert!(value(&text, "process_resident_memory_bytes").unwrap() > 1e6);
    assert!(value(&text, "process_open_fds").unwrap() >= 3.0);
    assert!(value(&text, "process_start_time_seconds").unwrap() > 1.7e9);
}

#[test]
fn a_scrape_shows_what_the_store_does() {
    use activekg_storage::queue::{self, DeadReason, NewJob};
    use activekg_storage::time::ManualClock;
    use activekg_storage::{
        Change, ChangeKind, JobId, NodeId, Store, StoreOptions, TenantId, changes,
    };

    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default()).unwrap());
    let clock = Arc::new(ManualClock::at(STARTED));
    let log = |tx: &mut activekg_storage::WriteTx<'_>| {
        let kind = ChangeKind::NodeText(NodeId::from_u128(1));
        tx.log(Change { at: STARTED, tenant: TenantId::shared(), kind })
    };
    let first = store.write_blocking(log).unwrap().seq;
    store.write_blocking(log).unwrap();
    store.write_blocking(move |tx| changes::checkpoint(tx, "someone", first, STARTED)).unwrap();
    let queue = crate::graph::QUEUE;
    let enqueue = move |tx: &mut activekg_storage::WriteTx<'_>| {
        let delays =
            [None, None, None, Some(3), Some(60)].map(|delay| delay.map(Duration::from_secs));
        for delay in delays {
            let job = NewJob {
                id: JobId::random(),
                tenant: TenantId::shared(),
                key: None,
                payload: Vec::new(),
                rank: None,
                run_at: delay.map(|delay| STARTED.plus(delay)),
                now: STARTED,
            };
            queue::enqueue(tx, &queue, job)?;
        }
        let leased = queue::lease(tx, &queue, STARTED, 2)?;
        queue::bury(tx, &queue, &leased[0], DeadReason::Permanent, "no", STARTED)?;
        queue::pause(tx, &queue)
    };
    store.write_blocking(enqueue).unwrap();
    clock.advance(Duration::from_secs(4));
    let metrics = metrics().with_store(StoreMetrics::new(&store, vec![crate::graph::QUEUE], clock));
    let text = metrics.prometheus_text();
    for (series, expected) in [
        ("activekg_store_commits_total{phases=\"1\"}", 4.0),
        ("activekg_store_changes_total{result=\"committed\"}", 4.0),
        ("activekg_store_batch_changes_bucket{le=\"1\"}", 4.0),
        ("activekg_store_commit_seconds_count", 4.0),
        ("activekg_store_writable", 1.0),
        ("activekg_change_log_seq", 2.0),
        ("activekg_change_log_lag{consumer=\"someone\"}", 1.0),
        // One more than when they were enqueued: it came due since.
        ("activekg_queue_depth{queue=\"embedding\",state=\"ready\"}", 2.0),
        ("activekg_queue_depth{queue=\"embedding\",state=\"delayed\"}", 1.0),
        ("activekg_queue_depth{queue=\"embedding\",state=\"leased\"}", 1.0),
        ("activekg_queue_depth{queue=\"embedding\",state=\"held\"}", 0.0),
        ("activekg_queue_depth{queue=\"embedding\",state=\"dead\"}", 1.0),
        ("activekg_queue_oldest_age_seconds{queue=\"embedding\"}", 4.0),
        ("activekg_queue_paused{queue=\"embedding\"}", 1.0),
        ("activekg_queue_evicted_total{queue=\"embedding\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
    // A scrape after the store is closed shows the rest.
    drop(store);
    assert!(metrics.prometheus_text().contains("activekg_ask_requests_total"));
}

#[test]
fn the_embedder_is_measured_from_the_start() {
    let encoder = Encoder::built_in(Precision::Auto).unwrap();
    let options = EmbedderOptions { threads: 1, ..EmbedderOptions::default() };
    let embedder = Embedder::start(encoder, options).unwrap();
    let text = metrics().with_embedder(embedder).prometheus_text();
    for series in [
        "activekg_embedding_texts_total{kind=\"query\"}",
        "activekg_embedding_tokens_total{kind=\"text\"}",
        "activekg_embedding_failed_total{kind=\"text\"}",
        "activekg_embedding_refused_total",
        "activekg_embedding_waiting{kind=\"query\"}",
        "activekg_embedding_queue_seconds_bucket{kind=\"query\",le=\"0.002\"}",
        "activekg_embedding_queue_seconds_count{kind=\"text\"}",
        "activekg_embedding_batch_size_sum{kind=\"text\"}",
        "activekg_embedding_cache_requests_total{result=\"hit\"}",
        "activekg_embedding_cache_evictions_total{reason=\"age\"}",
        "activekg_embedding_cache_entries",
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series}");
    }
    let types = types(&text);
    assert_eq!(types["activekg_embedding_batch_size"], "histogram");
    assert_eq!(types["activekg_embedding_cache_entries"], "gauge");
}
