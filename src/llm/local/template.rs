//! Chat templates: how a model expects a conversation to be written down.
//!
//! A file brings its own, in Jinja. What the messages say is put in only after the template has
//! run, in place of marks: so a message that names a special token is not taken for that token,
//! and no message can upset the template.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::gguf::{GgufError, Metadata};
use super::vocabulary::{Pieces, Vocabulary};
use crate::llm::prompt::Prompt;

/// Steps a template may take; real ones take some hundred.
const FUEL: u64 = 100_000;

/// Private-use letters around the number of a message.
const MARK: [char; 2] = ['\u{f8f0}', '\u{f8f1}'];

const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant{{ '\\n' }}";
const LLAMA3: &str = "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{{ message.content }}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>{{ '\\n\\n' }}";
const GEMMA: &str = "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}<start_of_turn>user\n{{ message.content }}<end_of_turn>\n{% endfor %}<start_of_turn>model{{ '\\n' }}";
const PHI3: &str = "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}<|assistant|>{{ '\\n' }}";
const LLAMA2: &str = "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}[INST] {{ message.content }} [/INST]{% endfor %}";
const PLAIN: &str = "{% for message in messages %}{{ message.content }}\n\n{% endfor %}";

/// Which token gives away how a model was taught to converse, for files without a template.
const FALLBACKS: [(&str, &str); 4] = [
    ("<|im_start|>", CHATML),
    ("<|start_header_id|>", LLAMA3),
    ("<start_of_turn>", GEMMA),
    ("<|end|>", PHI3),
];

/// The template of a model.
pub struct Template {
    environment: Environment<'static>,
    marks: [String; 2],
}

impl Template {
    /// The template of the file, or the one that fits its vocabulary.
    ///
    /// # Errors
    ///
    /// When it is no Jinja, or cannot write down a question.
    pub fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, GgufError> {
        let source = match metadata.text("tokenizer.chat_template") {
            Some(source) => source,
            None => fallback(metadata, vocabulary),
        };
        let refused =
            |error: Error| GgufError::Damaged(format!("its chat template cannot be used: {error}"));
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(refused)?);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        });
        // Templates tell the date with it; an answer is from its sources and has none.
        environment.add_function("strftime_now", |_: String| String::new());
        environment.add_template_owned("chat", source.to_owned()).map_err(refused)?;
        let template = Self { environment, marks: vocabulary.marks().map(str::to_owned) };
        template.render(&Prompt { system: "rules".to_owned(), user: "question".to_owned() })?;
        Ok(template)
    }

    /// Writes down `prompt` up to the place where the answer begins. Where the template knows no
    /// system role, the rules begin the question.
    ///
    /// # Errors
    ///
    /// When the template fails, or leaves a message out.
    pub fn render(&self, prompt: &Prompt) -> Result<Pieces, GgufError> {
        let Prompt { system, user } = prompt;
        match self.attempt(&[("system", system), ("user", user)]) {
            Err(_) => self.attempt(&[("user", &format!("{system}\n\n{user}"))]),
            written => written,
        }
    }

    /// Writes down messages, each a role and what is said.
    fn attempt(&self, messages: &[(&str, &str)]) -> Result<Pieces, GgufError> {
        let failed =
            |error: Error| GgufError::Damaged(format!("its chat template failed: {error}"));
        let marked = |(number, (role, _)): (usize, &(&str, &str))| {
            let content = format!("{}{number}{}", MARK[0], MARK[1]);
            context! { role => *role, content }
        };
        let marked: Vec<Value> = messages.iter().enumerate().map(marked).collect();
        let [bos_token, eos_token] = &self.marks;
        let template = self.environment.get_template("chat").map_err(failed)?;
        let written = template.render(context! {
            messages => marked,
            bos_token,
            eos_token,
            add_generation_prompt => true,
            // Models that think aloud do so for longer than an answer may be.
            enable_thinking => false,
        });
        let written = written.map_err(failed)?;
        let mut pieces = Pieces::default();
        let mut said = vec![false; messages.len()];
        let mut parts = written.split(MARK[0]);
        pieces.template(parts.next().unwrap_or_default());
        for part in parts {
            let found = part.split_once(MARK[1]).and_then(|(number, rest)| {
                let number = number.parse::<usize>().ok()?;
                (number < messages.len()).then_some((number, rest))
            });
            let Some((number, rest)) = found else {
                return Err(GgufError::damaged("its chat template cuts messages"));
            };
            said[number] = true;
            pieces.said(messages[number].1);
            pieces.template(rest);
        }
        if said.contains(&false) {
            return Err(GgufError::damaged("its chat template leaves a message out"));
        }
        Ok(pieces)
    }
}

fn fallback(metadata: &Metadata, vocabulary: &Vocabulary) -> &'static str {
    let found = FALLBACKS.iter().find(|(token, _)| vocabulary.has_special(token));
    match (found, metadata.text("general.architecture")) {
        (Some((_, template)), _) => template,
        (None, Some("llama")) => LLAMA2,
        (None, _) => PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::GgmlDType;

    use super::super::gguf::{Header, Value as Entry};
    use super::super::sample::Sample;
    use super::*;

    fn template(source: Option<&str>, special: &str) -> Result<Template, GgufError> {
        let mut sample = Sample::model("qwen2", GgmlDType::Q8_0);
        sample.entries.retain(|(name, _)| name != "tokenizer.chat_template");
        if let Some(source) = source {
            sample.entry("tokenizer.chat_template", Entry::Text(source.to_owned()));
        }
        for (name, value) in &mut sample.entries {
            if let (true, Entry::Texts(tokens)) = (name.as_str() == "tokenizer.ggml.tokens", value)
            {
                tokens[3] = special.to_owned();
            }
        }
        let bytes = sample.bytes();
        let metadata = Header::read(&bytes[..], bytes.len() as u64)?.metadata;
        Template::read(&metadata, &Vocabulary::read(&metadata)?)
    }

    fn written(template: &Template) -> String {
        let prompt = Prompt { system: "Be {{ brief }}.".to_owned(), user: "Why?".to_owned() };
        template.render(&prompt).unwrap().iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn a_file_brings_its_own() {
        let source = "{%- for message in messages %}\n{{- '<|' + message['role'].strip() + '|>' + message['content'] | trim + '<|end|>\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
        let template = template(Some(source), "<|end|>").unwrap();
        assert_eq!(
            written(&template),
            "<|system|>Be {{ brief }}.<|end|>\n<|user|>Why?<|end|>\n<|assistant|>"
        );
    }

    #[test]
    fn what_is_said_is_not_of_the_template() {
        let template = template(None, "<|im_start|>").unwrap();
        let prompt = Prompt { system: "a<|im_end|>".to_owned(), user: "b".to_owned() };
        let pieces = template.render(&prompt).unwrap();
        let said: Vec<_> = pieces.iter().filter(|(_, of_template)| !of_template).collect();
        assert_eq!(said, [("a<|im_end|>", false), ("b", false)]);
    }

    #[test]
    fn without_one_the_vocabulary_tells_the_habit() {
        let of = |special: &str| written(&template(None, special).unwrap());
        assert_eq!(
            of("<|im_start|>"),
            "<|im_start|>system\nBe {{ brief }}.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(
            of("<start_of_turn>"),
            "<s><start_of_turn>user\nBe {{ brief }}.\n\nWhy?<end_of_turn>\n<start_of_turn>model\n"
        );
        assert_eq!(
            of("<|end|>"),
            "<|system|>\nBe {{ brief }}.<|end|>\n<|user|>\nWhy?<|end|>\n<|assistant|>\n"
        );
        assert!(
            of("<|start_header_id|>")
                .ends_with("<|start_header_id|>assistant<|end_header_id|>\n\n")
        );
        assert_eq!(of("nothing"), "Be {{ brief }}.\n\nWhy?\n\n");
    }

    #[test]
    fn a_template_that_cannot_be_used_is_refused() {
        let refused = |source: &str| template(Some(source), "x").err().unwrap().to_string();
        assert!(refused("{% for %}").contains("template"));
        assert!(refused("nothing said").contains("leaves a message out"));
        assert!(refused("{{ messages[0].content[1:] }}").contains("leaves a message out"));
        assert!(refused("{{ messages[0].content[:2] }}").contains("cuts"));
        assert!(refused("{{ raise_exception('never') }}").contains("never"));
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
        assert!(refused(endless).contains("fuel"), "{}", refused(endless));
        assert!(refused("{{ messages | missing_filter }}").contains("template"));
    }
}
