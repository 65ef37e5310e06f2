//! One pattern, matched in one go over the name: every place of the pattern that the name may have
//! come to is a bit, so that a character costs the same however the pattern was made.

use std::collections::HashMap;

/// Bits by place, 64 to a word, lowest first.
type Bits = Vec<u64>;

/// A pattern, ready to be matched.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// The whole name is matched, and not its last part only.
    is_whole: bool,
    /// Places from which a character leads to the next.
    of_char: HashMap<char, Bits>,
    /// Places from which any character but `/` leads to the next.
    one: Bits,
    /// Places at which any character stays.
    stays: Bits,
    /// Places at which any character but `/` stays.
    stays_in_part: Bits,
    /// Places from which nothing leads to the next.
    next: Bits,
    /// Places from which nothing leads past the three that stand for `**/`.
    past: Bits,
    /// The place after the last.
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Part,
    /// `**`
    Any,
    /// Before the two of `**/`, which may be left out.
    Skip,
}

/// The places of a pattern. What says the same twice in a row is said once, so that no more than a
/// few places follow one another by nothing.
fn tokens(pattern: &str) -> Vec<Token> {
    use Token::{Any, Char, One, Part, Skip};
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**/") {
            if !tokens.ends_with(&[Skip, Any, Char('/')]) {
                tokens.extend([Skip, Any, Char('/')]);
            }
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("**") {
            if tokens.last() != Some(&Any) {
                tokens.push(Any);
            }
            rest = after;
            continue;
        }
        match c {
            '*' if tokens.last() == Some(&Any) => {}
            '*' => tokens.push(Part),
            '?' => tokens.push(One),
            c => tokens.push(Char(c)),
        }
        rest = &rest[c.len_utf8()..];
    }
    tokens
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        let tokens = tokens(pattern);
        let end = tokens.len();
        let none = vec![0; end / 64 + 1];
        let mut made = Self {
            is_whole: pattern.contains('/'),
            of_char: HashMap::new(),
            one: none.clone(),
            stays: none.clone(),
            stays_in_part: none.clone(),
            next: none.clone(),
            past: none.clone(),
            end,
        };
        for (place, token) in tokens.into_iter().enumerate() {
            match token {
                Token::Char(c) => set(made.of_char.entry(c).or_insert_with(|| none.clone()), place),
                Token::One => set(&mut made.one, place),
                Token::Part => {
                    set(&mut made.stays_in_part, place);
                    set(&mut made.next, place);
                }
                Token::Any => {
                    set(&mut made.stays, place);
                    set(&mut made.next, place);
                }
                Token::Skip => {
                    set(&mut made.next, place);
                    set(&mut made.past, place);
                }
            }
        }
        made
    }

    /// Whether a name, or the last part of it, is what the pattern says.
    pub(super) fn matches(&self, name: &str) -> bool {
        let name =
            if self.is_whole { name } else { name.rsplit_once('/').map_or(name, |(_, last)| last) };
        let mut at = vec![0; self.next.len()];
        set(&mut at, 0);
        self.follow_nothing(&mut at);
        for c in name.chars() {
            at = self.step(&at, c);
            if at.iter().all(|word| *word == 0) {
                return false;
            }
            self.follow_nothing(&mut at);
        }
        at[self.end / 64] & (1 << (self.end % 64)) != 0
    }

    fn step(&self, at: &Bits, c: char) -> Bits {
        let exact = self.of_char.get(&c);
        let in_part = c != '/';
        let mut to = vec![0; at.len()];
        let mut carried = 0;
        for (word, at) in at.iter().enumerate() {
            let mut moves = exact.map_or(0, |exact| exact[word]);
            let mut stays = self.stays[word];
            if in_part {
                moves |= self.one[word];
                stays |= self.stays_in_part[word];
            }
            let moved = at & moves;
            to[word] = (moved << 1) | carried | (at & stays);
            carried = moved >> 63;
        }
        to
    }

    /// Adds the places that nothing leads to. They are few in a row; see [`tokens`].
    fn follow_nothing(&self, at: &mut Bits) {
        loop {
            let (mut one, mut three, mut more) = (0, 0, false);
            for ((at, next), past) in at.iter_mut().zip(&self.next).zip(&self.past) {
                let (next, past) = (*at & next, *at & past);
                let to = *at | (next << 1) | one | (past << 3) | three;
                more |= to != *at;
                (one, three) = (next >> 63, past >> 61);
                *at = to;
            }
            if !more {
                return;
            }
        }
    }
}

fn set(bits: &mut Bits, place: usize) {
    bits[place / 64] |= 1 << (place % 64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What patterns mean, said as plainly as can be.
    fn fits(pattern: &[char], name: &[char]) -> bool {
        let any = |rest: &[char], until: usize| (0..=until).any(|from| fits(rest, &name[from..]));
        match pattern {
            [] => name.is_empty(),
            ['*', '*', '/', rest @ ..] => fits(rest, name) || any(&pattern[2..], name.len()),
            ['*', '*', rest @ ..] => any(rest, name.len()),
            ['*', rest @ ..] => {
                any(rest, name.iter().position(|c| *c == '/').unwrap_or(name.len()))
            }
            ['?', rest @ ..] => name.first().is_some_and(|c| *c != '/') && fits(rest, &name[1..]),
            [c, rest @ ..] => name.first() == Some(c) && fits(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_says_what_trying_everything_says(
            pattern in prop::collection::vec(prop::sample::select(vec!["*", "**", "**/", "?", "/", "a", "b"]), 0..8),
            name in "[ab/]{0,9}",
        ) {
            let pattern = format!("/{}", pattern.concat());
            let name = format!("/{name}");
            let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(Pattern::new(&pattern).matches(&name), fits(&p, &n), "{} {}", pattern, name);
        }

        #[test]
        fn a_pattern_longer_than_a_word_is_one(n in 55..75_usize, name in "[ab]{0,3}") {
            let (same, pattern) = ("a".repeat(n), "a".repeat(n) + "**/?*b");
            for name in [same.clone() + "/" + &name, same.clone() + &name] {
                let p: Vec<char> = pattern.chars().collect();
                let expected = fits(&p, &name.chars().collect::<Vec<_>>());
                prop_assert_eq!(Pattern::new(&pattern).matches(&name), expected, "{}", name);
            }
        }
    }
}
