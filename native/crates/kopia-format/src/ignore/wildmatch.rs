//! Matching a compiled pattern against a path.
//!
//! The stretch that a wildcard takes is tried from short to long; outcomes tell an outer wildcard
//! when trying on is useless. These outcomes are Kopia's also where they lose a match that a plain
//! reading of the pattern would find (`**/*/x` does not match `/x`) or find one it would not
//! (`a*b` matches `ax/b`): they decide what is backed up.

use super::pattern::Token;

/// How a pattern ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Match,
    NoMatch,
    /// The text is too short: no wildcard before can help.
    TooShort,
    /// A `*` met a `/`: only a `**` before can help.
    AtSeparator,
}

/// Matches `tokens` against all of `text`.
pub(super) fn outcome(tokens: &[Token], text: &[char]) -> Outcome {
    let stars = tokens.iter().filter(|token| is_star(token)).count();
    // Up to two wildcards cost at most the square of the path; beyond, remember what was found.
    let (slots, known) = match stars {
        0..=2 => (Vec::new(), Vec::new()),
        _ => (slots(tokens), vec![None; 2 * (stars + 1) * (text.len() + 1)]),
    };
    Matcher { tokens, text, slots, known }.from(0, 0)
}

/// By first token, which row of [`Matcher::known`] it has: only the first token and the first and
/// second after each wildcard are ever started from, so two rows for each wildcard are enough.
fn slots(tokens: &[Token]) -> Vec<usize> {
    let mut stars = 0;
    let mut after_star = false;
    let rows = tokens.iter().chain([&Token::Separator]).map(|token| {
        let row = 2 * stars + usize::from(!after_star);
        after_star = is_star(token);
        stars += usize::from(after_star);
        row
    });
    rows.collect()
}

fn is_star(token: &Token) -> bool {
    matches!(token, Token::Star | Token::DoubleStar)
}

struct Matcher<'a> {
    tokens: &'a [Token],
    text: &'a [char],
    /// Empty if there are few wildcards.
    slots: Vec<usize>,
    /// Outcome by slot of the first token and first character, if there are many wildcards.
    known: Vec<Option<Outcome>>,
}

impl Matcher<'_> {
    /// Matches the tokens from `token` against the text from `start`. Recurses once per wildcard.
    fn from(&mut self, token: usize, start: usize) -> Outcome {
        let key = self.slots.get(token).map_or(0, |slot| slot * (self.text.len() + 1) + start);
        if let Some(Some(outcome)) = self.known.get(key) {
            return *outcome;
        }
        let outcome = self.run(token, start);
        if let Some(known) = self.known.get_mut(key) {
            *known = Some(outcome);
        }
        outcome
    }
    fn run(&mut self, token: usize, start: usize) -> Outcome {
        let mut at = start;
        for position in token..self.tokens.len() {
            let current = &self.tokens[position];
            if is_star(current) {
                match self.star(position, start, at) {
                    Ok(next) => at = next,
                    Err(outcome) => return outcome,
                }
                continue;
            }
            let Some(&character) = self.text.get(at) else { return Outcome::TooShort };
            if !matches_character(current, character) {
                return Outcome::NoMatch;
            }
            at += 1;
        }
        if at >= self.text.len() { Outcome::Match } else { Outcome::NoMatch }
    }
    /// A wildcard at `position` when `at` is reached: where to go on, or the outcome of it all.
    fn star(&mut self, position: usize, start: usize, at: usize) -> Result<usize, Outcome> {
        let double = self.tokens[position] == Token::DoubleStar;
        let separator = || self.text[at..].iter().position(|&character| character == '/');
        if position + 1 == self.tokens.len() {
            return Err(if double || separator().is_none() { Outcome::Match } else { Outcome::NoMatch });
        }
        let before_separator = self.tokens[position + 1] == Token::Separator;
        if !double && before_separator {
            // The component ends at the next separator; an empty one at the very start does not count.
            return match separator() {
                Some(length) if start < at + length => Ok(at + length),
                _ => Err(Outcome::NoMatch),
            };
        }
        if double
            && before_separator
            && position + 2 < self.tokens.len()
            && self.from(position + 2, at) == Outcome::Match
        {
            return Err(Outcome::Match);
        }
        Err(self.stretch(position, at, double))
    }
    /// Tries every stretch from `at` on for the wildcard at `position`.
    fn stretch(&mut self, position: usize, at: usize, double: bool) -> Outcome {
        for end in at..self.text.len() {
            // Kopia looks for the separator one character late, so that a `*` of at least one
            // character may take one separator as its last: `a*b` matches `ax/b`, not `a/b`.
            let looked_at = self.text[at.max(end.saturating_sub(1))];
            match self.from(position + 1, end) {
                Outcome::NoMatch if !double && looked_at == '/' => return Outcome::AtSeparator,
                Outcome::NoMatch => {}
                Outcome::AtSeparator if double => {}
                outcome => return outcome,
            }
        }
        Outcome::TooShort
    }
}

fn matches_character(token: &Token, character: char) -> bool {
    match token {
        Token::Character(own) => *own == character,
        Token::Separator => character == '/',
        Token::AnyCharacter => character != '/',
        Token::Set { items, negated } => items.iter().any(|item| item.matches(character)) != *negated,
        // Wildcards never come here.
        Token::Star | Token::DoubleStar => false,
    }
}
