//! Chat completions.

use serde::Serialize;
use serde_json::Value;

use super::super::ask::CitationView;
use super::super::{is_blank, tenant};
use super::{CHARS_PER_TOKEN, estimated_tokens};
use crate::http::extract::Input;
use crate::http::validate::{At, Checked};

/// Messages of one conversation.
const MESSAGES_MAX: usize = 2048;
/// Characters in the last message of the user, and in the question made of it.
const QUESTION_MAX: usize = 1000;
/// Strings to stop at.
const STOPS_MAX: usize = 4;
/// Characters in such a string.
const STOP_MAX: usize = 100;
/// Sources an answer may build on.
const RESULTS_MAX: i64 = 20;

/// Body of POST /v1/chat/completions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRequest {
    /// The last message of the user, blanks collapsed.
    pub question: String,
    /// The same behind the message of the user before it, if there is one.
    pub in_context: Option<String>,
    /// Estimated tokens of all messages.
    pub prompt_tokens: usize,
    /// Whether the answer comes in pieces.
    pub stream: bool,
    /// Whether the pieces end with the tokens used.
    pub include_usage: bool,
    /// Where the answer is cut.
    pub bounds: Bounds,
    /// Results the answer may build on, 1 to 20, default 5.
    pub max_results: usize,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

/// Where an answer is cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Before one of these.
    pub stops: Vec<String>,
    /// After so many characters.
    pub max_chars: Option<usize>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    User,
    /// Instructions, earlier answers, results of tools: nothing that a question is made of.
    Other,
}

const ROLES: [(&str, Role); 6] = [
    ("system", Role::Other),
    ("developer", Role::Other),
    ("user", Role::User),
    ("assistant", Role::Other),
    ("tool", Role::Other),
    ("function", Role::Other),
];

impl Input for ChatRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let at = At::body(body);
        let mut fields = at.fields()?;
        let messages = fields.required("messages", |at| at.list_of(1, MESSAGES_MAX, message));
        fields.nullable("model", |at| at.string());
        let stream = fields.nullable("stream", |at| at.bool()).unwrap_or(false);
        let include_usage = fields.nullable("stream_options", |at| stream_options(at, stream));
        let max_tokens = fields.nullable("max_tokens", tokens);
        let max_completion_tokens = fields.nullable("max_completion_tokens", tokens);
        let stops = fields.nullable("stop", stops).unwrap_or_default();
        fields.nullable("n", |at| at.int_in(1, 1));
        fields.nullable("temperature", |at| at.float_in(0.0, 2.0));
        fields.nullable("logprobs", |at| match at.bool()? {
            true => at.value_error("Answers have no log probabilities"),
            false => Ok(()),
        });
        fields.nullable("tool_choice", |at| match at.value.as_str() {
            Some("none" | "auto") => Ok(()),
            _ => at.value_error("No tool is called: answers come from the graph"),
        });
        fields.nullable("response_format", |at| match at.value["type"].as_str() {
            Some("text") => Ok(()),
            _ => at.value_error("Answers are text"),
        });
        let max_results = fields.nullable("max_results", |at| at.int_in(1, RESULTS_MAX));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;

        let question = at.member("messages", |at| last_question(at, &messages));
        let (question, in_context) = question.unwrap_or_else(|| at.value_error("no messages"))?;
        let max_chars = max_completion_tokens.or(max_tokens);
        Ok(Self {
            question,
            in_context,
            prompt_tokens: messages.iter().map(|message| estimated_tokens(&message.text)).sum(),
            stream,
            include_usage: include_usage.unwrap_or(false),
            bounds: Bounds {
                stops,
                max_chars: max_chars.map(|tokens| tokens.saturating_mul(CHARS_PER_TOKEN)),
            },
            max_results: usize::try_from(max_results.unwrap_or(5)).unwrap_or(1),
            tenant_id,
        })
    }
}

struct Message {
    role: Role,
    text: String,
}

fn message(at: At<'_>) -> Checked<Message> {
    let mut fields = at.fields()?;
    let role = fields.optional("role", None, |at| at.one_of(&ROLES).map(Some));
    let text = fields.nullable("content", content).unwrap_or_default();
    fields.finish()?;
    match role {
        Some(role) => Ok(Message { role, text }),
        None => at.value_error("A message needs a role"),
    }
}

/// The text of a message, which may come in parts.
fn content(at: At<'_>) -> Checked<String> {
    let part = |at: At<'_>| match at.value["type"].as_str() {
        Some("text") => {
            let mut fields = at.fields()?;
            let text = fields.required("text", |at| at.string());
            fields.finish().map(|()| text)
        }
        Some("refusal") => Ok(String::new()),
        _ => at.value_error("Only text can be read"),
    };
    if at.value.is_array() {
        return Ok(at.list_of(0, MESSAGES_MAX, part)?.join("\n"));
    }
    at.string()
}

/// The question in the last message of the user, alone and behind the message before it.
fn last_question(at: At<'_>, messages: &[Message]) -> Checked<(String, Option<String>)> {
    let mut asked = messages.iter().rev().filter(|message| message.role == Role::User);
    let collapsed = |message: &Message| {
        let words = message.text.split(is_blank).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(" ")
    };
    let Some(question) = asked.next().map(collapsed) else {
        return at.value_error("There is no message of the user");
    };
    let length = question.chars().count();
    if length == 0 {
        return at.value_error("The last message of the user is empty");
    }
    if length > QUESTION_MAX {
        return at.value_error(&format!(
            "The last message of the user is the question, and longer than {QUESTION_MAX} characters"
        ));
    }
    let room = QUESTION_MAX.saturating_sub(length + 1);
    let before = asked.map(collapsed).find(|text| !text.is_empty());
    let before = before.map(|text| text.chars().take(room).collect::<String>());
    let in_context =
        before.filter(|text| !text.is_empty()).map(|text| format!("{text} {question}"));
    Ok((question, in_context))
}

fn stream_options(at: At<'_>, stream: bool) -> Checked<bool> {
    if !stream {
        return at.value_error("stream_options go with stream");
    }
    let mut fields = at.fields()?;
    let include_usage = fields.nullable("include_usage", |at| at.bool());
    fields.finish().map(|()| include_usage.unwrap_or(false))
}

fn tokens(at: At<'_>) -> Checked<usize> {
    at.int_in(1, i64::MAX).map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX))
}

fn stops(at: At<'_>) -> Checked<Vec<String>> {
    let stop = |at: At<'_>| at.string_of(1, STOP_MAX);
    if at.value.is_array() {
        return at.list_of(0, STOPS_MAX, stop);
    }
    stop(at).map(|stop| vec![stop])
}

/// Answer of POST /v1/chat/completions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatAnswer {
    /// Made of the id of the request.
    pub id: String,
    /// `chat.completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// The writer of the answer.
    pub model: String,
    /// The answer, as the only one.
    pub choices: [Choice; 1],
    /// Estimated tokens.
    pub usage: ChatUsage,
}

/// The answer as one of several that there could be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// 0.
    pub index: usize,
    /// The answer.
    pub message: AnswerMessage,
    /// Null.
    pub logprobs: Option<()>,
    /// `stop`, or `length` if it was cut.
    pub finish_reason: &'static str,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerMessage {
    /// `assistant`.
    pub role: &'static str,
    /// The text, with the indexes of its sources in square brackets.
    pub content: String,
    /// Null.
    pub refusal: Option<()>,
    /// The sources the text names.
    pub citations: Vec<IndexedCitation>,
    /// 0 to 1, 3 decimal places.
    pub confidence: f64,
}

/// A source by the index that the text names it with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IndexedCitation {
    /// The index in square brackets.
    pub index: usize,
    /// The source.
    #[serde(flatten)]
    pub source: CitationView,
}

/// A piece of an answer that comes in pieces.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChunk {
    /// That of the answer.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// The writer of the answer.
    pub model: String,
    /// One piece; none beside the tokens used.
    pub choices: Vec<ChunkChoice>,
    /// Estimated tokens, in the last piece of those that are to end so; null before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<ChatUsage>>,
}

/// A piece of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChunkChoice {
    /// 0.
    pub index: usize,
    /// What is new.
    pub delta: Delta,
    /// Null.
    pub logprobs: Option<()>,
    /// `stop` or `length` in the last piece.
    pub finish_reason: Option<&'static str>,
}

/// What a piece adds to the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Delta {
    /// `assistant`, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The sources that the text has named, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citations: Option<Vec<IndexedCitation>>,
    /// With them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// Estimated tokens of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ChatUsage {
    /// Of all messages.
    pub prompt_tokens: usize,
    /// Of the answer.
    pub completion_tokens: usize,
    /// Of both.
    pub total_tokens: usize,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(text: &str) -> Value {
        json!({ "role": "user", "content": text })
    }

    fn read(messages: Value, more: Value) -> Checked<ChatRequest> {
        let mut body = json!({ "messages": messages });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ChatRequest::parse(&body)
    }

    #[test]
    fn the_last_message_of_the_user_is_the_question() {
        let parts =
            json!({ "role": "user", "content": [{ "type": "text", "text": " How\n often? " }] });
        let assistant = json!({ "role": "assistant", "content": null });
        let request = read(json!([user("Who?"), user("Where?"), assistant, parts]), json!({}));
        let request = request.expect("a request");
        assert_eq!(request.question, "How often?");
        assert_eq!(request.in_context.as_deref(), Some("Where? How often?"));
        let alone = read(json!([user("Who?")]), json!({ "model": "gpt-x", "temperature": 0.7 }));
        assert_eq!(alone.expect("a request").in_context, None);
        let long = "é".repeat(QUESTION_MAX);
        let full = read(json!([user("Who?"), user(&long)]), json!({})).expect("a request");
        assert_eq!((full.question, full.in_context), (long, None));
        let crowded = read(json!([user(&"é".repeat(990)), user(&"a".repeat(900))]), json!({}));
        let context = crowded.expect("a request").in_context.expect("a context");
        assert_eq!(context.chars().count(), QUESTION_MAX);
    }

    #[test]
    fn where_an_answer_is_cut_comes_in_several_shapes() {
        let bounds = |more| read(json!([user("Who?")]), more).expect("a request").bounds;
        assert_eq!(bounds(json!({ "stop": null })), Bounds::default());
        assert_eq!(bounds(json!({ "stop": "\n" })).stops, ["\n"]);
        let both =
            bounds(json!({ "stop": ["a", "b"], "max_tokens": 9, "max_completion_tokens": 2 }));
        assert_eq!(both, Bounds { stops: vec!["a".into(), "b".into()], max_chars: Some(8) });
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for more in [
            json!({ "n": 2 }),
            json!({ "stop": "" }),
            json!({ "stop": ["a", "b", "c", "d", "e"] }),
            json!({ "max_tokens": 0 }),
            json!({ "temperature": 3 }),
            json!({ "logprobs": true }),
            json!({ "tool_choice": "required" }),
            json!({ "response_format": { "type": "json_object" } }),
            json!({ "stream_options": { "include_usage": true } }),
            json!({ "max_results": 21 }),
        ] {
            assert!(read(json!([user("Who?")]), more.clone()).is_err(), "{more}");
        }
        let harmless = json!({ "n": 1, "logprobs": false, "tool_choice": "auto", "tools": [],
            "response_format": { "type": "text" }, "seed": 7, "user": "me", "top_p": 1 });
        read(json!([user("Who?")]), harmless).expect("harmless");
    }

    #[test]
    fn conversations_without_a_question_are_refused() {
        let image =
            json!({ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] });
        for bad in [
            json!([]),
            json!([{ "role": "system", "content": "Be kind." }]),
            json!([user(" \n")]),
            json!([user(&"a".repeat(QUESTION_MAX + 1))]),
            json!([image]),
            json!([{ "content": "Who?" }]),
            json!([{ "role": "robot", "content": "Who?" }]),
            json!("Who?"),
        ] {
            assert!(read(bad.clone(), json!({})).is_err(), "{bad}");
        }
        assert!(ChatRequest::parse(&json!({})).is_err());
    }
}
