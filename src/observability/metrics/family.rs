//! Families whose values are taken from elsewhere at each scrape.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// One gauge or counter: its labels and its value.
pub(super) type Sample<'a> = (&'a [(&'a str, &'a str)], f64);

/// A family of gauges.
pub(super) fn gauges(name: &str, help: &str, samples: &[Sample<'_>]) -> MetricFamily {
    let metrics = samples.iter().map(|(labels, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(*value);
        let mut metric = Metric::default();
        metric.set_label(pairs(labels));
        metric.set_gauge(gauge);
        metric
    });
    family(name, help, MetricType::GAUGE, metrics.collect())
}

/// A family of counters.
pub(super) fn counters(name: &str, help: &str, samples: &[Sample<'_>]) -> MetricFamily {
    let metrics = samples.iter().map(|(labels, value)| {
        let mut counter = Counter::default();
        counter.set_value(*value);
        let mut metric = Metric::default();
        metric.set_label(pairs(labels));
        metric.set_counter(counter);
        metric
    });
    family(name, help, MetricType::COUNTER, metrics.collect())
}

/// A histogram.
pub(super) fn histogram(
    name: &str,
    help: &str,
    values: &activekg_storage::Histogram,
) -> MetricFamily {
    histograms(name, help, &[(&[], values)])
}

/// A family of histograms: the labels and the values of each.
pub(super) fn histograms(
    name: &str,
    help: &str,
    samples: &[(&[(&str, &str)], &activekg_storage::Histogram)],
) -> MetricFamily {
    let metrics = samples.iter().map(|(labels, values)| {
        let mut cumulative = 0;
        let buckets = values.bounds.iter().zip(&values.counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(values.count());
        histogram.set_sample_sum(values.sum);
        let mut metric = Metric::default();
        metric.set_label(pairs(labels));
        metric.set_histogram(histogram);
        metric
    });
    family(name, help, MetricType::HISTOGRAM, metrics.collect())
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}
