//! `activekg audit`: what administrators did.

use clap::{Args, value_parser};
use serde_json::{Value, json};

use super::queue::common::{Common, age, print, query_value};

/// Say what administrators did, the newest first
///
/// Acts on queues, connectors, keys, workers, models and backups leave an entry: when, about whose data,
/// who, what, to what. With tokens on, --url needs a token with the scope admin, or super_admin for all tenants; the
/// server on this machine needs none.
#[derive(Args)]
pub(super) struct AuditArgs {
    /// Only acts about the data of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only acts by this name
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only acts whose names begin so: queue., connector.delete
    #[arg(long, value_name = "BEGINNING")]
    action: Option<String>,
    /// Only acts within this time: 30m, 12h, 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    since: Option<String>,
    /// Most entries, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    common: Common,
}

const AUDIT: &str = "/_admin/audit";

pub(super) fn run(args: &AuditArgs) -> anyhow::Result<()> {
    let AuditArgs { tenant, actor, action, since, limit, common } = args;
    let mut path = format!("{AUDIT}?limit={limit}");
    let given = [("tenant_id", tenant), ("actor", actor), ("action", action), ("within", since)];
    for (name, value) in given {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", query_value(value)));
        }
    }
    super::runtime()?.block_on(async {
        let server = common.remote.needed_server()?;
        let (mut entries, mut next) = (Vec::new(), Value::Null);
        loop {
            let more = next.as_str().map_or(String::new(), |next| format!("&before={next}"));
            let mut answer = server.get(&format!("{path}{more}")).await?;
            if let Value::Array(found) = answer["entries"].take() {
                entries.extend(found);
            }
            next = answer["next"].take();
            // An answer may end before it is full, for it does not look at any number of entries.
            if next.is_null() || entries.len() >= *limit as usize {
                break;
            }
        }
        entries.truncate(*limit as usize);
        let answer = json!({ "entries": entries, "next": next });
        print(common, &answer, &table(&answer))
    })
}

fn table(answer: &Value) -> String {
    let mut text = "at\ttenant\tactor\taction\tobject\tdetails\n".to_owned();
    for entry in answer["entries"].as_array().map_or(&[][..], Vec::as_slice) {
        let cell = |name: &str| entry[name].as_str().unwrap_or("-").replace(char::is_control, " ");
        let [at, tenant, actor, action, object] =
            ["at", "tenant_id", "actor", "action", "object"].map(cell);
        let details = &entry["details"];
        text.push_str(&format!("{at}\t{tenant}\t{actor}\t{action}\t{object}\t{details}\n"));
    }
    if !answer["next"].is_null() {
        text.push_str("there may be more: say --limit, --since or --action\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_a_line() {
        let entry = json!({"at": "2026-11-22T07:00:00Z", "tenant_id": null, "actor": "local\tadministrator",
            "action": "queue.pause", "object": "embedding", "details": {"changed": true}});
        let answer = json!({"entries": [entry], "next": null});
        let line = "2026-11-22T07:00:00Z\t-\tlocal administrator\tqueue.pause\tembedding\t{\"changed\":true}\n";
        assert_eq!(table(&answer).lines().count(), 2);
        assert!(table(&answer).ends_with(line), "{}", table(&answer));
        assert!(table(&json!({"entries": [], "next": "1.2"})).contains("--limit"));
    }
}
