//! Which objects of a source a connector takes.

use serde_json::{Map, Value};

use super::Fault;

/// Steps of a match after which it has failed: patterns come from tenants, and some take long.
const STEPS_MAX: usize = 1 << 20;

/// The patterns that a connector's settings name.
///
/// `*` stands for any characters but `/`, `?` for one of them, `**` for any at all, and `**/` also
/// for nothing. A pattern without `/` is matched against the last part of a name, another one
/// against all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Globs {
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Globs {
    pub(super) fn of(settings: &Map<String, Value>) -> Result<Self, Fault> {
        let list = |name: &str| match settings.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                Ok(items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
            }
            Some(_) => Err(Fault::settings(format!("{name} is not a list"))),
        };
        Ok(Self { include: list("include_globs")?, exclude: list("exclude_globs")? })
    }

    /// Whether an object is taken: it is excluded by no pattern, and included by one if there are
    /// any.
    pub(super) fn take(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        !any(&self.exclude) && (self.include.is_empty() || any(&self.include))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let name = if pattern.contains('/') {
        name
    } else {
        name.rsplit_once('/').map_or(name, |(_, last)| last)
    };
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    fits(&pattern, &name, &mut STEPS_MAX.clone())
}

fn fits(mut pattern: &[char], mut name: &[char], steps: &mut usize) -> bool {
    loop {
        *steps = steps.saturating_sub(1);
        if *steps == 0 {
            return false;
        }
        match pattern {
            [] => return name.is_empty(),
            ['*', '*', '/', rest @ ..] if fits(rest, name, steps) => return true,
            ['*', '*', rest @ ..] => {
                return (0..=name.len()).any(|from| fits(rest, &name[from..], steps));
            }
            ['*', rest @ ..] => {
                let until = name.iter().position(|c| *c == '/').unwrap_or(name.len());
                return (0..=until).any(|from| fits(rest, &name[from..], steps));
            }
            ['?', rest @ ..] => match name {
                [c, after @ ..] if *c != '/' => (pattern, name) = (rest, after),
                _ => return false,
            },
            [c, rest @ ..] => match name {
                [same, after @ ..] if same == c => (pattern, name) = (rest, after),
                _ => return false,
            },
        }
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
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
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
    fn a_pattern_that_takes_for_ever_takes_nothing() {
        let pattern = "**a".repeat(40) + "b";
        assert!(!matches(&pattern, &"a".repeat(400)));
    }
}
