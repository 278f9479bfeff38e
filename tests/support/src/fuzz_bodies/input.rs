//! Reads what a body does out of its bytes.

/// What is left of the bytes.
#[derive(Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; `None` at the end.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// Up to 255 bytes, behind one that says how many. What is too long ends at the end.
    pub(super) fn short(&mut self) -> &'a [u8] {
        let length = self.byte().unwrap_or_default();
        self.take(length.into())
    }

    /// Up to 65535 bytes, behind two that say how many.
    pub(super) fn long(&mut self) -> &'a [u8] {
        let length = u16::from_be_bytes([self.byte().unwrap_or_default(), self.byte().unwrap_or_default()]);
        self.take(length.into())
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        piece
    }
}
