//! Connectors by the version of the key that seals their secrets. Read at each scrape.

use std::collections::BTreeMap;

use activekg_storage::tables::connectors::CONFIGS;
use activekg_storage::{ReadTx, Readable as _, Scan, StorageError};
use prometheus::proto::MetricFamily;

use super::family::{Sample, gauges};

/// How many connectors there are of each version. A row that is damaged is of none.
pub(super) fn collect(tx: &ReadTx) -> Result<MetricFamily, StorageError> {
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    for row in tx.scan(&CONFIGS, Scan::all())? {
        match row {
            Ok((_, record)) => *versions.entry(record.key_version.to_string()).or_default() += 1,
            Err(StorageError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let labels: Vec<([(&str, &str); 1], f64)> =
        versions.iter().map(|(version, n)| ([("version", version.as_str())], *n as f64)).collect();
    let samples: Vec<Sample<'_>> =
        labels.iter().map(|(labels, n)| (labels.as_slice(), *n)).collect();
    let help = "Connectors, by the version of the key that seals their secrets";
    Ok(gauges("connector_config_key_version", help, &samples))
}
