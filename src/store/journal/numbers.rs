//! Numbers of a record, LEB128: seven bits a byte, the lowest first, the high bit set in all but the last.

/// Bytes of the largest number as LEB128.
const NUMBER_BYTES_MAX: usize = 10;

/// The number that these bytes begin with, and how many of them are its own; `None` when they end before it does.
#[inline]
pub(in crate::store) fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    // Most are: lengths, counts, and the ids of the first queues.
    if let Some(&byte @ ..0x80) = bytes.first() {
        return Some((byte.into(), 1));
    }
    if let Some(next) = bytes.first_chunk()
        && let Some(found) = read_short(u64::from_le_bytes(*next))
    {
        return Some(found);
    }
    let mut number = 0;
    for (byte, at) in bytes.iter().zip(0..NUMBER_BYTES_MAX) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, at + 1));
        }
    }
    None
}

/// The same for eight bytes; `None` when the number goes on behind them. All at once: byte by byte, numbers would be most of what
/// applying a record takes.
#[inline]
fn read_short(bytes: u64) -> Option<(u64, usize)> {
    let ends = !bytes & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    // Everything up to the first byte without the high bit.
    let own = bytes & (ends ^ (ends - 1));
    // Sevens of bits move together: by pairs, by pairs of pairs, and so on.
    let sevens = own & 0x7f7f_7f7f_7f7f_7f7f;
    let pairs = (sevens & 0x007f_007f_007f_007f) | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    let all = (fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4;
    Some((all, ends.trailing_zeros() as usize / 8 + 1))
}

/// A few bytes and at most four numbers, put together before they are appended at once.
pub(in crate::store) struct Numbers {
    bytes: [u8; 5 + 4 * NUMBER_BYTES_MAX],
    len: usize,
}

impl Numbers {
    pub(in crate::store) const fn new() -> Numbers {
        Numbers { bytes: [0; 5 + 4 * NUMBER_BYTES_MAX], len: 0 }
    }

    #[inline]
    pub(in crate::store) fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    pub(in crate::store) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    #[inline]
    pub(in crate::store) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_whatever_is_behind_them() {
        let ends = (0..64).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits, (1 << bits) | 1]);
        for number in ends.chain([u64::MAX, 0x0123_4567_89ab_cdef]) {
            let mut encoded = Numbers::new();
            encoded.number(number);
            for behind in [&[][..], &[0; 9], &[0xff; 9]] {
                let bytes = [encoded.as_bytes(), behind].concat();
                assert_eq!(read(&bytes), Some((number, encoded.len)), "{bytes:x?}");
            }
            let cut = &encoded.as_bytes()[..encoded.len - 1];
            assert_eq!(read(cut), None, "{cut:x?}");
        }
        assert_eq!(read(&[0xff; 20]), None);
    }
}
