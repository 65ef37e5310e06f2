//! Which objects of a source a connector takes.

mod pattern;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Fault;
use crate::connectors::provider::GLOBS_BYTES;

use pattern::Pattern;

/// The patterns that a connector's settings name.
///
/// `*` stands for any characters but `/`, `?` for one of them, `**` for any at all, and `**/` also
/// for nothing. A pattern without `/` is matched against the last part of a name, another one
/// against all of it. A clone is cheap.
#[derive(Debug, Clone, Default)]
pub(super) struct Globs(Arc<Lists>);

#[derive(Debug, Default)]
struct Lists {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl Globs {
    /// The patterns of these settings. None is left out: a list that cannot be gone by is a fault.
    pub(super) fn of(settings: &Map<String, Value>) -> Result<Self, Fault> {
        let list = |name: &str| {
            let items = match settings.get(name) {
                None | Some(Value::Null) => return Ok(Vec::new()),
                Some(Value::Array(items)) => items.iter().map(Value::as_str),
                Some(_) => return Err(Fault::settings(format!("{name} is not a list"))),
            };
            let patterns = items.collect::<Option<Vec<&str>>>();
            let patterns = patterns.ok_or_else(|| {
                Fault::settings(format!("{name} holds something that is no text"))
            })?;
            if patterns.iter().map(|pattern| pattern.len()).sum::<usize>() > GLOBS_BYTES {
                return Err(Fault::settings(format!(
                    "{name} is longer than {GLOBS_BYTES} bytes; name fewer patterns"
                )));
            }
            Ok(patterns.into_iter().map(Pattern::new).collect())
        };
        let (include, exclude) = (list("include_globs")?, list("exclude_globs")?);
        Ok(Self(Arc::new(Lists { include, exclude })))
    }

    /// Whether an object is taken: it is excluded by no pattern, and included by one if there are
    /// any. It takes as long as the name and the patterns are, whatever they say.
    pub(super) fn take(&self, name: &str) -> bool {
        let Lists { include, exclude } = &*self.0;
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
        !any(exclude) && (include.is_empty() || any(include))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_are_those_of_shells() {
        for (pattern, name, fits) in [
            ("*.md", "a.md", true),
            ("*.md", "deep/below/a.md", true),
            ("*.md", "a.mdx", false),
            ("docs/*.md", "docs/a.md", true),
            ("docs/*.md", "docs/x/a.md", false),
            ("docs/**", "docs/x/a.md", true),
            ("docs/**/a.md", "docs/a.md", true),
            ("docs/**/a.md", "docs/x/y/a.md", true),
            ("docs/**/a.md", "docs/xa.md", false),
            ("**/tmp/**", "a/tmp/b", true),
            ("?.txt", "é.txt", true),
            ("?/x", "//x", false),
            ("[a].txt", "[a].txt", true),
            ("[a].txt", "a.txt", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_excluded_stays_out_though_it_is_included() {
        let globs = |settings: Value| Globs::of(settings.as_object().unwrap()).unwrap();
        let both = globs(json!({"include_globs": ["*.md", "*.txt"], "exclude_globs": ["old/**"]}));
        assert!(both.take("a.md") && both.take("x/b.txt"));
        assert!(!both.take("a.pdf") && !both.take("old/a.md"));
        assert!(globs(json!({"include_globs": null})).take("anything"));
        assert!(Globs::of(json!({"include_globs": "*.md"}).as_object().unwrap()).is_err());
    }

    #[test]
    fn a_pattern_that_would_take_for_ever_is_matched_all_the_same() {
        let (pattern, name) = ("**a".repeat(40), "a".repeat(400));
        let globs = |list: &str, pattern: &str| {
            Globs::of(json!({ list: [pattern] }).as_object().unwrap()).unwrap()
        };
        assert!(!globs("include_globs", &(pattern.clone() + "b")).take(&name));
        // What is excluded is not let in because it takes long to tell.
        assert!(!globs("exclude_globs", &("**a".repeat(40) + "**b")).take(&(name + "b")));
    }

    #[test]
    fn lists_that_cannot_be_gone_by_are_faults() {
        let of = |list: Value| Globs::of(json!({ "exclude_globs": list }).as_object().unwrap());
        assert!(of(json!(["*.md", 7])).is_err());
        assert!(of(json!(["a".repeat(GLOBS_BYTES)])).is_ok());
        let long = of(json!(["a".repeat(GLOBS_BYTES), "b"])).unwrap_err();
        assert!(long.to_string().contains("fewer"), "{long}");
    }
}
