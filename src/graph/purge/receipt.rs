//! Receipts: what each transaction of a purge removed, in a chain that shows every change to it.
//!
//! A receipt is a JSON text and the SHA-256 of that text. The text holds the digest of the tenant's
//! receipt before it, so that none can be altered, taken out or put in without the digests of all
//! that follow being others. It names nodes by their ids and counts the rest: no content.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::Json;
use activekg_storage::tables::purge::{RECEIPTS, ReceiptRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, WriteTx};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::PurgeRun;
use crate::graph::{Erased, Error, Graph};
use crate::timestamp::iso;

/// Most receipts that one call reads.
pub const RECEIPTS_MAX: usize = 100;

/// The digest that a tenant's first receipt names.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Counts the tenant's receipts, from 1.
    pub number: u64,
    /// What it says: a JSON object, to be kept byte for byte.
    pub body: String,
    /// SHA-256 of the body, in hexadecimal digits.
    pub sha256: String,
}

/// SHA-256 of a text, in hexadecimal digits.
#[must_use]
pub fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()).into())
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a receipt is to say.
pub(super) struct Account<'a> {
    pub(super) run: &'a PurgeRun,
    pub(super) at: UnixMicros,
    pub(super) parents: &'a [NodeId],
    pub(super) chunks: &'a [NodeId],
    pub(super) erased: &'a Erased,
}

/// Adds a receipt to the tenant's.
pub(super) fn add(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    account: &Account<'_>,
) -> Result<Receipt, Error> {
    let last = tx.scan(&RECEIPTS, Scan::prefix(&(tenant.clone(),)).reversed())?.next();
    let last = last.transpose()?.map(|((_, number), record)| (number, hex(&record.sha256)));
    let (number, previous) = match last {
        Some((number, sha256)) => (number + 1, sha256),
        None => (1, GENESIS.to_owned()),
    };
    let Account { run, at, parents, chunks, erased } = account;
    let ids = |ids: &[NodeId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let body = json!({
        "number": number,
        "tenant_id": tenant.as_str(),
        "at": iso(at.get()),
        "run": run.id,
        "actor": run.actor,
        "previous": previous,
        "parents": ids(parents),
        "chunks": ids(chunks),
        "removed": erased,
    });
    let body = body.to_string();
    let sha256 = Sha256::digest(body.as_bytes()).into();
    let record = ReceiptRecord { body: Json(body.clone()), sha256 };
    tx.put(&RECEIPTS, &(tenant.clone(), number), &record)?;
    Ok(Receipt { number, body, sha256: hex(&sha256) })
}

impl Graph {
    /// A tenant's receipts with numbers above `after`, in order, at most `limit` and at most
    /// [`RECEIPTS_MAX`].
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn purge_receipts(
        &self,
        tenant: &TenantId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Receipt>, Error> {
        let tenant = tenant.clone();
        self.reading(move |tx| {
            let scan = Scan::prefix(&(tenant.clone(),)).after(&(tenant, after));
            let rows = tx.scan(&RECEIPTS, scan)?.take(limit.min(RECEIPTS_MAX));
            let receipts = rows.map(|row| {
                let ((_, number), ReceiptRecord { body: Json(body), sha256 }) = row?;
                Ok(Receipt { number, body, sha256: hex(&sha256) })
            });
            receipts.collect()
        })
        .await
    }
}
