//! From text to tokens and back, by the vocabulary in the model file.

mod bytes;
mod pieces;
mod sentencepiece;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::gguf::{GgufError, Metadata};
pub use pieces::Pieces;
use sentencepiece::SentencePiece;

/// Most tokens; the largest vocabularies have a quarter of a million.
const TOKENS_MAX: usize = 1 << 20;

/// Tokens that end an answer, whatever the file says of them.
const ENDS: [&str; 9] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<eos>",
    "</s>",
];

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// A vocabulary.
pub struct Vocabulary {
    method: Method,
    /// What each token says, in bytes; nothing for tokens that only control.
    spoken: Vec<Vec<u8>>,
    /// Tokens that a template names, by their text.
    special: HashMap<String, u32>,
    /// The lengths of their texts, in bytes, the longest first.
    special_lengths: Vec<usize>,
    /// Tokens that end an answer.
    ends: HashSet<u32>,
    /// Begins every text, if the model wants it.
    begin: Option<u32>,
    /// The texts of the tokens that begin and end a text, for templates.
    marks: [String; 2],
}

enum Method {
    Bpe(Box<Tokenizer>),
    SentencePiece(SentencePiece),
}

impl Vocabulary {
    /// Reads the vocabulary.
    ///
    /// # Errors
    ///
    /// When it is missing, contradicts itself, or is of an unknown kind.
    pub fn read(metadata: &Metadata) -> Result<Self, GgufError> {
        let tokens = metadata
            .texts("tokenizer.ggml.tokens")
            .filter(|tokens| !tokens.is_empty() && tokens.len() <= TOKENS_MAX)
            .ok_or_else(|| GgufError::damaged("it has no vocabulary"))?;
        let kinds = metadata.integers("tokenizer.ggml.token_type").unwrap_or_default();
        let kind = |id: usize| kinds.get(id).copied().unwrap_or(1);
        let id = |name: &str| {
            let id = metadata.unsigned(&format!("tokenizer.ggml.{name}_token_id"))?;
            u32::try_from(id).ok().filter(|id| (*id as usize) < tokens.len())
        };
        let name = metadata.text("tokenizer.ggml.model").unwrap_or_default();
        let (method, byte_level, begins) = match name {
            "gpt2" => (Method::Bpe(Box::new(bpe(metadata, tokens)?)), true, false),
            "llama" => {
                let scores = metadata.floats("tokenizer.ggml.scores").unwrap_or_default();
                let prefix = metadata.boolean("tokenizer.ggml.add_space_prefix").unwrap_or(true);
                let unknown = id("unknown").unwrap_or(0);
                let method = SentencePiece::new(tokens, scores, kind, prefix, unknown)?;
                (Method::SentencePiece(method), false, true)
            }
            name => {
                return Err(GgufError::Unsupported(format!(
                    "its vocabulary is of the kind {name:.40?}; gpt2 and llama are supported"
                )));
            }
        };
        let spoken = tokens.iter().enumerate().map(|(id, token)| match kind(id) {
            CONTROL | UNKNOWN => Vec::new(),
            BYTE => sentencepiece::byte(token).map_or(Vec::new(), |byte| vec![byte]),
            USER_DEFINED => token.replace('\u{2581}', " ").into_bytes(),
            _ if byte_level => bytes::spoken(token),
            _ => token.replace('\u{2581}', " ").into_bytes(),
        });
        let special: HashMap<String, u32> = tokens
            .iter()
            .enumerate()
            .filter(|(id, token)| matches!(kind(*id), CONTROL | USER_DEFINED) && !token.is_empty())
            .map(|(id, token)| (token.clone(), id as u32))
            .collect();
        let lengths: HashSet<usize> = special.keys().map(String::len).collect();
        let mut special_lengths: Vec<usize> = lengths.into_iter().collect();
        special_lengths.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        let mut ends: HashSet<u32> = ["eos", "eot", "eom"].into_iter().filter_map(id).collect();
        ends.extend(ENDS.iter().filter_map(|end| special.get(*end)));
        let begins = metadata.boolean("tokenizer.ggml.add_bos_token").unwrap_or(begins);
        let text = |id: Option<u32>| id.map_or(String::new(), |id| tokens[id as usize].clone());
        Ok(Self {
            method,
            spoken: spoken.collect(),
            special,
            special_lengths,
            ends,
            begin: id("bos").filter(|_| begins),
            marks: [text(id("bos")), text(id("eos"))],
        })
    }

    /// How many tokens there are; ids are below.
    pub fn n_tokens(&self) -> usize {
        self.spoken.len()
    }

    /// Whether `token` ends an answer.
    pub fn ends(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Whether there is a token that templates can name `text`.
    pub fn has_special(&self, text: &str) -> bool {
        self.special.contains_key(text)
    }

    /// The texts of the tokens that begin and end a text; empty where there is none.
    pub fn marks(&self) -> [&str; 2] {
        [&self.marks[0], &self.marks[1]]
    }

    /// The bytes that `token` stands for; they may be part of a character.
    pub fn spoken(&self, token: u32) -> &[u8] {
        self.spoken.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// The tokens of a text of several pieces, behind the one that begins texts. Only in pieces
    /// of a template names of special tokens mean these tokens.
    pub fn encode(&self, pieces: &Pieces) -> Vec<u32> {
        let mut tokens = Vec::new();
        // Literal text on both sides of a piece boundary is one text to the model.
        let mut plain = String::new();
        for (text, of_template) in pieces.iter() {
            if !of_template {
                plain.push_str(text);
                continue;
            }
            let mut rest = text;
            while let Some((before, token, after)) = self.next_special(rest) {
                plain.push_str(before);
                self.encode_plain(&mut plain, &mut tokens);
                tokens.push(token);
                rest = after;
            }
            plain.push_str(rest);
        }
        self.encode_plain(&mut plain, &mut tokens);
        // Most templates write it themselves.
        if let Some(begin) = self.begin.filter(|begin| tokens.first() != Some(begin)) {
            tokens.insert(0, begin);
        }
        tokens
    }

    /// The text before the first special token, the token, and the text after it.
    fn next_special<'a>(&self, text: &'a str) -> Option<(&'a str, u32, &'a str)> {
        text.char_indices().find_map(|(at, _)| {
            self.special_lengths.iter().find_map(|length| {
                let name = text.get(at..at + length)?;
                let token = self.special.get(name)?;
                Some((&text[..at], *token, &text[at + length..]))
            })
        })
    }

    /// Appends the tokens of `plain`, and empties it.
    fn encode_plain(&self, plain: &mut String, tokens: &mut Vec<u32>) {
        if plain.is_empty() {
            return;
        }
        match &self.method {
            // Fails for no text: a vocabulary without a byte leaves that byte out.
            Method::Bpe(tokenizer) => {
                if let Ok(encoding) = tokenizer.encode_fast(plain.as_str(), false) {
                    tokens.extend_from_slice(encoding.get_ids());
                }
            }
            Method::SentencePiece(method) => method.encode(plain, tokens.is_empty(), tokens),
        }
        plain.clear();
    }
}

/// Splits of text before pairs of bytes are merged; see `tokenizer.ggml.pre`.
const SPLIT_LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SPLIT_QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn bpe(metadata: &Metadata, tokens: &[String]) -> Result<Tokenizer, GgufError> {
    let merges = metadata
        .texts("tokenizer.ggml.merges")
        .ok_or_else(|| GgufError::damaged("its vocabulary has no merges"))?;
    let pair = |merge: &String| {
        // A space ends the first half; both halves may not be empty.
        let (a, b) = merge.split_once(' ').filter(|(a, b)| !a.is_empty() && !b.is_empty())?;
        Some((a.to_owned(), b.to_owned()))
    };
    let merges: Option<Vec<(String, String)>> = merges.iter().map(pair).collect();
    let merges = merges.ok_or_else(|| GgufError::damaged("a merge is no pair"))?;
    let vocabulary = tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32));
    let pre = metadata.text("tokenizer.ggml.pre").unwrap_or("default");
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.collect::<tokenizers::models::bpe::Vocab>(), merges)
        .ignore_merges(pre == "llama-bpe")
        .build()
        .map_err(|error| GgufError::Damaged(format!("its vocabulary: {error}")))?;
    let mut tokenizer = Tokenizer::new(model);
    let split = |pattern: &str| -> Result<PreTokenizerWrapper, GgufError> {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| GgufError::Unsupported(error.to_string()))?;
        Ok(Sequence::new(vec![split.into(), ByteLevel::new(false, false, false).into()]).into())
    };
    // GPT-2's own split, which is also what models of unnamed kinds have.
    let gpt2 = ByteLevel::new(false, false, true);
    let before: PreTokenizerWrapper = match pre {
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" => split(SPLIT_LLAMA3)?,
        "qwen2" | "deepseek-r1-qwen" => split(SPLIT_QWEN2)?,
        "smollm" | "starcoder" | "refact" | "command-r" => {
            Sequence::new(vec![Digits::new(true).into(), gpt2.into()]).into()
        }
        _ => gpt2.into(),
    };
    tokenizer.with_pre_tokenizer(Some(before));
    if pre == "qwen2" {
        tokenizer
            .with_normalizer(Some(NFC))
            .map_err(|error| GgufError::Unsupported(error.to_string()))?;
    }
    Ok(tokenizer)
}
