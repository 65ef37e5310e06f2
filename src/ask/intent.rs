//! What a question asks for, as far as its words say: open positions, performance issues, or
//! documents of one kind.
//!
//! The rules are tables read from top to bottom; the first that fires wins. Terms stand for
//! whole words and match their plural too, except where a rule says "anywhere". The tables come
//! from recruiting and operations. A corpus about other things can trip them, so an intent only
//! ever adds nodes and narrows classes, and is set aside when it finds nothing.

mod tables;

use serde_json::{Value, json};

use tables::{
    ARTICLE, ARTICLE_TERMS, Groups, JOB, JOB_TERMS, LOOKBACK_DAYS, OPEN_POSITIONS,
    PERFORMANCE_ISSUES, RESUME, RESUME_TERMS, ROLE_TERMS, When,
};

/// What a question asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Jobs that are open.
    OpenPositions {
        /// Words for the roles asked about; empty = any role.
        role_terms: Vec<&'static str>,
    },
    /// Recent reports about slowness.
    PerformanceIssues {
        /// How far back, in days.
        lookback_days: u32,
    },
    /// Documents of one kind.
    Entity {
        /// The kind.
        kind: EntityKind,
        /// Terms of which a document should hold at least one; empty = no condition.
        must_have_terms: Vec<&'static str>,
    },
}

/// A kind of document with a class of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntityKind {
    /// A job description.
    Job,
    /// A person's record.
    Resume,
    /// Something written to be read.
    Article,
}

impl EntityKind {
    /// The classes of its nodes.
    pub fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Job => &["Job"],
            Self::Resume => &["Resume"],
            Self::Article => &["Article"],
        }
    }
}

impl Intent {
    /// Its name in answers.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OpenPositions { .. } => "open_positions",
            Self::PerformanceIssues { .. } => "performance_issues",
            Self::Entity { kind: EntityKind::Job, .. } => "entity_job",
            Self::Entity { kind: EntityKind::Resume, .. } => "entity_resume",
            Self::Entity { kind: EntityKind::Article, .. } => "entity_article",
        }
    }

    /// What it was read to mean, as an object; a list without terms is null.
    pub fn params(&self) -> Value {
        let terms = |terms: &[&str]| {
            if terms.is_empty() { Value::Null } else { json!(terms) }
        };
        match self {
            Self::OpenPositions { role_terms } => json!({ "role_terms": terms(role_terms) }),
            Self::PerformanceIssues { lookback_days } => json!({ "lookback_days": lookback_days }),
            Self::Entity { kind, must_have_terms } => {
                json!({ "expected_classes": kind.classes(), "must_have_terms": terms(must_have_terms) })
            }
        }
    }
}

/// What `question` asks for, if any rule fires.
pub fn detect(question: &str) -> Option<Intent> {
    let text = normalize(question);
    let words: Vec<&str> =
        text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()).collect();
    let fires = |rule: &[When]| rule.iter().any(|when| when.holds(&text, &words));
    let entity =
        |kind, terms| Some(Intent::Entity { kind, must_have_terms: terms_in(&text, terms) });
    if fires(OPEN_POSITIONS) {
        Some(Intent::OpenPositions { role_terms: terms_in(&text, ROLE_TERMS) })
    } else if fires(PERFORMANCE_ISSUES) {
        Some(Intent::PerformanceIssues { lookback_days: LOOKBACK_DAYS })
    } else if fires(JOB) {
        entity(EntityKind::Job, JOB_TERMS)
    } else if fires(RESUME) {
        entity(EntityKind::Resume, RESUME_TERMS)
    } else if fires(ARTICLE) {
        entity(EntityKind::Article, ARTICLE_TERMS)
    } else {
        None
    }
}

/// The form of a question that the rules read: lower case, `ml` written out, single spaces.
pub fn normalize(question: &str) -> String {
    let lower = question.to_lowercase();
    let mut text = String::with_capacity(lower.len());
    for chunk in lower.split_whitespace() {
        if !text.is_empty() {
            text.push(' ');
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            let inside = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(inside);
            text.push_str(if word == "ml" { "machine learning" } else { word });
            let outside = tail.find(is_word).unwrap_or(tail.len());
            let (gap, tail) = tail.split_at(outside);
            text.push_str(gap);
            rest = tail;
        }
    }
    text
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// All terms of each group that has one anywhere in `text`.
fn terms_in(text: &str, groups: Groups) -> Vec<&'static str> {
    let held = groups.iter().filter(|group| group.iter().any(|term| text.contains(term)));
    held.flat_map(|group| group.iter().copied()).collect()
}

impl When {
    fn holds(&self, text: &str, words: &[&str]) -> bool {
        match self {
            Self::Together(groups) => {
                groups.iter().all(|group| end_of_first(words, group).is_some())
            }
            Self::InOrder(groups) => groups
                .iter()
                .try_fold(words, |rest, group| Some(&rest[end_of_first(rest, group)?..]))
                .is_some(),
            Self::Anywhere(groups) => groups
                .iter()
                .try_fold(text, |rest, group| {
                    let ends = group.iter().filter_map(|term| Some(rest.find(term)? + term.len()));
                    Some(&rest[ends.min()?..])
                })
                .is_some(),
        }
    }
}

/// Where the first of `terms` in `words` ends: the index of the word after it.
fn end_of_first(words: &[&str], terms: &[&str]) -> Option<usize> {
    let ends = terms.iter().filter_map(|term| {
        let term: Vec<&str> = term.split(' ').collect();
        let at = words.windows(term.len()).position(|window| is_term(window, &term))?;
        Some(at + term.len())
    });
    ends.min()
}

/// Whether the words are the term, its last word in singular or plural.
fn is_term(words: &[&str], term: &[&str]) -> bool {
    let (Some((last, before)), Some((noun, start))) = (words.split_last(), term.split_last())
    else {
        return false;
    };
    before == start && (last == noun || is_plural(last, noun))
}

/// Whether `word` is the regular plural of `noun`.
fn is_plural(word: &str, noun: &str) -> bool {
    if let Some(stem) = noun.strip_suffix('y') {
        return word.strip_suffix("ies") == Some(stem) || word.strip_suffix('s') == Some(noun);
    }
    let hissing = ["s", "x", "z", "ch", "sh"].iter().any(|end| noun.ends_with(end));
    word.strip_suffix(if hissing { "es" } else { "s" }) == Some(noun)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(question: &str) -> Option<&'static str> {
        detect(question).map(|intent| intent.name())
    }

    fn positions(role_terms: &[&'static str]) -> Option<Intent> {
        Some(Intent::OpenPositions { role_terms: role_terms.to_vec() })
    }

    #[test]
    fn questions_of_the_contract() {
        let ml = &["ml", "machine learning"];
        assert_eq!(detect("What ML engineer positions are open?"), positions(ml));
        assert_eq!(detect("Which machine learning engineer position is open?"), positions(ml));
        assert_eq!(
            detect("hiring backend developer"),
            positions(&["software engineer", "developer", "backend", "frontend"])
        );
        assert_eq!(
            detect("What are the main performance issues reported?"),
            Some(Intent::PerformanceIssues { lookback_days: 30 })
        );
        assert_eq!(
            detect("Senior Software Engineer with 5 years experience"),
            Some(Intent::Entity { kind: EntityKind::Resume, must_have_terms: vec![] })
        );
        assert_eq!(detect("hello"), None);
        assert_eq!(detect("x"), None);
    }

    #[test]
    fn plurals_count() {
        assert_eq!(detect("What open positions are available?"), positions(&[]));
        // Asked about positions, so jobs are meant, not the people who could fill them.
        assert_eq!(
            detect("What SRE positions need metrics and monitoring experience?"),
            Some(Intent::Entity {
                kind: EntityKind::Job,
                must_have_terms: vec!["site reliability engineer", "sre"]
            })
        );
        assert_eq!(name("Which guides cover backups?"), Some("entity_article"));
        assert!(is_plural("companies", "company") && is_plural("boxes", "box"));
        assert!(!is_plural("companys", "compan") && !is_plural("bus", "b"));
    }

    #[test]
    fn each_kind_of_rule_fires_and_order_counts() {
        assert_eq!(name("job description of the crane operator"), Some("entity_job"));
        assert_eq!(name("description of the crane operator job"), None);
        assert_eq!(name("which skills does the role ask for"), Some("entity_job"));
        assert_eq!(name("who has written Go"), Some("entity_resume"));
        assert_eq!(name("Python experience"), None);
        assert_eq!(name("what are the best practices"), Some("entity_article"));
        assert_eq!(name("kubernetes patterns"), Some("entity_article"));
        assert_eq!(name("patterns of kubernetes"), None);
        assert_eq!(name("slowness: any incidents?"), Some("performance_issues"));
        assert_eq!(name("incidents of slowness"), None);
    }

    #[test]
    fn whole_words_only() {
        assert_eq!(name("the jobless are looking for work"), None);
        assert_eq!(name("whatever the role"), None);
        assert_eq!(name("newspapers"), None);
    }

    #[test]
    fn questions_are_brought_to_one_form() {
        assert_eq!(
            normalize("What  ML engineer\tpositions are open?"),
            "what machine learning engineer positions are open?"
        );
        assert_eq!(
            normalize("ml-ops, (ML) html ml_x"),
            "machine learning-ops, (machine learning) html ml_x"
        );
        assert_eq!(normalize("  "), "");
        assert_eq!(normalize("ÄRGER"), "ärger");
    }

    #[test]
    fn params_are_those_of_the_table() {
        let params = |question| detect(question).expect("an intent").params().to_string();
        assert_eq!(params("What open positions are available?"), r#"{"role_terms":null}"#);
        assert_eq!(params("performance problems"), r#"{"lookback_days":30}"#);
        assert_eq!(
            params("Senior Software Engineer with 5 years experience"),
            r#"{"expected_classes":["Resume"],"must_have_terms":null}"#
        );
        assert_eq!(
            params("autoscaling articles"),
            r#"{"expected_classes":["Article"],"must_have_terms":["autoscaling","autoscaler"]}"#
        );
    }
}
