//! An entry of AMQP 1.0 as a message of 0-9-1.

use super::types::{Elements, Encoded, skip};
use super::{DEPTH_MAX, EntryError, QUEUES, TYPE_OF_VALUES, VALUES_MAX, annotation, section};
use crate::message::{FORMAT_AMQP_091, FieldTable, Message, Properties, Reader, ShortStr, Value};
use std::borrow::Cow;

/// Makes a message of 0-9-1 of one that came as an entry of the stream protocol; one of 0-9-1 is that already.
///
/// # Errors
/// When the entry is no message of AMQP 1.0, or has more values than are read, or deeper ones.
pub fn to_091(message: &Message) -> Result<Message, EntryError> {
    if message.format() == FORMAT_AMQP_091 {
        return Ok(message.clone());
    }
    let sections = Sections::of(message.body())?;
    let mut found = Found::default();
    if let Some(header) = sections.header {
        found.take_header(header)?;
    }
    if let Some(annotations) = sections.annotations {
        found.take_annotations(annotations)?;
    }
    if let Some(properties) = sections.properties {
        found.take_properties(properties)?;
    }
    if let Some(application) = sections.application {
        found.take_application_properties(application)?;
    }
    if !sections.is_data {
        found.properties.kind = Some(TYPE_OF_VALUES.into());
    }
    let body = sections.body()?;
    found.properties.headers = table(found.headers);
    let mut properties = Vec::new();
    found.properties.encode(&mut properties);
    let (exchange, routing_key) = match &found.routing_key {
        Some(routing_key) => (found.exchange.as_deref().unwrap_or_default(), routing_key.as_bytes()),
        None => (found.exchange.as_deref().unwrap_or_default(), message.routing_key()),
    };
    let converted = Message::new(exchange, routing_key, &properties, &body);
    Ok(converted.expect("properties that were just encoded are sound, and the routing key is short"))
}

/// Whether these bytes are sections of a body of values.
pub(super) fn is_body(bytes: &[u8]) -> bool {
    Sections::of(bytes).is_ok_and(|sections| {
        let Sections { header, annotations, properties, application, bytes: _, is_data, is_body } = sections;
        let is_other = [header, annotations, properties, application].iter().any(Option::is_some);
        !is_data && is_body && !is_other
    })
}

/// The sections of an entry.
struct Sections<'a> {
    header: Option<Elements<'a>>,
    annotations: Option<Elements<'a>>,
    properties: Option<Elements<'a>>,
    application: Option<Elements<'a>>,
    /// All of it.
    bytes: &'a [u8],
    /// Nothing in the body is a value or sequence.
    is_data: bool,
    /// Nothing but sections of a body is there.
    is_body: bool,
}

impl<'a> Sections<'a> {
    fn of(bytes: &'a [u8]) -> Result<Sections<'a>, EntryError> {
        let mut sections = Sections {
            header: None,
            annotations: None,
            properties: None,
            application: None,
            bytes,
            is_data: true,
            is_body: true,
        };
        let mut reader = Reader::new(bytes);
        if reader.is_empty() {
            return Err(EntryError::Empty);
        }
        while !reader.is_empty() {
            let section = descriptor(&mut reader, bytes)?;
            sections.take(section, &mut reader)?;
        }
        Ok(sections)
    }

    fn take(&mut self, section: u8, reader: &mut Reader<'a>) -> Result<(), EntryError> {
        let wrong = EntryError::WrongSection { section };
        let is_body = matches!(section, section::DATA | section::SEQUENCE | section::VALUE);
        self.is_body &= is_body;
        self.is_data &= !is_body || section == section::DATA;
        match section {
            section::VALUE => return skip(reader),
            section::DELIVERY_ANNOTATIONS | section::FOOTER => return skip(reader),
            _ => {}
        }
        let value = Encoded::read(reader)?;
        match (section, value) {
            (section::DATA, Encoded::Binary(_)) | (section::SEQUENCE, Encoded::List(_)) => {}
            (section::HEADER, Encoded::List(list)) => self.header = Some(list),
            (section::PROPERTIES, Encoded::List(list)) => self.properties = Some(list),
            (section::MESSAGE_ANNOTATIONS, Encoded::Map(map)) => self.annotations = Some(map),
            (section::APPLICATION_PROPERTIES, Encoded::Map(map)) => self.application = Some(map),
            _ => return Err(wrong),
        }
        Ok(())
    }

    /// The body: what the data sections have, or all sections of it as they are where there are others.
    fn body(&self) -> Result<Cow<'a, [u8]>, EntryError> {
        let mut body = Cow::Borrowed(&[][..]);
        let mut reader = Reader::new(self.bytes);
        while !reader.is_empty() {
            let before = reader.rest();
            let section = descriptor(&mut reader, self.bytes)?;
            let part = match section {
                section::DATA if self.is_data => Encoded::read(&mut reader)?.text().unwrap_or_default(),
                section::DATA | section::SEQUENCE | section::VALUE => {
                    skip(&mut reader)?;
                    &before[..before.len() - reader.rest().len()]
                }
                _ => {
                    skip(&mut reader)?;
                    continue;
                }
            };
            match &mut body {
                Cow::Borrowed([]) => body = Cow::Borrowed(part),
                body => body.to_mut().extend_from_slice(part),
            }
        }
        Ok(body)
    }
}

/// Reads which section follows.
fn descriptor(reader: &mut Reader<'_>, all: &[u8]) -> Result<u8, EntryError> {
    let at = all.len() - reader.rest().len();
    let wrong = EntryError::NotASection { at };
    if reader.u8()? != 0x00 {
        return Err(wrong);
    }
    let number = match Encoded::read(reader)? {
        Encoded::Unsigned(64, number) => number.try_into().map_err(|_| wrong)?,
        Encoded::Symbol(name) => match name {
            b"amqp:header:list" => section::HEADER,
            b"amqp:delivery-annotations:map" => section::DELIVERY_ANNOTATIONS,
            b"amqp:message-annotations:map" => section::MESSAGE_ANNOTATIONS,
            b"amqp:properties:list" => section::PROPERTIES,
            b"amqp:application-properties:map" => section::APPLICATION_PROPERTIES,
            b"amqp:data:binary" => section::DATA,
            b"amqp:amqp-sequence:list" => section::SEQUENCE,
            b"amqp:amqp-value:*" => section::VALUE,
            b"amqp:footer:map" => section::FOOTER,
            _ => return Err(wrong),
        },
        _ => return Err(wrong),
    };
    if (section::HEADER..=section::FOOTER).contains(&number) { Ok(number) } else { Err(wrong) }
}

/// What has been found of a message.
#[derive(Default)]
struct Found {
    exchange: Option<String>,
    routing_key: Option<ShortStr>,
    properties: Properties,
    headers: Vec<(ShortStr, Value)>,
    /// How many values have been read.
    values: usize,
}

impl Found {
    fn take_header(&mut self, mut fields: Elements<'_>) -> Result<(), EntryError> {
        if let Some(Encoded::Bool(durable)) = fields.next()? {
            self.properties.delivery_mode = Some(if durable { 2 } else { 1 });
        }
        if let Some(Encoded::Unsigned(8, priority)) = fields.next()? {
            self.properties.priority = u8::try_from(priority).ok();
        }
        if let Some(Encoded::Unsigned(32, ms)) = fields.next()? {
            self.properties.expiration = Some(ms.to_string().as_str().into());
        }
        Ok(())
    }

    fn take_annotations(&mut self, mut map: Elements<'_>) -> Result<(), EntryError> {
        while let Some((key, value)) = map.next_pair()? {
            self.count(2)?;
            let Some(name) = name(key).filter(|name| name.starts_with("x-")) else { continue };
            let text = || value.text().map(<[u8]>::to_vec);
            let short = || value.text().and_then(short);
            match name {
                annotation::EXCHANGE => {
                    let exchange = text().and_then(|text| String::from_utf8(text).ok());
                    self.exchange = exchange.filter(|exchange| exchange.len() <= usize::from(u8::MAX));
                }
                annotation::ROUTING_KEY => self.routing_key = short(),
                annotation::TYPE => self.properties.kind = short(),
                annotation::APP_ID => self.properties.app_id = short(),
                annotation::EXPIRATION => self.properties.expiration = short(),
                annotation::PRIORITY => self.properties.priority = byte(value),
                annotation::DELIVERY_MODE => self.properties.delivery_mode = byte(value),
                annotation::COPIES => {
                    let copies = self.value(value, DEPTH_MAX)?;
                    self.headers.push(("CC".into(), copies));
                }
                annotation::DEATHS => {}
                name if name.starts_with(annotation::BASIC) => {}
                name => self.add_header(name, value)?,
            }
        }
        Ok(())
    }

    fn take_properties(&mut self, mut fields: Elements<'_>) -> Result<(), EntryError> {
        let mut field = || fields.next().map(|field| field.filter(|field| !matches!(field, Encoded::Null)));
        let (message_id, user_id) = (field()?, field()?);
        let (_to, _subject) = (field()?, field()?);
        let (reply_to, correlation_id) = (field()?, field()?);
        let (content_type, content_encoding) = (field()?, field()?);
        let (_expires_at, created_at, group_id) = (field()?, field()?, field()?);
        self.properties.message_id = self.id("x-message-id", message_id);
        self.properties.correlation_id = self.id("x-correlation-id", correlation_id);
        self.properties.user_id = self.short("x-user-id", user_id);
        self.properties.content_type = self.short("x-content-type", content_type);
        self.properties.content_encoding = self.short("x-content-encoding", content_encoding);
        if group_id.is_some() {
            self.properties.app_id = self.short("x-app-id", group_id);
        }
        if let Some(Encoded::Timestamp(ms)) = created_at {
            self.properties.timestamp = Some(seconds(ms));
        }
        if let Some(address) = reply_to.and_then(Encoded::text) {
            let name = match address.strip_prefix(QUEUES.as_bytes()) {
                Some(queue) => percent_decoded(queue).map_or(Cow::Borrowed(address), Cow::Owned),
                None => Cow::Borrowed(address),
            };
            self.properties.reply_to = self.short("x-reply-to", Some(Encoded::Text(&name)));
        }
        Ok(())
    }

    fn take_application_properties(&mut self, mut map: Elements<'_>) -> Result<(), EntryError> {
        while let Some((key, value)) = map.next_pair()? {
            self.count(2)?;
            match name(key) {
                Some(annotation::TYPE) => self.properties.kind = value.text().and_then(short),
                Some(annotation::APP_ID) => self.properties.app_id = value.text().and_then(short),
                Some(name) => self.add_header(name, value)?,
                None => {}
            }
        }
        Ok(())
    }

    fn add_header(&mut self, name: &str, value: Encoded<'_>) -> Result<(), EntryError> {
        let value = self.value(value, DEPTH_MAX)?;
        // Headers have names of up to 255 bytes.
        self.headers.extend(short(name.as_bytes()).map(|name| (name, value)));
        Ok(())
    }

    /// A property that is a short string. One that is too long becomes the header of that name.
    fn short(&mut self, header: &str, value: Option<Encoded<'_>>) -> Option<ShortStr> {
        let text = value?.text()?;
        let is_short = short(text);
        if is_short.is_none() {
            self.headers.push((header.into(), Value::LongStr(text.to_vec())));
        }
        is_short
    }

    /// An id, which may be text, a number or a UUID. One that is bytes becomes the header of that name.
    fn id(&mut self, header: &str, value: Option<Encoded<'_>>) -> Option<ShortStr> {
        match value? {
            Encoded::Unsigned(_, number) => Some(number.to_string().as_str().into()),
            Encoded::Uuid(uuid) => Some(uuid_text(uuid).as_str().into()),
            Encoded::Binary(bytes) => {
                self.headers.push((header.into(), Value::Bytes(bytes.to_vec())));
                None
            }
            text => self.short(header, Some(text)),
        }
    }

    fn count(&mut self, values: usize) -> Result<(), EntryError> {
        self.values += values;
        if self.values > VALUES_MAX { Err(EntryError::TooMany) } else { Ok(()) }
    }

    /// A header's value.
    fn value(&mut self, value: Encoded<'_>, depth_max: usize) -> Result<Value, EntryError> {
        Ok(match value {
            Encoded::Null => Value::Void,
            Encoded::Bool(flag) => Value::Bool(flag),
            Encoded::Unsigned(8, number) => Value::U8(number as u8),
            Encoded::Unsigned(16, number) => Value::U16(number as u16),
            Encoded::Unsigned(32, number) => Value::U32(number as u32),
            Encoded::Unsigned(_, number) => match i64::try_from(number) {
                Ok(number) => Value::I64(number),
                Err(_) => Value::from(number.to_string().as_str()),
            },
            Encoded::Signed(8, number) => Value::I8(number as i8),
            Encoded::Signed(16, number) => Value::I16(number as i16),
            Encoded::Signed(32, number) => Value::I32(number as i32),
            Encoded::Signed(_, number) => Value::I64(number),
            Encoded::F32(number) => Value::F32(number),
            Encoded::F64(number) => Value::F64(number),
            Encoded::Char(code) => {
                Value::from(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).to_string().as_str())
            }
            Encoded::Timestamp(ms) => Value::Timestamp(seconds(ms)),
            Encoded::Uuid(uuid) => Value::from(uuid_text(uuid).as_str()),
            Encoded::Decimal(bytes) => Value::Bytes(bytes.to_vec()),
            Encoded::Binary(bytes) | Encoded::Text(bytes) | Encoded::Symbol(bytes) => {
                Value::LongStr(bytes.to_vec())
            }
            Encoded::List(mut elements) | Encoded::Array(mut elements) => {
                let depth_max = depth_max.checked_sub(1).ok_or(EntryError::TooDeep)?;
                let mut values = Vec::new();
                while let Some(element) = elements.next()? {
                    self.count(1)?;
                    values.push(self.value(element, depth_max)?);
                }
                Value::Array(values)
            }
            Encoded::Map(mut elements) => {
                let depth_max = depth_max.checked_sub(1).ok_or(EntryError::TooDeep)?;
                let mut fields = Vec::new();
                while let Some((key, value)) = elements.next_pair()? {
                    self.count(2)?;
                    let value = self.value(value, depth_max)?;
                    fields
                        .extend(name(key).and_then(|name| short(name.as_bytes())).map(|name| (name, value)));
                }
                Value::Table(fields.into_iter().collect())
            }
        })
    }
}

/// Headers in the order of their names; of those with one name the first.
fn table(mut headers: Vec<(ShortStr, Value)>) -> Option<FieldTable> {
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    headers.dedup_by(|(later, _), (first, _)| later == first);
    (!headers.is_empty()).then(|| headers.into_iter().collect())
}

fn name(key: Encoded<'_>) -> Option<&str> {
    match key {
        Encoded::Text(name) | Encoded::Symbol(name) => std::str::from_utf8(name).ok(),
        _ => None,
    }
}

fn short(text: &[u8]) -> Option<ShortStr> {
    (text.len() <= usize::from(u8::MAX)).then(|| text.into())
}

fn byte(value: Encoded<'_>) -> Option<u8> {
    match value {
        Encoded::Unsigned(_, number) => number.try_into().ok(),
        _ => None,
    }
}

/// Milliseconds as seconds; before the epoch there are none.
fn seconds(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0) / 1000
}

fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = String::from("urn:uuid:");
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || char::from(*bytes.next()?).to_digit(16);
                decoded.push((digit()? << 4 | digit()?) as u8);
            }
            byte => decoded.push(*byte),
        }
    }
    Some(decoded)
}
