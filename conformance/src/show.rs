//! Prints what came in the language of cases, so that it can be compared by eye and pasted. Used by [`mod@crate::run`] for
//! failures and by [`mod@crate::record`].

use crate::field::{Field, Table, Value};
use crate::frame::Item;
use crate::method::{Kind, Wire, empty};
use std::fmt::Write;

/// One item as the words of an expectation.
pub fn item(item: &Item) -> String {
    let (method, content) = match item {
        Item::Protocol(bytes) => {
            let numbers: Vec<String> = bytes[4..].iter().map(u8::to_string).collect();
            return format!("protocol {}", numbers.join(" "));
        }
        Item::Heartbeat => return "heartbeat".into(),
        Item::Fault(reason) => return format!("(fault: {reason})"),
        Item::Method(method, content) => (method, content),
    };
    let mut out = method.spec.name.to_string();
    let close = method.spec.name.ends_with(".close");
    for ((name, kind), value) in method.spec.args.iter().zip(&method.args) {
        if *value == empty(*kind) && !(close && *name == "class_id") {
            continue;
        }
        let _ = match (*name, value) {
            ("reply_code", Wire::Int(code)) => write!(out, " {code}"),
            ("class_id", Wire::Int(class)) => write!(out, " {class}"),
            ("method_id", Wire::Int(id)) => write!(out, ".{id}"),
            ("reply_text", Wire::Text(_)) if close => Ok(()),
            (name, Wire::Bit(_)) => write!(out, " {name}"),
            (name, value) => write!(out, " {name}={}", wire(value, *kind)),
        };
        if close && *name == "class_id" && method.args.last() == Some(&Wire::Int(0)) {
            out.push_str(".0");
        }
    }
    if let (true, Some(Wire::Text(text))) = (close, method.arg("reply_text")) {
        let _ = write!(out, " {}", quoted(text));
    }
    if let Some(content) = content {
        if !content.properties.is_empty() {
            let properties = content.properties.iter().map(|(name, value)| {
                let kind = if matches!(value, Wire::Table(_)) { Kind::Table } else { Kind::Short };
                format!("{name}={}", wire(value, kind))
            });
            let _ = write!(out, " {{{}}}", properties.collect::<Vec<_>>().join(" "));
        }
        if content.body.len() > 400 {
            let _ = write!(out, " bytes:{}", content.body.len());
        } else if !content.body.is_empty() {
            let _ = write!(out, " {}", quoted(&content.body));
        }
    }
    out
}

fn wire(value: &Wire, _kind: Kind) -> String {
    match value {
        Wire::Bit(set) => set.to_string(),
        Wire::Int(number) => number.to_string(),
        Wire::Text(bytes) => text(bytes),
        Wire::Table(entries) => table(entries),
    }
}

/// A table as a case writes it.
pub fn table(table: &Table) -> String {
    let entries = table.iter().map(|(name, field)| format!("{}={}", text(name), self::field(field)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
}

fn field(field: &Field) -> String {
    let tag = field.tag as char;
    match &field.value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => format!("{tag}:{value}"),
        Value::Float(value) => format!("{tag}:{value}"),
        Value::Decimal(scale, value) => format!("D:{scale}/{value}"),
        Value::Bytes(bytes) if field.tag == b'x' => {
            format!("x:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Value::Bytes(bytes) => quoted(bytes),
        Value::List(list) => format!("[{}]", list.iter().map(self::field).collect::<Vec<_>>().join(" ")),
        Value::Table(entries) => table(entries),
        Value::Void => "V:".into(),
    }
}

fn text(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./*#@+=".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        String::from_utf8_lossy(bytes).into()
    } else {
        quoted(bytes)
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend(['\\', *byte as char]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'$' => out.push_str("$$"),
            0x20..=0x7e => out.push(*byte as char),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    out
}
