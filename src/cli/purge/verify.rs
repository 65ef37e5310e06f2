//! Checking receipts without a server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use crate::graph::{GENESIS, digest};

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// File with the lines that `activekg purge receipts` printed, or - for the standard input
    file: String,
    /// The digest of the last receipt, as it was noted elsewhere, such as by a `purged` event
    #[arg(long, value_name = "SHA256")]
    head: Option<String>,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let VerifyArgs { file, head } = args;
    let chains = if file == "-" {
        verify(io::stdin().lock())
    } else {
        verify(BufReader::new(File::open(file).with_context(|| format!("open {file}"))?))
    }?;
    if let Some(head) = head
        && !chains.values().any(|chain| chain.head.eq_ignore_ascii_case(head))
    {
        bail!("no receipts end with {head}: some are missing at the end");
    }
    for (tenant, Chain { number, head }) in &chains {
        println!("{tenant}: {number} receipts, the last one {head}");
    }
    Ok(())
}

/// Receipts of a tenant, as far as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// The number of the last one.
    pub(super) number: u64,
    /// Its digest.
    pub(super) head: String,
}

/// Checks lines of receipts: the last receipt of each tenant.
pub(super) fn verify(lines: impl BufRead) -> anyhow::Result<BTreeMap<String, Chain>> {
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    for (n, line) in lines.lines().enumerate() {
        let n = n + 1;
        let line = line.with_context(|| format!("read line {n}"))?;
        let Some((sha256, body)) = line.split_once("  ") else {
            bail!("line {n} is no receipt: it has no digest, two blanks and a JSON object");
        };
        if digest(body) != sha256 {
            bail!("line {n} was changed: its digest is another");
        }
        let body: Value =
            serde_json::from_str(body).with_context(|| format!("line {n} is no JSON"))?;
        let (Some(tenant), Some(number), Some(previous)) =
            (body["tenant_id"].as_str(), body["number"].as_u64(), body["previous"].as_str())
        else {
            bail!("line {n} is no receipt: it has no tenant_id, number and previous");
        };
        let chain = chains
            .entry(tenant.to_owned())
            .or_insert_with(|| Chain { number: 0, head: GENESIS.to_owned() });
        if number != chain.number + 1 || previous != chain.head {
            bail!(
                "line {n} does not follow receipt {} of tenant {tenant}: receipts were taken out, put in or moved",
                chain.number
            );
        }
        *chain = Chain { number, head: sha256.to_owned() };
    }
    Ok(chains)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The lines of so many receipts of each tenant.
    fn receipts(tenants: &[(&str, u64)]) -> String {
        let mut text = String::new();
        for (tenant, n) in tenants {
            let mut previous = GENESIS.to_owned();
            for number in 1..=*n {
                let body = json!({
                    "number": number, "tenant_id": tenant, "previous": previous,
                    "parents": [format!("{number:032x}")], "chunks": [], "removed": {"edges": 2},
                })
                .to_string();
                previous = digest(&body);
                text.push_str(&format!("{previous}  {body}\n"));
            }
        }
        text
    }

    #[test]
    fn whole_receipts_are_found_to_be_so() {
        let text = receipts(&[("acme", 3), ("harbor", 1)]);
        let chains = verify(text.as_bytes()).unwrap();
        assert_eq!(chains.len(), 2);
        assert_eq!(chains["acme"].number, 3);
        let head = text.lines().nth(2).unwrap().split_once("  ").unwrap().0;
        assert_eq!(chains["acme"].head, head);
        assert!(verify(&b""[..]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_changed_byte_shows(at in 0_usize..2000, to in 0_u8..128) {
            let mut bytes = receipts(&[("acme", 4)]).into_bytes();
            let at = at % (bytes.len() - 1);
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            prop_assert!(verify(&bytes[..]).is_err());
        }

        #[test]
        fn lines_taken_out_or_moved_show(n in 2_u64..6, from in 0_usize..6, to in 0_usize..6) {
            let text = receipts(&[("acme", n)]);
            let mut lines: Vec<&str> = text.lines().collect();
            let (from, to) = (from % lines.len(), to % lines.len());
            prop_assume!(from != to);
            let mut swapped = lines.clone();
            swapped.swap(from, to);
            prop_assert!(verify(swapped.join("\n").as_bytes()).is_err());
            // All but the last one, whose absence only its digest shows.
            lines.remove(from.min(to));
            prop_assert!(verify(lines.join("\n").as_bytes()).is_err());
        }
    }
}
