//! What people and programs are told of backups.

use activekg_storage::backup::Manifest;
use activekg_storage::time::UnixMicros;
use serde_json::{Value, json};

use super::{Created, Listed, Trial, damage};
use crate::timestamp::iso;

/// A backup that was made.
#[must_use]
pub fn created(created: &Created) -> Value {
    let Created { name, path, bytes, manifest, took } = created;
    json!({
        "name": name.to_string(),
        "path": path,
        "created_at": iso(manifest.about.created_at_us.get()),
        "bytes": bytes,
        "encrypted": name.is_sealed(),
        "rows": rows(manifest),
        "key_versions": manifest.key_versions,
        "damage": damaged(manifest),
        "duration_seconds": took.as_secs_f64(),
    })
}

/// A backup in a list.
#[must_use]
pub fn listed(listed: &Listed) -> Value {
    let Listed { name, path, bytes, about } = listed;
    let at = about.as_ref().map_or(name.at(), |about| about.created_at_us);
    json!({
        "name": name.to_string(),
        "path": path,
        "created_at": iso(at.get()),
        "bytes": bytes,
        "encrypted": name.is_sealed(),
        "rows": about.as_ref().ok().map(|about| about.rows),
        "program": about.as_ref().ok().map(|about| about.program.as_str()),
        "problem": about.as_ref().err(),
    })
}

/// A backup that was tried out, at the instant `now`.
#[must_use]
pub fn tried(trial: &Trial, now: UnixMicros) -> Value {
    let Trial { manifest, restored_in, took, nodes, ancestors, events, found } = trial;
    let at = manifest.about.created_at_us;
    json!({
        "created_at": iso(at.get()),
        "age_seconds": now.since(at).as_secs_f64(),
        "rows": rows(manifest),
        "key_versions": manifest.key_versions,
        "damage": damaged(manifest),
        "restored_in_seconds": restored_in.as_secs_f64(),
        "duration_seconds": took.as_secs_f64(),
        "nodes_read": nodes,
        "ancestors_read": ancestors,
        "events_read": events,
        "nodes_found": found,
    })
}

fn rows(manifest: &Manifest) -> u64 {
    manifest.tables.iter().map(|table| table.rows).sum()
}

fn damaged(manifest: &Manifest) -> Option<String> {
    (!manifest.damage.is_none()).then(|| damage(manifest))
}
