//! Changes of the table of definitions, as the bytes that engines write.
//! ```text
//! removed (1) ‖ bytes of the key (4) ‖ key ‖ bytes of the value (4) ‖ value, and the next one
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// Changes of the table of definitions, in order, of which all happen or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefinitionChanges {
    encoded: BytesMut,
}

impl DefinitionChanges {
    /// Sets one definition to a value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.add(key, Some(value));
    }

    /// Removes one definition; a missing one is fine.
    pub fn remove(&mut self, key: &[u8]) {
        self.add(key, None);
    }

    fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.encoded.put_u8(u8::from(value.is_none()));
        for part in [key, value.unwrap_or_default()] {
            self.encoded.put_u32_le(u32::try_from(part.len()).expect("a definition is shorter than 4 GiB"));
            self.encoded.put_slice(part);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Bytes that they take.
    pub fn len_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// Lets those of `other` follow.
    pub fn append(&mut self, other: DefinitionChanges) {
        self.encoded.unsplit(other.encoded);
    }

    /// Each of them: a key and its value, or none where it is removed.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        // What was put together here can be read.
        changes_in(&self.encoded).unwrap_or_default().into_iter()
    }

    /// Makes them in a table.
    pub(super) fn apply_to(&self, table: &mut BTreeMap<Bytes, Bytes>) {
        for (key, value) in self.iter() {
            match value {
                Some(value) => table.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)),
                None => table.remove(key),
            };
        }
    }

    /// As engines write them.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

/// A key and its value, or none where it is removed.
pub(super) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// The changes that these bytes say. `None` when they are not whole.
pub(super) fn changes_in(encoded: &[u8]) -> Option<Vec<Change<'_>>> {
    let (mut rest, mut changes) = (encoded, Vec::new());
    while let Some((&removed, behind)) = rest.split_first() {
        let (key, behind) = part_of(behind)?;
        let (value, behind) = part_of(behind)?;
        changes.push((key, (removed == 0).then_some(value)));
        rest = behind;
    }
    Some(changes)
}

fn part_of(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_in_order_and_others_are_none() {
        let (mut changes, mut more) = (DefinitionChanges::default(), DefinitionChanges::default());
        assert!(changes.is_empty());
        changes.put(b"a", b"1");
        more.remove(b"b");
        more.put(b"a", b"");
        changes.append(more);
        let encoded = changes.encoded();
        let expected: Vec<(&[u8], Option<&[u8]>)> = vec![(b"a", Some(b"1")), (b"b", None), (b"a", Some(b""))];
        assert_eq!(changes_in(encoded), Some(expected));
        let whole = [0, 11, 21];
        for end in 0..encoded.len() {
            assert_eq!(changes_in(&encoded[..end]).is_some(), whole.contains(&end), "cut at {end}");
        }
    }
}
