//! The fourteen properties of class basic (0-9-1 section 1.8.1): scanned on the hot path, decoded where they are changed.

use super::reader::{DecodeError, Reader, put_short_str};
use super::table::{FieldTable, ShortStr};

/// What the broker itself needs of a message's properties, read in one pass without allocating.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PropertyScan<'a> {
    /// The headers table's content, without its length.
    pub headers: Option<&'a [u8]>,
    /// Whether one of the headers is CC or BCC: more routing keys.
    pub has_copies: bool,
    /// Whether one of them is BCC, which is not passed on.
    pub has_blind_copies: bool,
    /// 1 is transient, 2 is persistent.
    pub delivery_mode: Option<u8>,
    /// 0 to 255, higher first.
    pub priority: Option<u8>,
    /// The queue for replies.
    pub reply_to: Option<&'a [u8]>,
    /// Time to live: decimal milliseconds, not checked yet.
    pub expiration: Option<&'a [u8]>,
    /// The user that the publisher says it is.
    pub user_id: Option<&'a [u8]>,
}

/// Property flags, from the highest bit down in the order of the property list (0-9-1 section 4.2.6.1).
mod flag {
    pub(super) const CONTENT_TYPE: u16 = 1 << 15;
    pub(super) const CONTENT_ENCODING: u16 = 1 << 14;
    pub(super) const HEADERS: u16 = 1 << 13;
    pub(super) const DELIVERY_MODE: u16 = 1 << 12;
    pub(super) const PRIORITY: u16 = 1 << 11;
    pub(super) const CORRELATION_ID: u16 = 1 << 10;
    pub(super) const REPLY_TO: u16 = 1 << 9;
    pub(super) const EXPIRATION: u16 = 1 << 8;
    pub(super) const MESSAGE_ID: u16 = 1 << 7;
    pub(super) const TIMESTAMP: u16 = 1 << 6;
    pub(super) const TYPE: u16 = 1 << 5;
    pub(super) const USER_ID: u16 = 1 << 4;
    pub(super) const APP_ID: u16 = 1 << 3;
    pub(super) const CLUSTER_ID: u16 = 1 << 2;
    pub(super) const UNKNOWN: u16 = 0b11;
}

/// Whether property flags and list, with whatever follows, have an expiration.
pub(super) fn have_expiration(properties: &[u8]) -> bool {
    properties.first_chunk().is_some_and(|flags| u16::from_be_bytes(*flags) & flag::EXPIRATION != 0)
}

/// The priority in property flags and list that were scanned before.
pub(super) fn priority(properties: &[u8]) -> Option<u8> {
    let mut reader = Reader::new(properties);
    let flags = reader.u16().ok()?;
    for bit in [flag::CONTENT_TYPE, flag::CONTENT_ENCODING] {
        if flags & bit != 0 {
            reader.short_str().ok()?;
        }
    }
    if flags & flag::HEADERS != 0 {
        reader.long_str().ok()?;
    }
    if flags & flag::DELIVERY_MODE != 0 {
        reader.u8().ok()?;
    }
    if flags & flag::PRIORITY != 0 { reader.u8().ok() } else { None }
}

impl<'a> PropertyScan<'a> {
    /// Scans property flags and list; header tables may be nested `depth_max` levels deep.
    ///
    /// # Errors
    /// When the bytes are no property list of class basic.
    pub fn of(properties: &'a [u8], depth_max: usize) -> Result<PropertyScan<'a>, DecodeError> {
        let mut reader = Reader::new(properties);
        let flags = reader.u16()?;
        if flags & flag::UNKNOWN != 0 {
            return Err(DecodeError::UnknownProperty(flags));
        }
        let mut scan = PropertyScan::default();
        let has = |bit: u16| flags & bit != 0;
        for bit in [flag::CONTENT_TYPE, flag::CONTENT_ENCODING] {
            if has(bit) {
                reader.short_str()?;
            }
        }
        if has(flag::HEADERS) {
            let table = reader.long_str()?;
            FieldTable::check_names(table, depth_max, |name| {
                scan.has_blind_copies |= name == b"BCC";
                scan.has_copies |= name == b"CC" || name == b"BCC";
            })?;
            scan.headers = Some(table);
        }
        if has(flag::DELIVERY_MODE) {
            scan.delivery_mode = Some(reader.u8()?);
        }
        if has(flag::PRIORITY) {
            scan.priority = Some(reader.u8()?);
        }
        if has(flag::CORRELATION_ID) {
            reader.short_str()?;
        }
        if has(flag::REPLY_TO) {
            scan.reply_to = Some(reader.short_str()?);
        }
        if has(flag::EXPIRATION) {
            scan.expiration = Some(reader.short_str()?);
        }
        if has(flag::MESSAGE_ID) {
            reader.short_str()?;
        }
        if has(flag::TIMESTAMP) {
            reader.u64()?;
        }
        if has(flag::TYPE) {
            reader.short_str()?;
        }
        if has(flag::USER_ID) {
            scan.user_id = Some(reader.short_str()?);
        }
        for bit in [flag::APP_ID, flag::CLUSTER_ID] {
            if has(bit) {
                reader.short_str()?;
            }
        }
        reader.finish()?;
        Ok(scan)
    }

    /// The expiration as a number; `None` when there is none or it is none. A publisher's bad one is refused before this
    /// matters.
    pub fn expiration_ms(&self) -> Option<u64> {
        // Signed, as a zero may be written "-0".
        let milliseconds: i64 = std::str::from_utf8(self.expiration?).ok()?.parse().ok()?;
        u64::try_from(milliseconds).ok()
    }
}

/// The properties as they stand in a message, of which those that 1.0 has no place for are left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawProperties<'a> {
    pub(super) content_type: Option<&'a [u8]>,
    pub(super) content_encoding: Option<&'a [u8]>,
    pub(super) headers: Option<&'a [u8]>,
    pub(super) delivery_mode: Option<u8>,
    pub(super) priority: Option<u8>,
    pub(super) correlation_id: Option<&'a [u8]>,
    pub(super) reply_to: Option<&'a [u8]>,
    pub(super) expiration: Option<&'a [u8]>,
    pub(super) message_id: Option<&'a [u8]>,
    pub(super) timestamp: Option<u64>,
    pub(super) kind: Option<&'a [u8]>,
    pub(super) user_id: Option<&'a [u8]>,
    pub(super) app_id: Option<&'a [u8]>,
}

impl<'a> RawProperties<'a> {
    /// Of property flags and list that were scanned before.
    pub(super) fn of(properties: &'a [u8]) -> RawProperties<'a> {
        let mut reader = Reader::new(properties);
        let flags = reader.u16().unwrap_or(0);
        let has = |bit: u16| flags & bit != 0;
        let text = |reader: &mut Reader<'a>, bit| has(bit).then(|| reader.short_str().ok()).flatten();
        // In the order of the list.
        RawProperties {
            content_type: text(&mut reader, flag::CONTENT_TYPE),
            content_encoding: text(&mut reader, flag::CONTENT_ENCODING),
            headers: has(flag::HEADERS).then(|| reader.long_str().ok()).flatten(),
            delivery_mode: has(flag::DELIVERY_MODE).then(|| reader.u8().ok()).flatten(),
            priority: has(flag::PRIORITY).then(|| reader.u8().ok()).flatten(),
            correlation_id: text(&mut reader, flag::CORRELATION_ID),
            reply_to: text(&mut reader, flag::REPLY_TO),
            expiration: text(&mut reader, flag::EXPIRATION),
            message_id: text(&mut reader, flag::MESSAGE_ID),
            timestamp: has(flag::TIMESTAMP).then(|| reader.u64().ok()).flatten(),
            kind: text(&mut reader, flag::TYPE),
            user_id: text(&mut reader, flag::USER_ID),
            app_id: text(&mut reader, flag::APP_ID),
        }
    }
}

/// All properties of AMQP 0-9-1's class basic, decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<ShortStr>,
    /// MIME encoding of the body.
    pub content_encoding: Option<ShortStr>,
    /// Headers, for the application and for headers exchanges.
    pub headers: Option<FieldTable>,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// Priority, 0 to 255.
    pub priority: Option<u8>,
    /// Which request a reply belongs to; for the application.
    pub correlation_id: Option<ShortStr>,
    /// The queue for replies.
    pub reply_to: Option<ShortStr>,
    /// Time to live in milliseconds, in decimal.
    pub expiration: Option<ShortStr>,
    /// The message's id, as the publisher chose it.
    pub message_id: Option<ShortStr>,
    /// Seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// `type`: the kind of message; for the application.
    pub kind: Option<ShortStr>,
    /// The publishing user, which the broker checks.
    pub user_id: Option<ShortStr>,
    /// The publishing application; for the application.
    pub app_id: Option<ShortStr>,
    /// Reserved by the specification, passed on.
    pub cluster_id: Option<ShortStr>,
}

impl Properties {
    /// Decodes property flags and list.
    ///
    /// # Errors
    /// When the bytes are no property list of class basic.
    pub fn decode(bytes: &[u8]) -> Result<Properties, DecodeError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u16()?;
        let has = |bit: u16| flags & bit != 0;
        let text = |reader: &mut Reader<'_>, bit: u16| -> Result<Option<ShortStr>, DecodeError> {
            if has(bit) { reader.short_str().map(|bytes| Some(bytes.into())) } else { Ok(None) }
        };
        let properties = Properties {
            content_type: text(&mut reader, flag::CONTENT_TYPE)?,
            content_encoding: text(&mut reader, flag::CONTENT_ENCODING)?,
            headers: if has(flag::HEADERS) {
                Some(FieldTable::decode(reader.long_str()?, usize::MAX)?)
            } else {
                None
            },
            delivery_mode: if has(flag::DELIVERY_MODE) { Some(reader.u8()?) } else { None },
            priority: if has(flag::PRIORITY) { Some(reader.u8()?) } else { None },
            correlation_id: text(&mut reader, flag::CORRELATION_ID)?,
            reply_to: text(&mut reader, flag::REPLY_TO)?,
            expiration: text(&mut reader, flag::EXPIRATION)?,
            message_id: text(&mut reader, flag::MESSAGE_ID)?,
            timestamp: if has(flag::TIMESTAMP) { Some(reader.u64()?) } else { None },
            kind: text(&mut reader, flag::TYPE)?,
            user_id: text(&mut reader, flag::USER_ID)?,
            app_id: text(&mut reader, flag::APP_ID)?,
            cluster_id: text(&mut reader, flag::CLUSTER_ID)?,
        };
        reader.finish()?;
        Ok(properties)
    }

    /// Appends property flags and list.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut flags = 0u16;
        out.extend_from_slice(&[0; 2]);
        let mut text = |out: &mut Vec<u8>, value: &Option<ShortStr>, bit: u16| {
            if let Some(value) = value {
                flags |= bit;
                put_short_str(value, out);
            }
        };
        text(out, &self.content_type, flag::CONTENT_TYPE);
        text(out, &self.content_encoding, flag::CONTENT_ENCODING);
        if let Some(headers) = &self.headers {
            out.extend_from_slice(&[0; 4]);
            let table_start = out.len();
            headers.encode(out);
            let length = u32::try_from(out.len() - table_start).expect("headers are shorter than 4 GiB");
            out[table_start - 4..table_start].copy_from_slice(&length.to_be_bytes());
        }
        out.extend(self.delivery_mode);
        out.extend(self.priority);
        text(out, &self.correlation_id, flag::CORRELATION_ID);
        text(out, &self.reply_to, flag::REPLY_TO);
        text(out, &self.expiration, flag::EXPIRATION);
        text(out, &self.message_id, flag::MESSAGE_ID);
        if let Some(timestamp) = self.timestamp {
            out.extend_from_slice(&timestamp.to_be_bytes());
        }
        text(out, &self.kind, flag::TYPE);
        text(out, &self.user_id, flag::USER_ID);
        text(out, &self.app_id, flag::APP_ID);
        text(out, &self.cluster_id, flag::CLUSTER_ID);
        for (present, bit) in [
            (self.headers.is_some(), flag::HEADERS),
            (self.delivery_mode.is_some(), flag::DELIVERY_MODE),
            (self.priority.is_some(), flag::PRIORITY),
            (self.timestamp.is_some(), flag::TIMESTAMP),
        ] {
            if present {
                flags |= bit;
            }
        }
        out[start..start + 2].copy_from_slice(&flags.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Value;

    fn all_set() -> Properties {
        Properties {
            content_type: Some("text/plain".into()),
            content_encoding: Some("utf-8".into()),
            headers: Some([("h", Value::from("v"))].into_iter().collect()),
            delivery_mode: Some(2),
            priority: Some(3),
            correlation_id: Some("c".into()),
            reply_to: Some("r".into()),
            expiration: Some("1000".into()),
            message_id: Some("m".into()),
            timestamp: Some(1),
            kind: Some("k".into()),
            user_id: Some("guest".into()),
            app_id: Some("a".into()),
            cluster_id: Some("x".into()),
        }
    }

    #[test]
    fn all_properties_come_back() {
        let mut bytes = Vec::new();
        all_set().encode(&mut bytes);
        assert_eq!(Properties::decode(&bytes).unwrap(), all_set());
        let scan = PropertyScan::of(&bytes, 1).unwrap();
        assert_eq!((scan.delivery_mode, scan.priority, scan.expiration_ms()), (Some(2), Some(3), Some(1000)));
        assert_eq!((scan.reply_to, scan.user_id), (Some(&b"r"[..]), Some(&b"guest"[..])));
        assert_eq!(priority(&bytes), Some(3));
        for without in [Properties { priority: None, ..all_set() }, Properties::default()] {
            let mut bytes = Vec::new();
            without.encode(&mut bytes);
            assert_eq!(priority(&bytes), None);
        }
        let mut bytes = Vec::new();
        Properties { priority: Some(9), ..Properties::default() }.encode(&mut bytes);
        assert_eq!(priority(&bytes), Some(9));
    }

    #[test]
    fn cut_or_unknown_properties_are_refused() {
        let mut bytes = Vec::new();
        all_set().encode(&mut bytes);
        for end in 0..bytes.len() {
            assert!(PropertyScan::of(&bytes[..end], 9).is_err(), "cut at {end}");
        }
        assert_eq!(PropertyScan::of(&[0, 1], 9), Err(DecodeError::UnknownProperty(1)));
        bytes.push(0);
        assert_eq!(PropertyScan::of(&bytes, 9), Err(DecodeError::Trailing(1)));
    }
}
