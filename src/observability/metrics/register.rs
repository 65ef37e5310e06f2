//! Registration: one line a metric, and a note of every family for the text format.

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry,
};

/// A family that is announced even while it has no series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// The word of the text format.
    pub(super) kind: &'static str,
}

/// All families, by name.
pub(super) type Families = Vec<Family>;

/// Registers metrics in a registry.
pub(super) struct Register<'a> {
    registry: &'a Registry,
    families: Families,
}

impl<'a> Register<'a> {
    pub(super) fn new(registry: &'a Registry) -> Self {
        Self { registry, families: Vec::new() }
    }

    pub(super) fn finish(mut self) -> Families {
        self.families.sort_by_key(|family| family.name);
        self.families
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.registered(name, help, "counter", IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Result<Counter, prometheus::Error> {
        self.registered(name, help, "counter", Counter::new(name, help)?)
    }

    pub(super) fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        self.registered(name, help, "gauge", GaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Result<Gauge, prometheus::Error> {
        self.registered(name, help, "gauge", Gauge::new(name, help)?)
    }

    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.registered(name, help, "histogram", HistogramVec::new(opts, labels)?)
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        buckets: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.registered(name, help, "histogram", Histogram::with_opts(opts)?)
    }

    fn registered<C>(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        collector: C,
    ) -> Result<C, prometheus::Error>
    where
        C: Collector + Clone + 'static,
    {
        self.registry.register(Box::new(collector.clone()))?;
        self.families.push(Family { name, help, kind });
        Ok(collector)
    }
}

/// The sum of all series of a counter.
pub(super) fn sum(counters: &IntCounterVec) -> u64 {
    let series = counters.collect().into_iter().flat_map(|mut family| family.take_metric());
    series.map(|metric| metric.get_counter().get_value() as u64).sum()
}
