//! What `activekg queue` and `activekg dlq` share.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use crate::config::options::RemoteOptions;
use crate::http::routes::encode_path;
use crate::refresh::schedule::parse_interval;

/// How to answer, and whom to ask.
#[derive(Args)]
pub(in crate::cli) struct Common {
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) remote: RemoteOptions,
}

/// A queue, or one tenant's part of it.
#[derive(Args)]
pub(in crate::cli) struct Part {
    /// Name of the queue, as `activekg queue list` prints it
    pub(in crate::cli) queue: String,
    /// Only this tenant [default: all]
    pub(in crate::cli) tenant: Option<String>,
}

impl Part {
    /// The path of a route of the queue, with the tenant and these parameters. Those without a
    /// value are left out.
    pub(in crate::cli) fn path(&self, rest: &str, query: &[(&str, Option<String>)]) -> String {
        let mut path = route(&self.queue, rest);
        let tenant = ("tenant_id", self.tenant.clone());
        let given = std::iter::once(&tenant).chain(query);
        let given = given.filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (n, (name, value)) in given.enumerate() {
            path.push(if n == 0 { '?' } else { '&' });
            path.push_str(&format!("{name}={}", encode_path(value)));
        }
        path
    }

    /// The part in words.
    pub(in crate::cli) fn named(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("of queue {}, tenant {tenant}", self.queue),
            None => format!("of queue {}, all tenants", self.queue),
        }
    }
}

/// The path of a route of a queue.
pub(in crate::cli) fn route(queue: &str, rest: &str) -> String {
    format!("/admin/queues/{}{rest}", encode_path(queue).replace('/', "%2F"))
}

/// A value in the query of a route.
pub(in crate::cli) fn query_value(text: &str) -> String {
    encode_path(text).replace('/', "%2F")
}

/// Leave to remove something.
#[derive(Args)]
pub(in crate::cli) struct Consent {
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Asks whether to do `what`, unless that was said already.
    ///
    /// # Errors
    ///
    /// When the answer is no, and when there is nobody to ask.
    pub(in crate::cli) fn ask(&self, what: &str) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            bail!("this would {what}; say --yes if it is meant");
        }
        eprint!("This will {what}. Go on? [y/N] ");
        io::stderr().flush()?;
        let mut line = String::new();
        io::stdin().lock().take(64).read_line(&mut line)?;
        if !["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()) {
            bail!("nothing was changed");
        }
        Ok(())
    }
}

/// An age, such as 7d, as it was typed.
pub(in crate::cli) fn age(text: &str) -> Result<String, String> {
    match parse_interval(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("a whole number of minutes, hours or days, such as 30m, 12h, 7d".to_owned()),
    }
}

/// Prints the server's answer as JSON if that is wanted, else `text`.
pub(in crate::cli) fn print(common: &Common, answer: &Value, text: &str) -> anyhow::Result<()> {
    let text = if common.json { format!("{answer}\n") } else { text.to_owned() };
    io::stdout().write_all(text.as_bytes()).context("write the answer")
}

/// Items of an answer, one line of JSON each: what the queue knows of one, then what the item
/// itself says, side by side.
pub(in crate::cli) fn lines(answer: &Value) -> String {
    let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    for found in items.iter().filter_map(Value::as_object) {
        let mut line = found.clone();
        if let Some(Value::Object(item)) = line.shift_remove("item") {
            line.extend(item);
        }
        text.push_str(&format!("{}\n", Value::Object(line)));
    }
    text
}

/// A purge in words.
pub(in crate::cli) fn purged(answer: &Value) -> String {
    format!("purged {}, {} remain\n", answer["purged"], answer["remaining"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(queue: &str, tenant: Option<&str>) -> Part {
        Part { queue: queue.to_owned(), tenant: tenant.map(str::to_owned) }
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        let path = part("a/../b?", Some("x&all=true")).path("/items", &[]);
        assert_eq!(path, "/admin/queues/a%2F..%2Fb%3F/items?tenant_id=x%26all%3Dtrue");
        let query = [("keep", Some("1".to_owned())), ("older_than", None)];
        assert_eq!(part("q", None).path("/items", &query), "/admin/queues/q/items?keep=1");
        assert_eq!(part("q", None).path("", &[]), "/admin/queues/q");
    }

    #[test]
    fn an_item_is_one_line() {
        let answer = json!({"items": [
            {"id": "1", "state": "ready", "item": {"modified_at": "now"}},
            {"id": "2", "state": "dead", "item": null},
        ]});
        assert_eq!(
            lines(&answer),
            "{\"id\":\"1\",\"state\":\"ready\",\"modified_at\":\"now\"}\n{\"id\":\"2\",\"state\":\"dead\"}\n"
        );
        assert_eq!(lines(&json!({})), "");
    }

    #[test]
    fn nothing_is_removed_unasked() {
        // Tests have no terminal to ask on, or one on which nobody answers.
        if !io::stdin().is_terminal() {
            let refused = Consent { yes: false }.ask("purge everything").unwrap_err();
            assert!(refused.to_string().contains("--yes"), "{refused}");
        }
        assert!(Consent { yes: true }.ask("purge everything").is_ok());
    }

    #[test]
    fn ages_are_checked_before_they_are_sent() {
        assert_eq!(age("7d"), Ok("7d".to_owned()));
        assert!(age("7").is_err() && age("-7d").is_err() && age("0d").is_err());
    }
}
