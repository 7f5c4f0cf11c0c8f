//! Compiling an ignore rule into tokens.
//!
//! Works on characters, as Kopia does. Source: Kopia `internal/wcmatch`.

use super::wildmatch::{Outcome, outcome};
use crate::error::{FormatError, FormatErrorKind, Result};
use std::fmt;
use unicode_properties::{GeneralCategoryGroup as Group, UnicodeGeneralCategory};

/// More wildcards than a sane rule has; matching recurses once for each.
const STARS_MAX: usize = 256;

/// A piece of a pattern; all but [`Token::Star`] and [`Token::DoubleStar`] match one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Character(char),
    /// `/`.
    Separator,
    /// `?`: all but `/`.
    AnyCharacter,
    /// `*`: within one path component.
    Star,
    /// `**`: across components.
    DoubleStar,
    /// `[…]`; may match `/`.
    Set {
        items: Vec<SetItem>,
        negated: bool,
    },
}

/// A piece of `[…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SetItem {
    Character(char),
    Range(char, char),
    Class(Class),
}

impl SetItem {
    pub(super) fn matches(&self, character: char) -> bool {
        match self {
            Self::Character(own) => *own == character,
            Self::Range(first, last) => (*first..=*last).contains(&character),
            Self::Class(class) => class.matches(character),
        }
    }
}

/// A POSIX class, over all of Unicode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Alnum,
    Alpha,
    Ascii,
    Blank,
    Cntrl,
    Digit,
    Graph,
    Lower,
    Print,
    Punct,
    Space,
    Upper,
    Xdigit,
}

impl Class {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "alnum" => Self::Alnum,
            "alpha" => Self::Alpha,
            "ascii" => Self::Ascii,
            "blank" => Self::Blank,
            "cntrl" => Self::Cntrl,
            "digit" => Self::Digit,
            "graph" => Self::Graph,
            "lower" => Self::Lower,
            "print" => Self::Print,
            "punct" => Self::Punct,
            "space" => Self::Space,
            "upper" => Self::Upper,
            "xdigit" => Self::Xdigit,
            _ => return None,
        })
    }
    fn matches(self, character: char) -> bool {
        use unicode_properties::GeneralCategory as Category;
        let category = character.general_category();
        let group = character.general_category_group();
        let is_letter = group == Group::Letter;
        let is_digit = category == Category::DecimalNumber;
        let is_visible =
            matches!(group, Group::Letter | Group::Mark | Group::Number | Group::Punctuation | Group::Symbol);
        match self {
            Self::Alnum => is_letter || is_digit,
            Self::Alpha => is_letter,
            Self::Ascii => character.is_ascii(),
            Self::Blank => category == Category::SpaceSeparator || character == '\t',
            Self::Cntrl => category == Category::Control,
            Self::Digit => is_digit,
            Self::Graph => is_visible || category == Category::SpaceSeparator,
            Self::Lower => category == Category::LowercaseLetter,
            Self::Print => is_visible || character == ' ',
            Self::Punct => matches!(group, Group::Punctuation | Group::Symbol),
            Self::Space => character.is_whitespace(),
            Self::Upper => category == Category::UppercaseLetter,
            Self::Xdigit => character.is_ascii_hexdigit() || is_digit,
        }
    }
}

/// One compiled rule.
#[derive(Clone, PartialEq, Eq)]
pub struct IgnoreRule {
    pattern: String,
    tokens: Vec<Token>,
    directories_only: bool,
    negated: bool,
}

impl fmt::Debug for IgnoreRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IgnoreRule({:?})", self.pattern)
    }
}

impl IgnoreRule {
    /// Compiles a rule of the directory `base` (`/a/b`, empty for the snapshot root).
    ///
    /// # Errors
    /// An open `[`, an unknown class or a `\` at the end is malformed; more than 256 wildcards are out of range.
    pub fn compile(pattern: &str, base: &str) -> Result<Self> {
        // Kopia looks at the last byte but one, to leave an escaped blank at the end.
        let trim = pattern.len() > 2 && pattern.as_bytes()[pattern.len() - 2] != b'\\';
        let pattern = if trim { pattern.trim() } else { pattern };
        let mut scanner = Scanner { text: pattern.chars().collect(), at: 0, whole: pattern };
        while scanner.peek(0).is_some_and(char::is_whitespace) {
            scanner.at += 1;
        }
        let negated = scanner.take('!');
        let mut tokens = Vec::new();
        scanner.anchor(base, &mut tokens);
        let directories_only = scanner.text.last() == Some(&'/');
        if directories_only {
            scanner.text.pop();
        }
        while let Some(character) = scanner.read() {
            tokens.push(scanner.token(character)?);
        }
        if tokens.iter().filter(|token| matches!(token, Token::Star | Token::DoubleStar)).count() > STARS_MAX
        {
            let why = format!("more than {STARS_MAX} wildcards");
            return Err(FormatError::new(FormatErrorKind::OutOfRange, "ignore rule", why));
        }
        Ok(Self { pattern: pattern.to_owned(), tokens, directories_only, negated })
    }
    /// The rule as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
    /// Whether the rule re-includes what it names (`!…`).
    pub fn is_negated(&self) -> bool {
        self.negated
    }
    /// Whether an entry with this path (`/a/b`, as characters) is ignored as far as this rule goes;
    /// for a negated rule `true` means that it does *not* name the entry.
    pub fn matches(&self, path: &[char], is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return self.negated;
        }
        (outcome(&self.tokens, path) == Outcome::Match) != self.negated
    }
}

/// A place in a pattern. A NUL character ends the pattern, as in Kopia.
struct Scanner<'a> {
    text: Vec<char>,
    at: usize,
    whole: &'a str,
}

impl Scanner<'_> {
    fn peek(&self, offset: isize) -> Option<char> {
        let at = self.at.checked_add_signed(offset)?;
        self.text.get(at).copied().filter(|&character| character != '\0')
    }
    fn read(&mut self) -> Option<char> {
        let character = self.peek(0)?;
        self.at += 1;
        Some(character)
    }
    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek(0) == Some(wanted);
        self.at += usize::from(found);
        found
    }
    fn index_of(&self, wanted: char) -> Option<usize> {
        self.text.get(self.at..)?.iter().position(|&character| character == wanted)
    }
    fn malformed(&self, why: &str) -> FormatError {
        FormatError::malformed("ignore rule", why)
    }

    /// Pushes what the rule's place adds before its pattern.
    fn anchor(&self, base: &str, tokens: &mut Vec<Token>) {
        if self.whole.is_empty() {
            return;
        }
        let base = if base.len() > 1 { base.strip_suffix('/').unwrap_or(base) } else { base };
        let literal =
            |character| if character == '/' { Token::Separator } else { Token::Character(character) };
        tokens.extend(base.chars().map(literal));
        if self.peek(0) == Some('/') {
            return;
        }
        if !base.is_empty() {
            tokens.push(Token::Separator);
        }
        let inner_separator = self.index_of('/').is_some_and(|at| self.at + at + 1 != self.text.len());
        if self.whole == "**" {
            // Matches across components by itself.
        } else if !inner_separator {
            tokens.extend([Token::DoubleStar, Token::Separator]);
        } else if base.is_empty() {
            tokens.push(Token::Separator);
        }
    }
    /// The token that starts with `character`, which is consumed.
    fn token(&mut self, character: char) -> Result<Token> {
        Ok(match character {
            '\\' => Token::Character(self.escaped()?),
            '?' => Token::AnyCharacter,
            '/' => Token::Separator,
            '*' => self.star(),
            '[' => return self.set(),
            other => Token::Character(other),
        })
    }
    fn escaped(&mut self) -> Result<char> {
        self.read()
            .ok_or_else(|| self.malformed("nothing after the \\ at its end; write \\\\ for a backslash"))
    }
    /// `*`, or `**` if it is the start of the pattern or a whole component.
    fn star(&mut self) -> Token {
        let before = self.peek(-2);
        if self.peek(0) != Some('*') {
            return Token::Star;
        }
        while self.take('*') {}
        let ends_component = self.peek(0) == Some('/') || self.at >= self.text.len();
        match before {
            None => Token::DoubleStar,
            Some('/') if ends_component => Token::DoubleStar,
            Some(_) => Token::Star,
        }
    }
    /// `[…]` after its bracket.
    fn set(&mut self) -> Result<Token> {
        let negated = self.take('!');
        let mut items = Vec::new();
        loop {
            match self.read() {
                None => return Err(self.malformed("a [ without its ]")),
                Some(']') => return Ok(Token::Set { items, negated }),
                Some('\\') => {
                    let escaped = self.escaped()?;
                    items.push(self.set_item(escaped)?);
                }
                Some(character) => items.push(self.set_item(character)?),
            }
        }
    }
    /// The piece of a set that starts with `character`, which is consumed.
    fn set_item(&mut self, character: char) -> Result<SetItem> {
        if self.peek(0) == Some('-') && !matches!(self.peek(1), None | Some(']')) {
            self.at += 1;
            let last = match self.read() {
                Some('\\') => self.escaped()?,
                Some(last) => last,
                None => return Err(self.malformed("a [ without its ]")),
            };
            return Ok(SetItem::Range(character, last));
        }
        if character == '[' && self.peek(0) == Some(':') {
            return self.class();
        }
        Ok(SetItem::Character(character))
    }
    /// `[:name:]` after its first bracket, or that bracket alone if it is no class.
    ///
    /// Kopia compares the length of the class with its place in the pattern, so a class far from
    /// the start is taken for the characters it is written with. What is backed up depends on it.
    fn class(&mut self) -> Result<SetItem> {
        let close = self.index_of(']').ok_or_else(|| self.malformed("a [ without its ]"))?;
        let ends_with_colon = close > 0 && self.text[self.at + close - 1] == ':';
        if close <= self.at + 1 || !ends_with_colon {
            return Ok(SetItem::Character('['));
        }
        let name: String = self.text[self.at + 1..self.at + close - 1].iter().collect();
        self.at += close + 1;
        let class = Class::named(&name.to_lowercase());
        class.map(SetItem::Class).ok_or_else(|| self.malformed(&format!("unknown class [:{name}:]")))
    }
}
