//! Telling another program of triggers that fired.

use std::time::Duration;

use activekg_storage::WriteTx;
use activekg_storage::ids::{EventId, JobId};
use activekg_storage::queue::{self, NewJob, QueueDef};
use activekg_storage::time::UnixMicros;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Error;
use super::slots::Key;

/// The queue of deliveries: an item is tried for some seven hours.
pub const QUEUE: QueueDef = QueueDef {
    lease: Duration::from_secs(120),
    max_attempts: 15,
    backoff_base: Duration::from_secs(10),
    backoff_cap: Duration::from_secs(3600),
    ..QueueDef::named("trigger_webhooks")
};

/// A trigger that fired, as the other program is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The event, which tells two deliveries of the same from two of their own.
    pub event_id: String,
    /// Whose node it is.
    pub tenant_id: String,
    /// The node.
    pub node_id: String,
    /// The pattern's name.
    pub trigger: String,
    /// Cosine of the node's text and the pattern's example, -1 to 1.
    pub similarity: f64,
    /// When it fired, in microseconds since 1970.
    pub fired_at: i64,
}

/// Queues the delivery of a trigger that fired.
pub(super) fn enqueue(
    tx: &mut WriteTx<'_>,
    key: &Key,
    event: EventId,
    (trigger, similarity): (&str, f64),
    now: UnixMicros,
) -> Result<(), Error> {
    let delivery = Delivery {
        event_id: event.to_string(),
        tenant_id: key.0.as_str().to_owned(),
        node_id: key.1.to_string(),
        trigger: trigger.to_owned(),
        similarity,
        fired_at: now.get(),
    };
    let job = NewJob {
        id: JobId::at(now),
        tenant: key.0.clone(),
        key: None,
        payload: serde_json::to_vec(&delivery).expect("a delivery always has a JSON form"),
        rank: None,
        run_at: None,
        now,
    };
    queue::enqueue(tx, &QUEUE, job)?;
    Ok(())
}

/// A delivery as people read it; null if it cannot be read.
#[must_use]
pub fn delivery_item(payload: &[u8]) -> Value {
    match serde_json::from_slice::<Delivery>(payload) {
        Ok(Delivery { event_id, node_id, trigger, .. }) => {
            json!({ "event_id": event_id, "node_id": node_id, "trigger": trigger })
        }
        Err(_) => Value::Null,
    }
}
