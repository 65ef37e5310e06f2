//! What is measured over all nodes of a tenant, and figures that others publish here.

use axum::extract::State;

use super::access::Who;
use super::failure::of_graph;
use super::search::rounded;
use super::wire::query::TenantQuery;
use super::wire::survey::{
    ClassCoverage, CoveredClass, DriftBucket, DriftHistogram, DriftQuery, Uplift, UpliftAnswer,
};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::{Default as DefaultTenant, NamedOrDefault};
use crate::graph::ClassCount;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Params, Reply};

/// Classes that are listed at most.
const CLASSES_MAX: usize = 50;

/// GET /_admin/embed_class_coverage.
pub(super) async fn class_coverage(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<TenantQuery>,
) -> Result<Reply<ClassCoverage>, ApiError> {
    let view = app.view(&caller, Access::Admin, query.tenant_id.as_deref(), NamedOrDefault)?;
    let counts = app.graph.class_counts(&view, CLASSES_MAX).await;
    let counts = counts.map_err(|error| of_graph(error, Some("embed_class_coverage error")))?;
    let classes: Vec<_> = counts.into_iter().map(covered).collect();
    Ok(Reply(ClassCoverage { count: classes.len(), classes }))
}

fn covered(count: ClassCount) -> CoveredClass {
    let ClassCount { class, total, embedded } = count;
    let coverage_pct = rounded(100.0 * embedded as f64 / total as f64, 2);
    CoveredClass { class, total, with_embedding: embedded, coverage_pct }
}

/// GET /_admin/drift_histogram.
pub(super) async fn drift_histogram(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<DriftQuery>,
) -> Result<Reply<DriftHistogram>, ApiError> {
    let DriftQuery { buckets, tenant_id } = query;
    let view = app.view(&caller, Access::Admin, tenant_id.as_deref(), NamedOrDefault)?;
    let counts = app.graph.drift_counts(&view, buckets).await;
    let counts = counts.map_err(|error| of_graph(error, Some("drift_histogram error")))?;
    let bound = |bucket: usize| rounded(bucket as f64 / buckets as f64, 6);
    let bucket =
        |(bucket, count)| DriftBucket { lower: bound(bucket), upper: bound(bucket + 1), count };
    Ok(Reply(DriftHistogram { buckets: counts.into_iter().enumerate().map(bucket).collect() }))
}

/// POST /_admin/metrics/retrieval_uplift.
pub(super) async fn retrieval_uplift(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(values): JsonBody<Uplift>,
) -> Result<Reply<UpliftAnswer>, ApiError> {
    app.view(&caller, Access::Admin, None, DefaultTenant)?;
    let Uplift { hybrid, weighted } = &values;
    for (mode, percent) in [("hybrid", hybrid), ("weighted", weighted)] {
        if let Some(percent) = percent {
            app.metrics.search.uplift(mode, *percent);
        }
    }
    Ok(Reply(UpliftAnswer { status: "ok", values }))
}
