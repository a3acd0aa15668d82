//! Rows of a binary COPY out of PostgreSQL, decoded as they arrive. Knows the wire and no table.
//!
//! A row is far cheaper this way than through a query's answer, and nothing is kept of it: one chunk
//! of the server's is in memory at a time.

use std::pin::Pin;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::StreamExt as _;
use tokio_postgres::CopyOutStream;

use super::Error;
use crate::core::store::postgres::numeric::integer_from_sql;

/// How the stream begins.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags and the length of an extension that no server sends.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// The field count of the row behind the last one.
const END: i16 = -1;

/// The rows of one COPY, in their order.
pub struct Rows {
    stream: Pin<Box<CopyOutStream>>,
    /// Received and not read yet.
    waiting: Bytes,
    is_begun: bool,
}

/// One row. Its fields are read in their order.
pub struct Row {
    bytes: Bytes,
    at: usize,
}

/// What a field is not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

impl Rows {
    /// Of a stream that nothing was read of.
    pub fn new(stream: CopyOutStream) -> Self {
        Self {
            stream: Box::pin(stream),
            waiting: Bytes::new(),
            is_begun: false,
        }
    }

    /// The next row, or `None` behind the last one.
    pub async fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            if !self.is_begun && self.waiting.len() >= HEADER_BYTES {
                if !self.waiting.starts_with(SIGNATURE) {
                    return Err(Error::Failed("the server sent no binary COPY".into()));
                }
                self.waiting.advance(HEADER_BYTES);
                self.is_begun = true;
            }
            if self.is_begun
                && let Some(length) = length_of_row(&self.waiting)
            {
                let bytes = self.waiting.split_to(length);
                return Ok((length > size_of::<i16>()).then_some(Row { bytes, at: 2 }));
            }
            match self.stream.next().await {
                Some(chunk) => self.take(chunk?),
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self, chunk: Bytes) {
        // The server sends whole rows, so that nothing is copied.
        if self.waiting.is_empty() {
            self.waiting = chunk;
            return;
        }
        let mut both = BytesMut::with_capacity(self.waiting.len() + chunk.len());
        both.extend_from_slice(&self.waiting);
        both.extend_from_slice(&chunk);
        self.waiting = both.freeze();
    }
}

/// Bytes of the first row, if all of it is there. The end is a row of two bytes.
fn length_of_row(bytes: &[u8]) -> Option<usize> {
    let count = i16::from_be_bytes(*bytes.first_chunk()?);
    let mut at = 2;
    if count == END {
        return Some(at);
    }
    for _ in 0..count {
        let length = i32::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
        at += 4 + usize::try_from(length).unwrap_or(0);
    }
    (at <= bytes.len()).then_some(at)
}

impl Row {
    /// The bytes of the next field; `None`: NULL.
    pub fn field(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let rest = &self.bytes[self.at..];
        let Some((length, rest)) = rest.split_first_chunk() else {
            return Err(Malformed("a row has too few fields"));
        };
        self.at += 4;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            return Ok(None);
        };
        self.at += length;
        match rest.get(..length) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(Malformed("a field is cut short")),
        }
    }

    fn value(&mut self) -> Result<&[u8], Malformed> {
        self.field()?.ok_or(Malformed("a field is NULL"))
    }

    /// A number of a fixed width.
    pub fn number<T: Wire>(&mut self) -> Result<T, Malformed> {
        T::decode(self.value()?)
    }

    /// Bytes.
    pub fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        Ok(self.value()?.to_vec())
    }

    /// 16 bytes.
    pub fn hash(&mut self) -> Result<[u8; 16], Malformed> {
        let bytes = self.value()?.try_into();
        bytes.map_err(|_| Malformed("a hash has not 16 bytes"))
    }

    /// An array of one dimension without NULLs.
    pub fn array<T: Wire>(&mut self) -> Result<Vec<T>, Malformed> {
        const CUT: Malformed = Malformed("an array is cut short");
        let bytes = self.value()?;
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
            word.map(|word| i32::from_be_bytes(*word)).ok_or(CUT)
        };
        // Dimensions, whether there are NULLs, the type; then length and first index of each.
        match word(0)? {
            0 => return Ok(Vec::new()),
            1 => {}
            _ => return Err(Malformed("an array has several dimensions")),
        }
        let count = usize::try_from(word(12)?).map_err(|_| CUT)?;
        let mut rest = bytes.get(20..).ok_or(CUT)?;
        // Each element has a length: what is announced is there.
        let mut values = Vec::with_capacity(count.min(rest.len() / 4));
        for _ in 0..count {
            let (length, behind) = rest.split_first_chunk().ok_or(CUT)?;
            let length = usize::try_from(i32::from_be_bytes(*length))
                .map_err(|_| Malformed("an array holds NULL"))?;
            let (value, behind) = behind.split_at_checked(length).ok_or(CUT)?;
            values.push(T::decode(value)?);
            rest = behind;
        }
        Ok(values)
    }
}

/// A number as it is on the wire.
pub trait Wire: Sized {
    /// From exactly its bytes.
    fn decode(bytes: &[u8]) -> Result<Self, Malformed>;
}

macro_rules! wire {
    ($($integer:ty),*) => {$(
        impl Wire for $integer {
            fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
                let bytes = bytes.try_into();
                bytes.map(Self::from_be_bytes).map_err(|_| Malformed("a number has another width"))
            }
        }
    )*};
}
wire!(i16, i32, i64);

/// A NUMERIC without a fraction.
impl Wire for i128 {
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        integer_from_sql(bytes).map_err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = i16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for field in fields {
            let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(field.unwrap_or_default());
        }
        bytes
    }

    fn array(elements: &[&[u8]]) -> Vec<u8> {
        let head = [1, 0, 20, i32::try_from(elements.len()).unwrap(), 1];
        let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_be_bytes()).collect();
        for element in elements {
            bytes.extend_from_slice(&i32::try_from(element.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(element);
        }
        bytes
    }

    fn open(bytes: Vec<u8>) -> Row {
        assert_eq!(length_of_row(&bytes), Some(bytes.len()));
        let bytes = Bytes::from(bytes);
        Row { bytes, at: 2 }
    }

    #[test]
    fn fields_are_read_in_their_order() {
        let numbers = array(&[&7_i64.to_be_bytes(), &(-1_i64).to_be_bytes()]);
        let mut row = open(row(&[
            Some(&5_i16.to_be_bytes()),
            None,
            Some(&numbers),
            Some(&[0; 12]),
        ]));
        assert_eq!(row.number(), Ok(5_i16));
        assert_eq!(row.field(), Ok(None));
        assert_eq!(row.array(), Ok(vec![7_i64, -1]));
        assert_eq!(row.array::<i32>(), Ok(Vec::new()));
        assert!(row.number::<i16>().is_err(), "there is no fifth field");
    }

    #[test]
    fn what_is_cut_short_is_said_so_wherever_it_is_cut() {
        let numbers = array(&[&7_i64.to_be_bytes(), &8_i64.to_be_bytes()]);
        let whole = row(&[Some(&numbers)]);
        for length in 0..whole.len() {
            assert_eq!(length_of_row(&whole[..length]), None);
        }
        for length in 4..numbers.len() {
            let mut row = open(row(&[Some(&numbers[..length])]));
            assert!(row.array::<i64>().is_err(), "{length} bytes of an array");
        }
        let mut of_nulls = open(row(&[Some(&[&numbers[..20], &[255; 4]].concat())]));
        assert!(of_nulls.array::<i64>().is_err());
    }
}
