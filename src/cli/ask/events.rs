//! What POST /ask/stream tells.

use anyhow::Context as _;
use serde_json::Value;

/// A step of an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// The sources are chosen.
    Context,
    /// The text goes on.
    Token(String),
    /// All there is to say.
    Final(Value),
    /// There will be no answer.
    Failed(String),
}

impl Event {
    /// Reads the data of an event.
    ///
    /// # Errors
    ///
    /// When it is none that a server sends.
    pub(super) fn read(data: Value) -> anyhow::Result<Self> {
        let text = |name: &str| {
            let text = data[name].as_str().map(str::to_owned);
            text.with_context(|| format!("the server's event has no {name}: {data}"))
        };
        Ok(match data["type"].as_str() {
            Some("context") => Self::Context,
            Some("token") => Self::Token(text("text")?),
            Some("error") => Self::Failed(text("message")?),
            Some("final") => Self::Final(data),
            _ => anyhow::bail!("the server sent an unknown event: {data}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_told_apart() {
        let read = |data: Value| Event::read(data).unwrap();
        assert_eq!(read(json!({ "type": "context", "node_ids": [] })), Event::Context);
        assert_eq!(read(json!({ "type": "token", "text": " a" })), Event::Token(" a".to_owned()));
        let last = json!({ "type": "final", "answer": "a" });
        assert_eq!(read(last.clone()), Event::Final(last));
        let failed = json!({ "type": "error", "message": "no" });
        assert_eq!(read(failed), Event::Failed("no".to_owned()));
        for strange in [json!(null), json!({ "type": "token" }), json!({ "type": "other" })] {
            assert!(Event::read(strange).is_err());
        }
    }
}
