//! Queues in every state, sound and with rows missing.

use std::time::Duration;

use super::*;
use crate::ids::JobId;
use crate::queue::{self, NewJob, QueueDef};
use crate::store::{Store, testing};
use crate::time::UnixMicros;
use crate::write::WriteTx;

const QUEUE: QueueDef = QueueDef::named("work");
const NOW: UnixMicros = UnixMicros(1_000_000);

fn findings(store: &Store) -> Vec<Finding> {
    let mut found = Vec::new();
    derived(&store.read().unwrap(), &mut |finding| found.push(finding)).unwrap();
    found
}

fn job(n: u128, tenant: &str, run_at: Option<UnixMicros>) -> NewJob {
    NewJob {
        id: JobId::from_u128(n),
        tenant: TenantId::new(tenant).unwrap(),
        key: n.is_multiple_of(2).then(|| format!("key {n}")),
        payload: vec![7; 10],
        rank: None,
        run_at,
        now: NOW,
    }
}

/// Ready, delayed, leased, failed, dead, and taken back after a crash, of two tenants.
fn busy(store: &Store) {
    testing::write(store, |tx| {
        for n in 0..30 {
            let tenant = if n % 3 == 0 { "acme" } else { "other" };
            let later = (n % 7 == 0).then(|| NOW.plus(Duration::from_secs(60)));
            queue::enqueue(tx, &QUEUE, job(n, tenant, later))?;
        }
        let leased = queue::lease(tx, &QUEUE, NOW, 4)?;
        queue::bury(tx, &QUEUE, &leased[0], queue::DeadReason::Permanent, "hopeless", NOW)?;
        queue::ack(tx, &QUEUE, &leased[1])?;
        queue::recover(tx, &QUEUE, NOW)?;
        // The first of those that were leased goes alone, so that the others stay behind.
        queue::lease(tx, &QUEUE, NOW, 4).map(drop)
    });
}

#[test]
fn a_queue_in_use_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    assert!(findings(&store).is_empty());
    busy(&store);
    let reasons: Vec<_> = findings(&store).iter().map(|finding| finding.reason).collect();
    assert!(reasons.is_empty(), "{reasons:?}");
}

#[test]
fn indexes_and_counters_are_made_again_from_the_items() {
    type Loss = fn(&mut WriteTx<'_>) -> Result<(), StorageError>;
    fn empty<K: crate::keys::Key, V: crate::codec::Record>(
        tx: &mut WriteTx<'_>,
        table: &crate::table::Table<K, V>,
    ) -> Result<(), StorageError> {
        let rows = tx.scan(table, Scan::all())?;
        let keys = rows.map(|row| row.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()?;
        // Every other row is lost, and at least one.
        keys.iter().step_by(2).try_for_each(|key| tx.remove(table, key).map(drop))
    }
    let losses: [Loss; 13] = [
        |tx| empty(tx, &ITEMS),
        |tx| empty(tx, &LATER),
        |tx| empty(tx, &LIVE),
        |tx| empty(tx, &FRONT),
        |tx| empty(tx, &SUSPECTS),
        |tx| empty(tx, &DUE),
        |tx| empty(tx, &LEASED),
        |tx| empty(tx, &LETTERS),
        |tx| empty(tx, &LETTERS_OF),
        |tx| empty(tx, &STATE),
        |tx| empty(tx, &TENANTS),
        |tx| empty(tx, &TURNS),
        |tx| empty(tx, &HELD),
    ];
    for (n, loss) in losses.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(dir.path());
        busy(&store);
        testing::write(&store, loss);
        let found = findings(&store);
        testing::write(&store, move |tx| {
            found.iter().try_for_each(|finding| {
                tx.put_raw(finding.table, &finding.key, finding.should_be.as_deref())
            })
        });
        let left: Vec<_> = findings(&store).iter().map(|finding| finding.reason).collect();
        assert!(left.is_empty(), "loss {n}: {left:?}");

        // Every item that is left is worked off.
        let later = NOW.plus(Duration::from_secs(3600));
        testing::write(&store, move |tx| {
            queue::recover(tx, &QUEUE, later)?;
            loop {
                let leased = queue::lease(tx, &QUEUE, later, 8)?;
                if leased.is_empty() {
                    return Ok(());
                }
                for job in &leased {
                    assert!(queue::ack(tx, &QUEUE, job)?);
                }
            }
        });
        let depths = queue::depths(&store.read().unwrap(), &QUEUE).unwrap();
        assert_eq!(depths.live(), 0, "loss {n}: {depths:?}");
    }
}
