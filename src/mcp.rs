//! The Model Context Protocol as far as a server of tools needs it: messages in, messages out,
//! without a word about how they travel.
//!
//! Messages are JSON-RPC 2.0. Each is answered by itself, so nothing is kept between two of them:
//! whoever speaks has said before, in `initialize`, which version it speaks, and nothing here
//! depends on it but whether messages may come in batches.

use serde_json::{Value, json};

/// Versions that can be spoken, newest first.
pub const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The version of clients that do not say which one they speak.
pub const VERSION_UNSAID: &str = "2025-03-26";
/// Messages of one batch.
pub const BATCH_MAX: usize = 50;

/// The text is not JSON.
pub const PARSE_ERROR: i32 = -32700;
/// The JSON is no message.
pub const INVALID_REQUEST: i32 = -32600;
/// There is no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The method cannot take these parameters.
pub const INVALID_PARAMS: i32 = -32602;
/// The version is none of [`VERSIONS`].
pub const UNSUPPORTED_VERSION: i32 = -32022;

/// Whether clients of this version may send batches.
pub fn has_batches(version: &str) -> bool {
    matches!(version, "2025-03-26" | "2024-11-05")
}

/// A message that came.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request {
        /// A string or an integer, for the answer.
        id: Value,
        /// What is to be done.
        method: String,
        /// With what; null without.
        params: Value,
    },
    /// Wants none: a notification, or the answer to a question nobody asked.
    Remark,
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// The answer to what is no message.
    pub fn read(message: &Value) -> Result<Self, Value> {
        let id = message.get("id").filter(|id| id.is_string() || id.is_i64() || id.is_u64());
        let answered = id.cloned().unwrap_or(Value::Null);
        let invalid = |why: &str| Err(error(&answered, INVALID_REQUEST, why, None));
        let Some(members) = message.as_object() else {
            return invalid("A message is an object");
        };
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return invalid("A message has \"jsonrpc\": \"2.0\"");
        }
        let Some(method) = members.get("method") else {
            let is_answer = members.contains_key("result") || members.contains_key("error");
            return if is_answer { Ok(Self::Remark) } else { invalid("A message has a method") };
        };
        let Some(method) = method.as_str() else {
            return invalid("A method is a string");
        };
        let params = members.get("params").cloned().unwrap_or(Value::Null);
        if !matches!(params, Value::Object(_) | Value::Null) {
            return invalid("Parameters are an object");
        }
        match (members.get("id"), id) {
            (None, _) => Ok(Self::Remark),
            (Some(_), None) => invalid("An id is a string or an integer"),
            (Some(_), Some(id)) => {
                Ok(Self::Request { id: id.clone(), method: method.to_owned(), params })
            }
        }
    }
}

/// The answer `result`.
pub fn result(id: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// The answer that there is none.
pub fn error(id: &Value, code: i32, message: &str, data: Option<Value>) -> Value {
    let mut error = json!({ "code": code, "message": message });
    if let Some(data) = data {
        error["data"] = data;
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

/// The answer to a version that cannot be spoken.
pub fn unsupported(version: &str) -> Value {
    let data = json!({ "supported": VERSIONS, "requested": version });
    error(&Value::Null, UNSUPPORTED_VERSION, "Unsupported protocol version", Some(data))
}

/// The result of `initialize`: the version the client asks for if it can be spoken, else the
/// newest, which it may then refuse.
///
/// # Errors
///
/// What is wrong with the parameters.
pub fn initialized(params: &Value, server: &Server<'_>) -> Result<Value, &'static str> {
    let wanted = params["protocolVersion"].as_str();
    let wanted = wanted.ok_or("initialize needs a protocolVersion")?;
    let version = if VERSIONS.contains(&wanted) { wanted } else { VERSIONS[0] };
    let Server { name, version: build, instructions } = server;
    Ok(json!({
        "protocolVersion": version,
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": { "name": name, "title": name, "version": build },
        "instructions": instructions,
    }))
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// How its tools go together, for the model that uses them.
    pub instructions: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_remarks_are_told_apart() {
        let read = |message: Value| Message::read(&message).expect("a message");
        let request = |id: Value| {
            let message = json!({ "jsonrpc": "2.0", "id": id, "method": "ping" });
            (read(message), Message::Request { id, method: "ping".into(), params: Value::Null })
        };
        for id in [json!(1), json!("a"), json!(0), json!(u64::MAX)] {
            let (found, expected) = request(id);
            assert_eq!(found, expected);
        }
        for remark in [
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
            json!({ "jsonrpc": "2.0", "id": 1, "result": {} }),
            json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": 1, "message": "" } }),
        ] {
            assert_eq!(read(remark), Message::Remark);
        }
    }

    #[test]
    fn what_is_no_message_is_answered_so() {
        for (bad, id) in [
            (json!(1), Value::Null),
            (json!([]), Value::Null),
            (json!({}), Value::Null),
            (json!({ "jsonrpc": "1.0", "id": 1, "method": "ping" }), json!(1)),
            (json!({ "jsonrpc": "2.0", "id": 1 }), json!(1)),
            (json!({ "jsonrpc": "2.0", "id": 1, "method": 7 }), json!(1)),
            (json!({ "jsonrpc": "2.0", "id": null, "method": "ping" }), Value::Null),
            (json!({ "jsonrpc": "2.0", "id": 1.5, "method": "ping" }), Value::Null),
            (json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1] }), json!(1)),
        ] {
            let answer = Message::read(&bad).expect_err("no message");
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32600), &id), "{bad}");
        }
    }

    #[test]
    fn a_known_version_is_agreed_to_and_the_newest_offered_else() {
        let server = Server { name: "activekg", version: "1", instructions: "" };
        let agreed = |version: &str| {
            let params = json!({ "protocolVersion": version, "capabilities": {} });
            let agreed = initialized(&params, &server).expect("a version");
            agreed["protocolVersion"].as_str().map(str::to_owned)
        };
        for version in VERSIONS {
            assert_eq!(agreed(version).as_deref(), Some(version));
        }
        assert_eq!(agreed("1999-01-01").as_deref(), Some(VERSIONS[0]));
        assert!(initialized(&json!({}), &server).is_err());
        assert!(has_batches(VERSION_UNSAID) && !has_batches(VERSIONS[0]));
    }
}
