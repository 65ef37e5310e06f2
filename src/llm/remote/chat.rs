//! The protocol: what is sent, and what the events of an answer mean.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::llm::prompt::{Prompt, STOPS};
use crate::upstream::{Failure, code_in};

/// How freely a model picks its words: hardly, so that it keeps to its sources.
const TEMPERATURE: f64 = 0.1;

/// A request for an answer.
#[derive(Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    messages: [Message<'a>; 2],
    temperature: f64,
    max_tokens: u32,
    stop: [&'static str; 4],
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    /// The last event tells how many tokens were read and written.
    include_usage: bool,
}

impl<'a> Request<'a> {
    /// Asks `model` for at most `max_tokens` tokens.
    pub(super) fn new(model: &'a str, prompt: &'a Prompt, max_tokens: u32) -> Self {
        let Prompt { system, user } = prompt;
        Self {
            model,
            messages: [
                Message { role: "system", content: system },
                Message { role: "user", content: user },
            ],
            temperature: TEMPERATURE,
            max_tokens,
            stop: STOPS,
            stream: true,
            stream_options: StreamOptions { include_usage: true },
        }
    }
}

/// An event, or a whole answer, as far as it is of use. Everything may be missing.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    /// Where Groq puts the usage.
    x_groq: Option<Groq>,
}

#[derive(Deserialize)]
struct Choice {
    /// In events.
    delta: Option<Content>,
    /// In whole answers.
    message: Option<Content>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Groq {
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// What is known of an answer while it comes.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The service gave a reason why it ended: it is complete, though more may be said of it.
    finished: bool,
    over: bool,
    usage: Option<Usage>,
}

impl Answer {
    /// Reads the data of an event; the text in it, if there is any.
    pub(super) fn read(&mut self, event: &str) -> Result<Option<String>, Failure> {
        let event = event.trim();
        if self.over || event.is_empty() {
            return Ok(None);
        }
        if event == "[DONE]" {
            self.over = true;
            return Ok(None);
        }
        let no_sense = || Failure::NoSense("an event is no part of an answer".to_owned());
        let event: Value = serde_json::from_str(event).map_err(|_| no_sense())?;
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Failure::Reported(code_in(&event)));
        }
        let chunk: Chunk = serde_json::from_value(event).map_err(|_| no_sense())?;
        let Chunk { choices, usage, x_groq } = chunk;
        self.usage = usage.or(x_groq.and_then(|groq| groq.usage)).or(self.usage);
        let Some(Choice { delta, message, finish_reason }) = choices.into_iter().next() else {
            return Ok(None);
        };
        match finish_reason.as_deref() {
            Some("content_filter") => return Err(Failure::Withheld),
            Some(_) => self.finished = true,
            None => {}
        }
        let content = delta.or(message).and_then(|content| content.content);
        Ok(content.filter(|text| !text.is_empty()))
    }

    /// Nothing more comes.
    pub(super) fn ended(&mut self) {
        self.over |= self.finished;
    }

    /// Whether the answer is complete.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Tokens read and written, as the service counts them; 0 where it does not say.
    pub(super) fn tokens(&self) -> (u64, u64) {
        self.usage.map_or((0, 0), |usage| (usage.prompt_tokens, usage.completion_tokens))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event(value: Value) -> String {
        value.to_string()
    }

    #[test]
    fn a_request_asks_for_a_stream_with_usage() {
        let prompt = Prompt { system: "rules".to_owned(), user: "sources".to_owned() };
        let request = serde_json::to_value(Request::new("m", &prompt, 192)).unwrap();
        let expected = json!({
            "model": "m",
            "messages": [{"role": "system", "content": "rules"}, {"role": "user", "content": "sources"}],
            "temperature": 0.1,
            "max_tokens": 192,
            "stop": ["\n\n\n", "\n---", "\nNote:", "\nDisclaimer:"],
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        assert_eq!(request, expected);
    }

    #[test]
    fn text_usage_and_the_end_are_found() {
        let mut answer = Answer::default();
        let role = json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]});
        assert_eq!(answer.read(&event(role)).unwrap(), None);
        let text = json!({"choices": [{"delta": {"content": "Kit"}, "finish_reason": null}]});
        assert_eq!(answer.read(&event(text)).unwrap().as_deref(), Some("Kit"));
        let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
        assert_eq!(answer.read(&event(end)).unwrap(), None);
        assert!(!answer.is_over(), "usage may follow");
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 90, "completion_tokens": 7}});
        assert_eq!(answer.read(&event(usage)).unwrap(), None);
        assert_eq!(answer.read(" [DONE] ").unwrap(), None);
        assert!(answer.is_over());
        assert_eq!(answer.tokens(), (90, 7));
        assert_eq!(answer.read("garbage").unwrap(), None, "nothing after the end counts");

        let mut groq = Answer::default();
        let end = json!({"choices": [{"delta": {}, "finish_reason": "length"}],
                         "x_groq": {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}});
        groq.read(&event(end)).unwrap();
        groq.ended();
        assert_eq!((groq.is_over(), groq.tokens()), (true, (5, 2)));
    }

    #[test]
    fn a_whole_answer_is_read_like_an_event() {
        let mut answer = Answer::default();
        let whole = json!({"choices": [{"message": {"content": "All [0]."}, "finish_reason": "stop"}], "error": null});
        assert_eq!(answer.read(&event(whole)).unwrap().as_deref(), Some("All [0]."));
        answer.ended();
        assert!(answer.is_over());
    }

    #[test]
    fn errors_and_nonsense_are_told_apart() {
        let read = |value: Value| Answer::default().read(&event(value)).unwrap_err();
        let error = json!({"error": {"message": "secret", "type": "server_error"}});
        assert!(matches!(read(error), Failure::Reported(Some(code)) if code == "server_error"));
        let filtered = json!({"choices": [{"delta": {}, "finish_reason": "content_filter"}]});
        assert!(matches!(read(filtered), Failure::Withheld));
        for nonsense in [json!([1]), json!({"choices": 7}), json!("text")] {
            assert!(matches!(read(nonsense), Failure::NoSense(_)));
        }
        assert!(matches!(Answer::default().read("<html>"), Err(Failure::NoSense(_))));
        let mut early = Answer::default();
        early.read(&event(json!({"choices": [{"delta": {"content": "Half"}}]}))).unwrap();
        early.ended();
        assert!(!early.is_over(), "no reason to end was given");
    }

    proptest! {
        #[test]
        fn any_event_will_do(event in ".{0,60}") {
            let _ = Answer::default().read(&event);
        }
    }
}
