//! The messages of `snapshotmetadata.SnapshotMetadata`, in protobuf's wire form: two requests, one shape of answer.
//!
//! By hand, since there are but nine fields. What comes from outside is bounded: lengths by the text, unknown
//! fields are passed over.

use crate::error::{Error, ErrorKind, Result};

/// A range of bytes that is allocated, or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) offset: i64,
    pub(super) length: i64,
}

/// One message of the answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// 1: all ranges have one length; 2: they do not.
    pub(super) block_type: u64,
    pub(super) capacity_bytes: i64,
    pub(super) ranges: Vec<Range>,
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// Appends a text field; an empty one is left out.
pub(super) fn put_text(field: u64, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_varint(field << 3 | BYTES, out);
        put_varint(text.len() as u64, out);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Appends a number that is not negative; 0 is left out.
pub(super) fn put_number(field: u64, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        put_varint(field << 3 | VARINT, out);
        put_varint(number, out);
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads one message of the answer.
///
/// # Errors
/// `Storage` for what is no such message.
pub(super) fn read_answer(message: &[u8]) -> Result<Answer> {
    let mut answer = Answer::default();
    for_each_field(message, &mut |field, value| {
        match (field, value) {
            (1, Value::Number(number)) => answer.block_type = number,
            (2, Value::Number(number)) => answer.capacity_bytes = number.cast_signed(),
            (3, Value::Bytes(bytes)) => answer.ranges.push(read_range(bytes)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(answer)
}

fn read_range(message: &[u8]) -> Result<Range> {
    let mut range = Range { offset: 0, length: 0 };
    for_each_field(message, &mut |field, value| {
        match (field, value) {
            (1, Value::Number(number)) => range.offset = number.cast_signed(),
            (2, Value::Number(number)) => range.length = number.cast_signed(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(range)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

fn for_each_field<'a>(mut rest: &'a [u8], each: &mut dyn FnMut(u64, Value<'a>) -> Result<()>) -> Result<()> {
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        let value = match key & 7 {
            VARINT => Value::Number(take_varint(&mut rest)?),
            BYTES => {
                let length = take_varint(&mut rest)?;
                Value::Bytes(take(&mut rest, usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            FIXED64 => take(&mut rest, 8).map(|_| Value::Other)?,
            FIXED32 => take(&mut rest, 4).map(|_| Value::Other)?,
            _ => return Err(malformed()),
        };
        each(key >> 3, value)?;
    }
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).ok_or_else(malformed)?;
    *rest = left;
    Ok(taken)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, left) = rest.split_first().ok_or_else(malformed)?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn malformed() -> Error {
    Error::new(ErrorKind::Storage, "the changed-block service sent what is no message of it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_protobufs() {
        let mut request = Vec::new();
        put_text(1, "tok", &mut request);
        put_text(2, "", &mut request);
        put_number(4, 300, &mut request);
        assert_eq!(request, [0x0a, 3, b't', b'o', b'k', 0x20, 0xac, 0x02]);
        let answer = [0x08, 2, 0x10, 0x80, 0x08, 0x1a, 4, 0x08, 5, 0x10, 7, 0x25, 1, 2, 3, 4];
        let expected =
            Answer { block_type: 2, capacity_bytes: 1024, ranges: vec![Range { offset: 5, length: 7 }] };
        assert_eq!(read_answer(&answer).expect("whole"), expected);
        let negative = [0x1a, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read_answer(&negative).expect("whole").ranges[0].offset, -1);
        assert!(read_answer(&answer[..7]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes: Vec<u8>) {
            let _ = read_answer(&bytes);
        }
    }
}
