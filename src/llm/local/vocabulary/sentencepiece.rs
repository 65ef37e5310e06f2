//! Vocabularies with scores, as Llama 2, Phi-3 and Gemma have: characters are joined to the token
//! with the highest score, over and over ("SentencePiece", 2018, in its BPE mode).

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::{BYTE, CONTROL, GgufError, UNKNOWN};

pub(super) struct SentencePiece {
    ids: HashMap<String, u32>,
    scores: Vec<f32>,
    /// The tokens of the 256 bytes, for characters that have none.
    bytes: Vec<Option<u32>>,
    /// Texts begin with a space that is not there.
    prefix: bool,
    unknown: u32,
}

/// The byte that a token `<0x0A>` stands for.
pub(super) fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

impl SentencePiece {
    pub(super) fn new(
        tokens: &[String],
        scores: &[f32],
        kind: impl Fn(usize) -> i64,
        prefix: bool,
        unknown: u32,
    ) -> Result<Self, GgufError> {
        if scores.len() != tokens.len() {
            let (tokens, scores) = (tokens.len(), scores.len());
            let reason = format!("its vocabulary has {tokens} tokens and {scores} scores");
            return Err(GgufError::Damaged(reason));
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        let mut bytes = vec![None; 256];
        for (id, token) in tokens.iter().enumerate() {
            match kind(id) {
                CONTROL | UNKNOWN => {}
                BYTE => {
                    if let Some(byte) = byte(token) {
                        bytes[usize::from(byte)] = Some(id as u32);
                    }
                }
                _ => {
                    ids.entry(token.clone()).or_insert(id as u32);
                }
            }
        }
        Ok(Self { ids, scores: scores.to_vec(), bytes, prefix, unknown })
    }

    /// Appends the tokens of `text`, which begins the whole text if `first`.
    pub(super) fn encode(&self, text: &str, first: bool, tokens: &mut Vec<u32>) {
        let mut text = text.replace(' ', "\u{2581}");
        if first && self.prefix {
            text.insert(0, '\u{2581}');
        }
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (at, letter) in text.char_indices() {
            let i = symbols.len();
            let len = letter.len_utf8();
            symbols.push(Symbol { at, len, before: i.checked_sub(1), after: Some(i + 1) });
        }
        if let Some(last) = symbols.last_mut() {
            last.after = None;
        }
        let mut joints = BinaryHeap::new();
        for i in 1..symbols.len() {
            joints.extend(self.joint(&text, &symbols, i - 1, i));
        }
        while let Some(Joint { left, right, len, .. }) = joints.pop() {
            // One of the two was joined with another one meanwhile.
            if symbols[left].len == 0
                || symbols[right].len == 0
                || symbols[left].len + symbols[right].len != len
            {
                continue;
            }
            symbols[left].len = len;
            symbols[right].len = 0;
            let after = symbols[right].after;
            symbols[left].after = after;
            if let Some(after) = after {
                symbols[after].before = Some(left);
                joints.extend(self.joint(&text, &symbols, left, after));
            }
            if let Some(before) = symbols[left].before {
                joints.extend(self.joint(&text, &symbols, before, left));
            }
        }
        for Symbol { at, len, .. } in symbols.into_iter().filter(|symbol| symbol.len > 0) {
            let piece = &text[at..at + len];
            match self.ids.get(piece) {
                Some(id) => tokens.push(*id),
                None => {
                    let of_byte = |byte: u8| self.bytes[usize::from(byte)].unwrap_or(self.unknown);
                    tokens.extend(piece.bytes().map(of_byte));
                }
            }
        }
    }

    /// The joint of two neighbours, if they make a token.
    fn joint(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Joint> {
        let (Symbol { at, len, .. }, right_len) = (&symbols[left], symbols[right].len);
        let len = len + right_len;
        let id = *self.ids.get(&text[*at..at + len])?;
        let score = self.scores.get(id as usize).copied()?;
        Some(Joint { score, left, right, len })
    }
}

/// A run of characters, between its neighbours; empty once it is part of the one before.
struct Symbol {
    at: usize,
    len: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// Two neighbours that make a token.
struct Joint {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both.
    len: usize,
}

impl Ord for Joint {
    /// The highest score comes first, among equals the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Joint {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Joint {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Joint {}
