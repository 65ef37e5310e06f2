//! Which of two models a question goes to.

/// What a route is chosen by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Occasion<'a> {
    /// The question.
    pub question: &'a str,
    /// Greatest cosine of what was found; a fused score is on another scale.
    pub top_similarity: f64,
    /// How many nodes were found.
    pub hits: usize,
}

/// The way a question takes, as answers report it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The way.
    pub path: &'static str,
    /// Why.
    pub reason: String,
}

impl Route {
    /// The path of the fast model.
    pub const FAST: &'static str = "fast";
    /// The path of the thorough model, and of the only one.
    pub const FALLBACK: &'static str = "fallback";

    /// The way of a writer that has one.
    pub fn only() -> Self {
        Self::fallback("hybrid_disabled")
    }

    fn fast(reason: impl Into<String>) -> Self {
        Self { path: Self::FAST, reason: reason.into() }
    }

    fn fallback(reason: impl Into<String>) -> Self {
        Self { path: Self::FALLBACK, reason: reason.into() }
    }

    /// The way of a question where there are two models. The fast one gets what has a good source
    /// (`easy_from` of cosine), and lists; never what asks for reasons or is long.
    pub fn choose(occasion: &Occasion<'_>, easy_from: f64) -> Self {
        let Occasion { question, top_similarity, hits } = *occasion;
        let question = question.to_lowercase();
        if COMPLEX.iter().any(|part| question.contains(part)) {
            return Self::fallback("complex_query");
        }
        if question.split_whitespace().count() > WORDS_MAX {
            return Self::fallback("long_query");
        }
        if top_similarity >= easy_from {
            return Self::fast(format!("high_confidence_sim={top_similarity:.3}"));
        }
        if hits >= LISTING_HITS && asks_for_a_list(&question) {
            return Self::fast("listing_query");
        }
        Self::fallback(format!("low_confidence_sim={top_similarity:.3}"))
    }
}

/// Parts of words that make a question complex. "show" has "how" in it: clients see the reason
/// and know it so.
const COMPLEX: [&str; 6] = ["explain", "why", "how", "compare", "difference", "analyze"];
/// Longer questions are not for the fast model.
const WORDS_MAX: usize = 20;
/// Fewer hits make no list.
const LISTING_HITS: usize = 3;

/// Whether a question in lower case asks for a list: one of a first group of words with one of a
/// second behind it, or "list" ahead.
fn asks_for_a_list(question: &str) -> bool {
    let mut words = question
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .skip_while(|word| !["who", "what", "which", "list", "show", "find"].contains(word));
    let listing = words.next().is_some()
        && words.any(|word| ["has", "are", "have", "with", "need"].contains(&word));
    listing || question.trim_start().starts_with("list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(question: &str, top_similarity: f64, hits: usize) -> (&'static str, String) {
        let Route { path, reason } =
            Route::choose(&Occasion { question, top_similarity, hits }, 0.70);
        (path, reason)
    }

    #[test]
    fn the_fast_model_gets_what_has_a_good_source_and_lists() {
        let fast = |reason: &str| ("fast", reason.to_owned());
        let fallback = |reason: &str| ("fallback", reason.to_owned());
        let kit = "Which kit does valve A take?";
        assert_eq!(chosen(kit, 0.7119, 1), fast("high_confidence_sim=0.712"));
        assert_eq!(chosen(kit, 0.70, 1), fast("high_confidence_sim=0.700"));
        assert_eq!(chosen(kit, 0.4, 9), fallback("low_confidence_sim=0.400"));
        for list in ["Which pumps have a seal kit?", "List the pumps", "find all with gaskets"] {
            assert_eq!(chosen(list, 0.4, 3), fast("listing_query"), "{list}");
            assert_eq!(chosen(list, 0.4, 2), fallback("low_confidence_sim=0.400"), "{list}");
        }
        assert_eq!(chosen("have which", 0.4, 3), fallback("low_confidence_sim=0.400"));
    }

    #[test]
    fn reasons_and_long_questions_are_never_for_it() {
        let complex = ("fallback", "complex_query".to_owned());
        for question in ["WHY is it red?", "Show me all pumps", "the difference", "Analyze it"] {
            assert_eq!(chosen(question, 0.9, 9), complex, "{question}");
        }
        let words = "w ".repeat(20);
        assert_eq!(chosen(&words, 0.9, 9).0, "fast");
        assert_eq!(chosen(&format!("{words} w"), 0.9, 9), ("fallback", "long_query".to_owned()));
    }
}
