//! A cursor over bytes that came from outside: every read is checked, none panics.

use super::ShortStr;

/// Why bytes could not be read as what they were said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("the data ends before the value does")]
    Truncated,
    /// A field value's type tag that RabbitMQ does not know.
    #[error("unknown field type {0:#04x}")]
    UnknownFieldType(u8),
    /// Tables or arrays nested deeper than the limit.
    #[error("field tables are nested deeper than {0} levels")]
    TooDeep(usize),
    /// A property flag word that announces properties which class basic does not have.
    #[error("unknown property flags {0:#06x}")]
    UnknownProperty(u16),
    /// Bytes are left after the last value.
    #[error("{0} bytes are left after the last value")]
    Trailing(usize),
    /// A name that has to be text is not UTF-8.
    #[error("a name is not valid UTF-8")]
    NotUtf8,
    /// A routing key of that many bytes.
    #[error("a routing key has {0} bytes, where 65535 are possible")]
    RoutingKeyTooLong(usize),
    /// A stored message in a format of a later version.
    #[error("the message is in format {0}, which this version of Leveret does not know")]
    UnknownFormat(u8),
}

/// Reads big-endian values off the front of a slice (0-9-1 section 4.2.5).
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! read_number {
    ($($name:ident $type:ty),*) => {$(
        #[doc = concat!("Reads one big-endian `", stringify!($type), "`.\n\n# Errors\nWhen the bytes end first.")]
        #[inline]
        pub fn $name(&mut self) -> Result<$type, DecodeError> {
            let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
            self.rest = rest;
            Ok(<$type>::from_be_bytes(*head))
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    read_number!(u8 u8, u16 u16, u32 u32, u64 u64, i8 i8, i16 i16, i32 i32, i64 i64, f32 f32, f64 f64);

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes a short string: one length byte, then the text.
    ///
    /// # Errors
    /// When the bytes end first.
    #[inline]
    pub fn short_str(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u8()?;
        self.take(length as usize)
    }

    /// Takes a long string, or the content of a table or array: a four-byte length, then that many bytes.
    ///
    /// # Errors
    /// When the bytes end first.
    pub fn long_str(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// What has not been read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that everything has been read.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }
}

/// Appends a short string. Longer text than 255 bytes is cut there.
pub(super) fn put_short_str(text: &ShortStr, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&bytes[..length as usize]);
}
