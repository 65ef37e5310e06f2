//! Answers made of the sources' own sentences.

use std::cmp::Ordering;
use std::collections::HashSet;

use activekg_index::text::terms;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};

use super::{AnswerWriter, CANNOT_TELL, LlmError, Snippet, sentences};
use crate::embedding::{Embedder, cosine};

/// Bytes of a source that are read: the whole of anything but a book.
const SOURCE_MAX: usize = 32 * 1024;
/// Sentences compared by meaning, which costs a few milliseconds each; those that share most
/// words with the question, and the first of the best sources.
const COMPARED_MAX: usize = 12;
/// Longest quotation, in characters; the rest of a longer sentence is cut off.
const QUOTE_MAX: usize = 320;
/// Sentences in an answer.
const SENTENCES_MAX: usize = 3;
/// A sentence that is neither this close in meaning nor has this share of the question's words
/// is no answer.
const COSINE_MIN: f32 = 0.3;
const SHARE_MIN: f32 = 0.6;
/// Further sentences must be nearly as good as the best one.
const NEARLY: f32 = 0.8;
/// Sentences closer than this say the same.
const SAME: f32 = 0.93;

/// Picks the sentences that come closest to the question by meaning and by words. The same
/// question and sources give the same answer.
#[derive(Clone)]
pub struct Extractive {
    embedder: Embedder,
}

impl Extractive {
    /// A writer that compares by the vectors of `embedder`. While that is overloaded it goes by
    /// words alone.
    pub fn new(embedder: Embedder) -> Self {
        Self { embedder }
    }

    async fn answer(
        self,
        question: String,
        snippets: Vec<Snippet>,
    ) -> Result<Vec<String>, LlmError> {
        let asked = question.clone();
        let choosing = tokio::task::spawn_blocking(move || by_words(&asked, &snippets));
        let mut sentences = choosing.await.map_err(|_| LlmError::Interrupted)?;
        self.compare(&question, &mut sentences).await;
        Ok(compose(sentences))
    }

    /// Scores the sentences by meaning, as far as the embedder has room.
    async fn compare(&self, question: &str, sentences: &mut [Sentence]) {
        let Ok(asked) = self.embedder.query(question).await else {
            return;
        };
        let vectors = join_all(sentences.iter().map(|s| self.embedder.query(&s.text))).await;
        for (sentence, vector) in sentences.iter_mut().zip(vectors) {
            if let Ok(vector) = vector {
                sentence.cosine = Some(cosine(&asked, &vector));
                sentence.vector = vector.to_vec();
            }
        }
    }
}

impl AnswerWriter for Extractive {
    fn name(&self) -> &'static str {
        "extractive"
    }

    fn write(
        &self,
        question: &str,
        snippets: Vec<Snippet>,
    ) -> BoxStream<'static, Result<String, LlmError>> {
        let answer = self.clone().answer(question.to_owned(), snippets);
        stream::once(answer)
            .flat_map(|answer| match answer {
                Ok(pieces) => stream::iter(pieces.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            })
            .boxed()
    }
}

/// A sentence that may be quoted.
#[derive(Debug, Clone)]
struct Sentence {
    text: String,
    /// The index of its source.
    index: usize,
    /// Its place among all sentences, best source first.
    place: usize,
    /// Share of the question's words that it has, the rare ones counting more; 0 to 1.
    share: f32,
    /// The same of its source as a whole: a sentence need not repeat its subject.
    source_share: f32,
    cosine: Option<f32>,
    vector: Vec<f32>,
}

impl Sentence {
    fn answers(&self) -> bool {
        self.share >= SHARE_MIN || self.cosine.is_some_and(|cosine| cosine >= COSINE_MIN)
    }

    /// Meaning counts about as much as words; the place decides between equals only.
    fn score(&self) -> f32 {
        let words = 0.7 * self.share + 0.3 * self.source_share;
        let both = self.cosine.map_or(words, |cosine| 0.6 * cosine.max(0.0) + 0.4 * words);
        both - 0.001 * self.place.min(50) as f32
    }
}

/// Falling score, then place.
fn best_first(a: &Sentence, b: &Sentence) -> Ordering {
    b.score().total_cmp(&a.score()).then(a.place.cmp(&b.place))
}

/// The sentences of the sources that are worth comparing by meaning, scored by words.
fn by_words(question: &str, snippets: &[Snippet]) -> Vec<Sentence> {
    let asked: HashSet<String> = terms(question).into_iter().collect();
    let mut found: Vec<(Sentence, HashSet<String>)> = Vec::new();
    let mut sources = Vec::with_capacity(snippets.len());
    let mut seen = HashSet::new();
    for snippet in snippets {
        let mut of_source = HashSet::new();
        for text in sentences::split(cut_bytes(&snippet.text, SOURCE_MAX)) {
            let text = quotation(text);
            let mut shared: HashSet<String> = terms(&text).into_iter().collect();
            shared.retain(|term| asked.contains(term));
            of_source.extend(shared.iter().cloned());
            // A sentence that repeats an earlier one, or the question, tells nothing new.
            if text.ends_with('?') || !seen.insert(text.to_lowercase()) {
                continue;
            }
            let place = found.len();
            let sentence = Sentence {
                text,
                index: snippet.index,
                place,
                share: 0.0,
                source_share: 0.0,
                cosine: None,
                vector: Vec::new(),
            };
            found.push((sentence, shared));
        }
        sources.push((snippet.index, of_source));
    }
    // Rare words tell sentences apart: ln(1 + all / having).
    let weights: Vec<(&String, f32)> = asked
        .iter()
        .map(|term| {
            let having = found.iter().filter(|(_, shared)| shared.contains(term)).count();
            (term, (1.0 + found.len() as f32 / having.max(1) as f32).ln())
        })
        .collect();
    let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
    let share = |shared: &HashSet<String>| {
        let sum: f32 =
            weights.iter().filter(|(term, _)| shared.contains(*term)).map(|(_, w)| w).sum();
        if total > 0.0 { sum / total } else { 0.0 }
    };
    let mut scored: Vec<Sentence> = found
        .iter()
        .map(|(sentence, shared)| {
            let source = sources.iter().find(|(index, _)| *index == sentence.index);
            let source_share = source.map_or(0.0, |(_, shared)| share(shared));
            Sentence { share: share(shared), source_share, ..sentence.clone() }
        })
        .collect();
    scored.sort_by(best_first);
    scored.truncate(COMPARED_MAX);
    scored
}

/// The pieces of the answer: a quotation with its citation each.
fn compose(mut sentences: Vec<Sentence>) -> Vec<String> {
    sentences.retain(Sentence::answers);
    sentences.sort_by(best_first);
    let Some(best) = sentences.first().map(Sentence::score) else {
        return vec![CANNOT_TELL.to_owned()];
    };
    let mut chosen: Vec<Sentence> = Vec::new();
    for sentence in sentences {
        if chosen.len() == SENTENCES_MAX || sentence.score() < NEARLY * best {
            break;
        }
        let said = |earlier: &Sentence| {
            !sentence.vector.is_empty() && cosine(&earlier.vector, &sentence.vector) > SAME
        };
        if !chosen.iter().any(said) {
            chosen.push(sentence);
        }
    }
    // The best one opens the answer; what follows reads in the order of the sources.
    chosen[1..].sort_by_key(|sentence| sentence.place);
    let mut pieces: Vec<String> = chosen.iter().map(cited).collect();
    for piece in pieces.iter_mut().skip(1) {
        piece.insert(0, ' ');
    }
    pieces
}

/// `Text [0].`: the citation goes before the full stop.
fn cited(sentence: &Sentence) -> String {
    let Sentence { text, index, .. } = sentence;
    match text.strip_suffix(['.', '!', '。', '！']).map(|body| (body, &text[body.len()..])) {
        Some((body, mark)) => format!("{} [{index}]{mark}", body.trim_end()),
        None if text.ends_with('…') => format!("{text} [{index}]"),
        None => format!("{text} [{index}]."),
    }
}

/// A sentence as it is quoted: in one line, without the mark of a list item or heading, not too
/// long, and with other texts' references such as `[7]` turned to `(7)`, which nobody can take
/// for a citation of the answer's own.
fn quotation(sentence: &str) -> String {
    let words: Vec<&str> = sentence
        .trim_start_matches(['-', '*', '•', '–', '·', '#', '>', '|', '+', ' '])
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let text = words.join(" ").replace('[', "(").replace(']', ")");
    match text.char_indices().nth(QUOTE_MAX) {
        None => text,
        Some((end, _)) => {
            let head = &text[..end];
            let end = head.rfind(' ').filter(|&space| space > end / 2).unwrap_or(end);
            format!("{}…", head[..end].trim_end_matches([',', ';', ':', ' ']))
        }
    }
}

/// The first `max` bytes of `text`, or a little less so as not to cut a character.
fn cut_bytes(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::embedding::{EmbedderOptions, Encoder, Precision};

    fn snippets(texts: &[&str]) -> Vec<Snippet> {
        let numbered = texts.iter().enumerate();
        numbered
            .map(|(index, text)| Snippet { index, text: (*text).to_owned(), ..Snippet::default() })
            .collect()
    }

    fn writer() -> Extractive {
        let encoder = Encoder::built_in(Precision::F32).unwrap();
        Extractive::new(Embedder::start(encoder, EmbedderOptions::default()).unwrap())
    }

    async fn ask(writer: &Extractive, question: &str, texts: &[&str]) -> String {
        let pieces: Vec<_> = writer.write(question, snippets(texts)).collect().await;
        pieces.into_iter().map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn answers_quote_what_fits_and_cite_it() {
        let writer = writer();
        let france = "France is a country in western Europe. Its capital is Paris. Population: 68 \
                      million. Major exports are aircraft, wine and medicines.";
        let belgium = "Belgium borders France. Its capital is Brussels. Chocolate is popular.";
        let answer = ask(&writer, "What is the capital of France?", &[france, belgium]).await;
        assert!(answer.starts_with("Its capital is Paris [0]."), "{answer}");
        let answer = ask(&writer, "What does France export?", &[france, belgium]).await;
        assert!(
            answer.starts_with("Major exports are aircraft, wine and medicines [0]."),
            "{answer}"
        );
        // By meaning alone: no word of the question is in the sentence.
        let answer = ask(&writer, "How many people live there?", &[france]).await;
        assert!(answer.contains("Population: 68 million [0]."), "{answer}");
    }

    #[tokio::test]
    async fn the_second_source_is_cited_by_its_own_index() {
        let writer = writer();
        let texts = ["The turbine hall was painted in 1987.", "Valve A needs a new seal kit."];
        let answer = ask(&writer, "Which valve needs a seal kit?", &texts).await;
        assert_eq!(answer, "Valve A needs a new seal kit [1].");
        let again = ask(&writer, "Which valve needs a seal kit?", &texts).await;
        assert_eq!(again, answer);
    }

    #[tokio::test]
    async fn nothing_that_fits_is_said_so() {
        let writer = writer();
        let texts = ["The turbine hall was painted in 1987.", ""];
        for question in ["Who composed the opera Carmen?", "", "??"] {
            assert_eq!(ask(&writer, question, &texts).await, CANNOT_TELL, "{question}");
        }
        assert_eq!(ask(&writer, "Who composed the opera Carmen?", &[]).await, CANNOT_TELL);
    }

    #[tokio::test]
    async fn without_the_embedder_words_decide() {
        let writer = writer();
        writer.embedder.stop();
        let texts = ["The hall was painted. The spare pump is in bay seven."];
        assert_eq!(
            ask(&writer, "Where is the spare pump?", &texts).await,
            "The spare pump is in bay seven [0]."
        );
        assert_eq!(ask(&writer, "Who sang?", &texts).await, CANNOT_TELL);
    }

    #[test]
    fn quotations_are_one_line_and_cannot_be_taken_for_citations() {
        assert_eq!(quotation("- see\n [12] and [x]\u{7}y"), "see (12) and (x) y");
        let long = quotation(&"word ".repeat(200));
        assert!(long.chars().count() <= QUOTE_MAX + 1 && long.ends_with("word…"), "{long}");
        let unbroken = quotation(&"語".repeat(2000));
        assert_eq!(unbroken.chars().count(), QUOTE_MAX + 1);
    }

    #[test]
    fn repeated_sentences_count_once_for_the_better_source() {
        let found = by_words("pump", &snippets(&["The pump leaks.", "The pump leaks. It is old."]));
        let leaks: Vec<usize> =
            found.iter().filter(|s| s.text == "The pump leaks.").map(|s| s.index).collect();
        assert_eq!(leaks, [0]);
    }

    #[test]
    fn long_sources_give_few_sentences() {
        let long = "A pump stands here. ".repeat(10) + &"Wings lift number. ".repeat(50_000);
        assert!(by_words("pump", &snippets(&[&long, &long])).len() <= COMPARED_MAX);
    }

    proptest! {
        #[test]
        fn citations_are_those_of_the_sources(
            question in "(pump|valve|seal| ){0,6}",
            texts in prop::collection::vec("([A-Z][a-z]{1,4}|pump|valve|\\[9\\]|\\[|\\]|seal|[.?!]| |\n){0,40}", 0..4),
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut found = by_words(&question, &snippets(&texts));
            for (i, sentence) in found.iter_mut().enumerate() {
                sentence.cosine = Some(i as f32 / 12.0);
            }
            let pieces = compose(found);
            prop_assert!((1..=SENTENCES_MAX).contains(&pieces.len()));
            for piece in &pieces {
                let cited: Vec<&str> =
                    piece.split('[').skip(1).filter_map(|rest| rest.split(']').next()).collect();
                if piece == CANNOT_TELL {
                    prop_assert!(cited.is_empty());
                } else {
                    prop_assert_eq!(cited.len(), 1, "{}", piece);
                    prop_assert!(cited[0].parse::<usize>().unwrap() < texts.len(), "{}", piece);
                }
            }
        }
    }
}
