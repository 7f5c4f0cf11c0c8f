//! A pull reader over JSON text that may end too early (the rest not having been read yet).
//!
//! Field names match regardless of case, unknown fields are skipped, `null` means "absent",
//! broken UTF-8 and lone surrogates read as U+FFFD: all as Go's `encoding/json` decoder does.

use crate::error::FormatError;
use crate::ids::ObjectId;
use crate::time::{self, Timestamp};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Deepest nesting of skipped values; Go's own limit.
const NESTING_MAX: usize = 10_000;

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The text ends inside a value: read more and try again, or refuse.
    End,
    /// The text is not what it should be.
    Bad(String),
}

impl Fault {
    fn bad(why: impl Into<String>) -> Self {
        Self::Bad(why.into())
    }
}

pub(crate) type Scan<T> = Result<T, Fault>;

/// A place in JSON text.
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// Reads the whole of `text` with `read`; only white space may follow.
pub(crate) fn read_all<'a, T>(
    what: &'static str,
    text: &'a [u8],
    read: impl FnOnce(&mut Cursor<'a>) -> Scan<T>,
) -> crate::Result<T> {
    let mut cursor = Cursor::new(text);
    let result = read(&mut cursor).and_then(|value| cursor.end().map(|()| value));
    result.map_err(|fault| cursor.refuse(what, fault))
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }
    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }
    /// The error that `fault` is when no more text will come.
    pub(crate) fn refuse(&self, what: &'static str, fault: Fault) -> FormatError {
        let why = match fault {
            Fault::End => "json text ends too early".to_owned(),
            Fault::Bad(why) => why,
        };
        FormatError::malformed(what, why).at(self.at as u64)
    }
    /// The next byte that is not white space, not yet consumed.
    pub(crate) fn peek(&mut self) -> Scan<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                _ => return Ok(byte),
            }
        }
        Err(Fault::End)
    }
    /// Consumes white space and `expected`.
    pub(crate) fn expect(&mut self, expected: u8) -> Scan<()> {
        let found = self.peek()?;
        if found != expected {
            return Err(Fault::bad(format!(
                "{:?} where {:?} is due",
                char::from(found),
                char::from(expected)
            )));
        }
        self.at += 1;
        Ok(())
    }
    /// Consumes `,` (more follows: true) or `close`.
    pub(crate) fn more(&mut self, close: u8) -> Scan<bool> {
        if self.peek()? == b',' {
            self.at += 1;
            return Ok(true);
        }
        self.expect(close).map(|()| false)
    }
    /// Consumes `open`; whether the list is not empty (an empty one is consumed whole).
    pub(crate) fn open(&mut self, open: u8, close: u8) -> Scan<bool> {
        self.expect(open)?;
        if self.peek()? == close {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }
    /// Accepts only white space until the end.
    pub(crate) fn end(&mut self) -> Scan<()> {
        match self.peek() {
            Err(Fault::End) => Ok(()),
            Err(fault) => Err(fault),
            Ok(byte) => Err(Fault::bad(format!("{:?} after the end", char::from(byte)))),
        }
    }
    /// Whether `null` is next; consumes it.
    pub(crate) fn null(&mut self) -> Scan<bool> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        self.word(b"null").map(|()| true)
    }
    fn word(&mut self, word: &'static [u8]) -> Scan<()> {
        let rest = &self.text[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(())
        } else if word.starts_with(rest) {
            Err(Fault::End)
        } else {
            Err(Fault::bad("not a json value"))
        }
    }

    /// Reads an object whose fields are `names`: for each field present and not `null`, calls
    /// `field` with the name as it stands in `names`. False for `null` in place of the object.
    #[inline]
    pub(crate) fn object(
        &mut self,
        names: &'static [&'static str],
        mut field: impl FnMut(&mut Self, &'static str) -> Scan<()>,
    ) -> Scan<bool> {
        if self.null()? {
            return Ok(false);
        }
        let mut more = self.open(b'{', b'}')?;
        let mut likely = 0;
        while more {
            let position = self.field_name(names, likely)?;
            if self.null()? {
                // Go leaves the field as it is.
            } else if let Some(position) = position {
                likely = position + 1;
                field(self, names[position])?;
            } else {
                self.skip()?;
            }
            more = self.more(b'}')?;
        }
        Ok(true)
    }
    /// Reads `"name":` and finds it in `names`, `likely` first: writers keep the order.
    pub(crate) fn field_name(&mut self, names: &[&str], likely: usize) -> Scan<Option<usize>> {
        let name = self.string_bytes()?;
        self.expect(b':')?;
        let exact = names
            .iter()
            .skip(likely)
            .position(|known| known.as_bytes() == &*name)
            .map(|found| found + likely);
        let exact = exact.or_else(|| names.iter().position(|known| known.as_bytes() == &*name));
        Ok(exact.or_else(|| names.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(&name))))
    }
    /// Reads an array, each element by `item`; `null` is an empty one.
    pub(crate) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        if self.null()? {
            return Ok(());
        }
        let mut more = self.open(b'[', b']')?;
        while more {
            item(self)?;
            more = self.more(b']')?;
        }
        Ok(())
    }
    /// Reads an array of strings.
    pub(crate) fn strings(&mut self) -> Scan<Vec<String>> {
        let mut all = Vec::new();
        self.array(|cursor| {
            // Go makes an empty string of a `null` element.
            all.push(if cursor.null()? { String::new() } else { cursor.string()?.into_owned() });
            Ok(())
        })?;
        Ok(all)
    }
    /// Reads a map of strings.
    pub(crate) fn string_map(&mut self) -> Scan<BTreeMap<String, String>> {
        let mut map = BTreeMap::new();
        if self.null()? {
            return Ok(map);
        }
        let mut more = self.open(b'{', b'}')?;
        while more {
            let key = self.string()?.into_owned();
            self.expect(b':')?;
            let value = if self.null()? { String::new() } else { self.string()?.into_owned() };
            map.insert(key, value);
            more = self.more(b'}')?;
        }
        Ok(map)
    }

    /// Reads a string; what it gives is valid UTF-8.
    #[inline]
    pub(crate) fn string_bytes(&mut self) -> Scan<Cow<'a, [u8]>> {
        self.expect(b'"')?;
        let start = self.at;
        self.at += plain_length(&self.text[start..]);
        if self.text.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        self.unusual_string(start)
    }
    /// Reads a string.
    pub(crate) fn string(&mut self) -> Scan<Cow<'a, str>> {
        let not_utf8 = || Fault::bad("not UTF-8");
        match self.string_bytes()? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| not_utf8()),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| not_utf8()),
        }
    }
    /// Reads a string that starts at `start` and is not plain ASCII up to its end.
    #[cold]
    fn unusual_string(&mut self, start: usize) -> Scan<Cow<'a, [u8]>> {
        let mut text = String::new();
        let mut run = start;
        loop {
            match *self.text.get(self.at).ok_or(Fault::End)? {
                b'"' => break,
                b'\\' => {
                    push_lossy(&self.text[run..self.at], &mut text);
                    self.at += 1;
                    text.push(self.escape()?);
                    run = self.at;
                }
                0..0x20 => return Err(Fault::bad("a control character in a string")),
                _ => self.at += 1,
            }
        }
        let rest = &self.text[run..self.at];
        self.at += 1;
        if run == start && std::str::from_utf8(rest).is_ok() {
            return Ok(Cow::Borrowed(rest));
        }
        push_lossy(rest, &mut text);
        Ok(Cow::Owned(text.into_bytes()))
    }
    /// Reads what follows a `\`.
    fn escape(&mut self) -> Scan<char> {
        let letter = *self.text.get(self.at).ok_or(Fault::End)?;
        self.at += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_point(),
            _ => return Err(Fault::bad("an unknown escape in a string")),
        })
    }
    /// Reads the digits of `\uXXXX`, and the second half of a surrogate pair if it follows.
    fn code_point(&mut self) -> Scan<char> {
        let first = self.code_unit()?;
        if !(0xD800..0xDC00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let after_first = self.at;
        match self.text.get(self.at..) {
            Some([b'\\', b'u', ..]) => self.at += 2,
            Some([] | [b'\\']) => return Err(Fault::End),
            _ => return Ok(char::REPLACEMENT_CHARACTER),
        }
        let second = self.code_unit()?;
        if (0xDC00..0xE000).contains(&second) {
            let both = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            return Ok(char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        // The second escape is no second half: it stands for itself, read it again.
        self.at = after_first;
        Ok(char::REPLACEMENT_CHARACTER)
    }
    fn code_unit(&mut self) -> Scan<u32> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(Fault::End)?;
        let mut value = 0;
        for &digit in digits {
            value = value * 16
                + char::from(digit)
                    .to_digit(16)
                    .ok_or_else(|| Fault::bad("not four hex digits after \\u"))?;
        }
        self.at += 4;
        Ok(value)
    }

    /// Reads a whole number that fits `T`; a fraction or an exponent is refused, as Go does.
    #[inline]
    pub(crate) fn integer<T: TryFrom<i64>>(&mut self) -> Scan<T> {
        let negative = self.peek()? == b'-';
        let start = self.at + usize::from(negative);
        let mut at = start;
        let mut value = 0i64;
        while let Some(&digit @ b'0'..=b'9') = self.text.get(at) {
            // Counted downwards, since the most negative number has no positive counterpart.
            let next = value.checked_mul(10).and_then(|value| value.checked_sub((digit - b'0').into()));
            value = next.ok_or_else(|| Fault::bad("a number out of range"))?;
            at += 1;
        }
        match self.text.get(at) {
            None => return Err(Fault::End),
            Some(b'.' | b'e' | b'E') => return Err(Fault::bad("a number that is not whole")),
            _ if at == start || (at > start + 1 && self.text[start] == b'0') => {
                return Err(Fault::bad("not a number"));
            }
            _ => self.at = at,
        }
        let value = if negative { Some(value) } else { value.checked_neg() };
        value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| Fault::bad("a number out of range"))
    }
    /// Reads `true` or `false`.
    pub(crate) fn boolean(&mut self) -> Scan<bool> {
        match self.peek()? {
            b't' => self.word(b"true").map(|()| true),
            _ => self.word(b"false").map(|()| false),
        }
    }
    /// Reads a time.
    pub(crate) fn time(&mut self) -> Scan<Timestamp> {
        time::parse_bytes(&self.string_bytes()?).ok_or_else(|| Fault::bad("a time that is not RFC 3339"))
    }
    /// Reads an object ID; the empty string is none.
    pub(crate) fn object_id(&mut self) -> Scan<Option<ObjectId>> {
        let text = self.string()?;
        if text.is_empty() {
            return Ok(None);
        }
        ObjectId::parse(&text).map(Some).map_err(|error| Fault::bad(error.to_string()))
    }

    /// Skips a value and gives its text. Deep nesting costs no stack.
    pub(crate) fn skip(&mut self) -> Scan<&'a [u8]> {
        self.peek()?;
        let start = self.at;
        let mut open: Vec<u8> = Vec::new();
        loop {
            if let Some(close) = self.skip_scalar_or_open()? {
                open.push(close);
                if open.len() > NESTING_MAX {
                    return Err(Fault::bad("nested too deeply"));
                }
            } else if !self.skip_closers(&mut open)? {
                return Ok(&self.text[start..self.at]);
            }
            if open.last() == Some(&b'}') {
                self.string_bytes()?;
                self.expect(b':')?;
            }
        }
    }
    /// Skips a scalar or an empty list, or enters a list and gives what closes it.
    fn skip_scalar_or_open(&mut self) -> Scan<Option<u8>> {
        match self.peek()? {
            b'{' => Ok(self.open(b'{', b'}')?.then_some(b'}')),
            b'[' => Ok(self.open(b'[', b']')?.then_some(b']')),
            b'"' => self.string_bytes().map(|_| None),
            b'n' => self.word(b"null").map(|()| None),
            b't' | b'f' => self.boolean().map(|_| None),
            _ => self.skip_number().map(|()| None),
        }
    }
    /// After a value: leaves the lists that end here. False once the outermost value has ended.
    fn skip_closers(&mut self, open: &mut Vec<u8>) -> Scan<bool> {
        while let Some(&close) = open.last() {
            if self.more(close)? {
                return Ok(true);
            }
            open.pop();
        }
        Ok(false)
    }
    fn skip_number(&mut self) -> Scan<()> {
        let rest = &self.text[self.at..];
        let length =
            rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        match length {
            Some(0) => Err(Fault::bad("not a json value")),
            None => Err(Fault::End),
            Some(length) => {
                self.at += length;
                Ok(())
            }
        }
    }
}

/// How many bytes from the start stand for themselves in a JSON string and are ASCII. May stop early
/// only at a byte that is a quote, a backslash, a control character or not ASCII.
#[inline]
fn plain_length(text: &[u8]) -> usize {
    let (words, _) = text.as_chunks::<8>();
    for (position, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return position * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let tail = words.len() * 8;
    let special = |&byte: &u8| !(0x20..0x80).contains(&byte) || byte == b'"' || byte == b'\\';
    tail + text[tail..].iter().position(special).unwrap_or(text.len() - tail)
}

/// The high bit of each byte of `word` that is a quote, a backslash, a control character or not ASCII.
///
/// Bits above the lowest one set may be wrong (borrows run upwards): only the first counts.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let control = word.wrapping_sub(ONES * 0x20);
    ((quote | backslash | control) & !word | word) & HIGH
}

/// Appends `bytes`, each one that is not valid UTF-8 as U+FFFD.
fn push_lossy(bytes: &[u8], text: &mut String) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
    }
}
