//! From what a case writes to bytes on the wire, and back: does what came fit what was expected? Used by [`mod@crate::run`].

use crate::field::{Field, Table, Value, is_integer};
use crate::frame::{Content, Item, PROPERTIES};
use crate::method::{Kind, Method, Spec, Wire, by_name, empty};
use crate::names::{Names, fits};
use crate::text::{Arg, Order, Term};

/// Methods whose names are shortened in cases.
pub fn long_name(name: &str) -> &str {
    match name {
        "publish" => "basic.publish",
        "deliver" => "basic.deliver",
        "return" => "basic.return",
        "get-ok" => "basic.get-ok",
        "ack" => "basic.ack",
        "nack" => "basic.nack",
        "reject" => "basic.reject",
        other => other,
    }
}

/// The arguments of a method as terms, and its content's.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The method.
    pub spec: &'static Spec,
    values: Vec<(usize, Term)>,
    properties: Option<&'a Term>,
    body: Option<&'a Term>,
    open: bool,
}

impl<'a> Parts<'a> {
    /// Sorts the words of a line; the first is the method's name. The error names the word that does not fit.
    pub fn new(args: &'a [Arg]) -> Result<Self, String> {
        let name = long_name(args.first().and_then(Arg::word).ok_or("a method's name expected")?);
        let spec = by_name(name).ok_or_else(|| format!("no method is called '{name}'"))?;
        let mut parts = Self { spec, values: Vec::new(), properties: None, body: None, open: false };
        for arg in &args[1..] {
            parts.take(arg)?;
        }
        Ok(parts)
    }

    fn put(&mut self, name: &str, term: Term) -> Result<(), String> {
        let name = match name {
            "key" => "routing_key",
            "tag" if self.spec.args.iter().any(|(arg, _)| *arg == "delivery_tag") => "delivery_tag",
            "tag" => "consumer_tag",
            "text" => "reply_text",
            other => other,
        };
        let position = self.spec.args.iter().position(|(arg, _)| *arg == name);
        let position = position.ok_or_else(|| format!("{} has no argument '{name}'", self.spec.name))?;
        self.values.push((position, term));
        Ok(())
    }

    fn take(&mut self, arg: &'a Arg) -> Result<(), String> {
        if let Some(key) = &arg.key {
            return self.put(key, arg.term.clone());
        }
        let has_content = self.spec.has_content();
        match &arg.term {
            Term::Open => self.open = true,
            Term::Table(..) if has_content => self.properties = Some(&arg.term),
            Term::Text { quoted: true, .. } if has_content => self.body = Some(&arg.term),
            Term::Text { quoted: true, .. } | Term::Capture { .. } => {
                return self.put("reply_text", arg.term.clone());
            }
            Term::Text { text, quoted: false } => {
                let word = String::from_utf8_lossy(text).into_owned();
                if has_content && word.starts_with("bytes:") {
                    self.body = Some(&arg.term);
                } else if word.parse::<u16>().is_ok() {
                    return self.put("reply_code", arg.term.clone());
                } else if let Some((class, method)) = word.split_once('.') {
                    self.put("class_id", plain(class))?;
                    return self.put("method_id", plain(method));
                } else {
                    return self.put(&word, plain("true"));
                }
            }
            other => return Err(format!("{} takes no {other:?}", self.spec.name)),
        }
        Ok(())
    }

    /// The method to send.
    pub fn method(&self, names: &mut Names) -> Result<Method, String> {
        let mut args: Vec<Wire> = self.spec.args.iter().map(|(_, kind)| empty(*kind)).collect();
        for (position, term) in &self.values {
            args[*position] = wire(term, self.spec.args[*position].1, names)?;
        }
        Ok(Method { spec: self.spec, args })
    }

    /// The content to send.
    pub fn content(&self, names: &mut Names) -> Result<Content, String> {
        let properties = self.properties.map_or(Ok(Vec::new()), |term| properties(term, names))?;
        Ok(Content { properties, body: self.body.map_or(Vec::new(), |term| body(term, names)) })
    }

    /// Whether `item` is what these parts describe; captures only then.
    pub fn matches(&self, item: &Item, names: &mut Names) -> Result<(), String> {
        let Item::Method(method, content) = item else { return Err("not a method".into()) };
        if method.spec.name != self.spec.name {
            return Err(format!("{} instead of {}", method.spec.name, self.spec.name));
        }
        let mut captures = Vec::new();
        for (position, (name, kind)) in self.spec.args.iter().enumerate() {
            let got = &method.args[position];
            let fit = match self.values.iter().find(|(at, _)| *at == position) {
                Some((_, term)) => matches_wire(term, *kind, got, names, &mut captures)?,
                None => self.open || *got == empty(*kind),
            };
            if !fit {
                return Err(format!("{name} differs"));
            }
        }
        if let (Some(content), false) = (content, self.open) {
            self.matches_content(content, names, &mut captures)?;
        }
        captures.iter().for_each(|(name, value)| names.set(name, value));
        Ok(())
    }

    fn matches_content(
        &self,
        got: &Content,
        names: &mut Names,
        captures: &mut Captures,
    ) -> Result<(), String> {
        let mut expected = 0;
        if let Some(Term::Table(entries, _)) = self.properties {
            for (key, term) in entries {
                let (name, kind) = property(key)?;
                let value = got.properties.iter().find(|(given, _)| *given == name);
                let fit = value.map(|(_, value)| matches_wire(term, kind, value, names, captures));
                if fit != Some(Ok(true)) {
                    return Err(format!("property {name} differs"));
                }
                expected += 1;
            }
        }
        if expected != got.properties.len() {
            return Err("there are other properties".into());
        }
        let body = self.body.map_or(Vec::new(), |term| body(term, names));
        if body == got.body { Ok(()) } else { Err("the body differs".into()) }
    }
}

type Captures = Vec<(String, Vec<u8>)>;

fn plain(text: &str) -> Term {
    Term::Text { text: text.into(), quoted: false }
}

fn property(key: &[u8]) -> Result<(&'static str, Kind), String> {
    let found = PROPERTIES.iter().find(|(name, _)| name.as_bytes() == key).copied();
    found.ok_or_else(|| format!("no property is called '{}'", String::from_utf8_lossy(key)))
}

/// The properties a table term gives.
pub fn properties(term: &Term, names: &mut Names) -> Result<Vec<(&'static str, Wire)>, String> {
    let Term::Table(entries, _) = term else { return Err("a table of properties expected".into()) };
    let one = |(key, term): &(Vec<u8>, Term)| {
        let (name, kind) = property(key)?;
        Ok((name, wire(term, kind, names)?))
    };
    entries.iter().map(one).collect()
}

/// The bytes of a body: quoted text, or `bytes:N`, N bytes of the alphabet.
pub fn body(term: &Term, names: &mut Names) -> Vec<u8> {
    match term {
        Term::Text { text, quoted: false } => {
            let count = std::str::from_utf8(text).ok().and_then(|text| text.strip_prefix("bytes:"));
            let count = count.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            (0..count).map(|position| b'a' + (position % 26) as u8).collect()
        }
        Term::Text { text, .. } => names.expand(text),
        _ => Vec::new(),
    }
}

fn expanded(term: &Term, names: &mut Names) -> Result<Vec<u8>, String> {
    match term {
        Term::Text { text, .. } => Ok(names.expand(text)),
        other => Err(format!("text expected, not {other:?}")),
    }
}

fn number<T: std::str::FromStr>(term: &Term, names: &mut Names) -> Result<T, String> {
    let text = expanded(term, names)?;
    let text = String::from_utf8_lossy(&text);
    text.parse().map_err(|_| format!("a number expected, not '{text}'"))
}

/// The value of a term as an argument of this kind.
pub fn wire(term: &Term, kind: Kind, names: &mut Names) -> Result<Wire, String> {
    Ok(match kind {
        Kind::Bit => Wire::Bit(expanded(term, names)? == b"true"),
        Kind::Int(_) => Wire::Int(number(term, names)?),
        Kind::Short => Wire::Text(expanded(term, names)?),
        Kind::Long => match term {
            // AMQPLAIN's response is a table without its length.
            Term::Table(entries, _) => {
                let mut bytes = Vec::new();
                crate::field::write_table(&mut bytes, &table(entries, names)?);
                Wire::Text(bytes.split_off(4))
            }
            _ => Wire::Text(expanded(term, names)?),
        },
        Kind::Table => match term {
            Term::Table(entries, _) => Wire::Table(table(entries, names)?),
            other => return Err(format!("a table expected, not {other:?}")),
        },
    })
}

fn table(entries: &[(Vec<u8>, Term)], names: &mut Names) -> Result<Table, String> {
    entries.iter().map(|(key, term)| Ok((names.expand(key), field(term, names)?))).collect()
}

fn field(term: &Term, names: &mut Names) -> Result<Field, String> {
    let made = |tag, value| Ok(Field { tag, value });
    match term {
        Term::Typed(tag, inner) => typed(*tag, inner, names),
        Term::Text { text, quoted: false } if text == b"true" || text == b"false" => {
            made(b't', Value::Bool(text == b"true"))
        }
        Term::Text { text, quoted: false } if text.parse_number() => {
            Err(format!("a number in a table needs its type, such as i:{}", String::from_utf8_lossy(text)))
        }
        Term::Text { text, .. } => made(b'S', Value::Bytes(names.expand(text))),
        Term::List(terms) => {
            made(b'A', Value::List(terms.iter().map(|term| field(term, names)).collect::<Result<_, _>>()?))
        }
        Term::Table(entries, _) => made(b'F', Value::Table(table(entries, names)?)),
        other => Err(format!("{other:?} cannot be sent")),
    }
}

trait ParseNumber {
    fn parse_number(&self) -> bool;
}

impl ParseNumber for Vec<u8> {
    fn parse_number(&self) -> bool {
        std::str::from_utf8(self).is_ok_and(|text| text.parse::<i128>().is_ok())
    }
}

fn typed(tag: u8, inner: &Term, names: &mut Names) -> Result<Field, String> {
    let value = match tag {
        b't' => Value::Bool(expanded(inner, names)? == b"true"),
        b'f' | b'd' => Value::Float(number(inner, names)?),
        b'D' => {
            let text = String::from_utf8_lossy(&expanded(inner, names)?).into_owned();
            let (scale, value) = text.split_once('/').ok_or("a decimal is written D:scale/value")?;
            Value::Decimal(scale.parse().map_err(|_| "scale")?, value.parse().map_err(|_| "value")?)
        }
        b'V' => Value::Void,
        b'x' => {
            let text = String::from_utf8_lossy(&expanded(inner, names)?).into_owned();
            Value::Bytes(hex(&text)?)
        }
        b'S' => Value::Bytes(expanded(inner, names)?),
        tag if is_integer(tag) => Value::Int(number(inner, names)?),
        _ => return field(inner, names),
    };
    Ok(Field { tag, value })
}

/// Bytes from hexadecimal digits.
pub fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    if digits.len() != text.len() || digits.len() % 2 == 1 {
        return Err(format!("pairs of hexadecimal digits expected, not '{text}'"));
    }
    Ok(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

fn matches_wire(
    term: &Term,
    kind: Kind,
    got: &Wire,
    names: &mut Names,
    captures: &mut Captures,
) -> Result<bool, String> {
    if let Term::Capture { name, glob } = term {
        let text = match got {
            Wire::Text(text) => text.clone(),
            Wire::Int(number) => number.to_string().into_bytes(),
            Wire::Bit(set) => set.to_string().into_bytes(),
            Wire::Table(_) => Vec::new(),
        };
        return Ok(capture(name.as_deref(), glob.as_deref(), text, names, captures));
    }
    match (term, got) {
        (Term::Table(entries, order), Wire::Table(table)) => {
            matches_table(entries, *order, table, names, captures)
        }
        _ => Ok(wire(term, kind, names)? == *got),
    }
}

fn capture(
    name: Option<&str>,
    glob: Option<&[u8]>,
    text: Vec<u8>,
    names: &mut Names,
    captures: &mut Captures,
) -> bool {
    if glob.is_some_and(|glob| !fits(&names.expand(glob), &text)) {
        return false;
    }
    captures.extend(name.map(|name| (name.to_string(), text)));
    true
}

fn matches_table(
    entries: &[(Vec<u8>, Term)],
    order: Order,
    got: &Table,
    names: &mut Names,
    captures: &mut Captures,
) -> Result<bool, String> {
    let mut fitting = 0;
    for (key, term) in entries {
        let key = names.expand(key);
        let found = match order {
            Order::Exact => got.get(fitting).filter(|(name, _)| *name == key),
            _ => got.iter().find(|(name, _)| *name == key),
        };
        match (found, term) {
            (None, Term::Optional(_)) => continue,
            (None, _) => return Ok(false),
            (Some((_, field)), Term::Optional(term)) if matches_field(term, field, names, captures)? => {}
            (Some((_, field)), _) if matches_field(term, field, names, captures)? => {}
            _ => return Ok(false),
        }
        fitting += 1;
    }
    Ok(order == Order::Open || fitting == got.len())
}

fn matches_field(
    term: &Term,
    got: &Field,
    names: &mut Names,
    captures: &mut Captures,
) -> Result<bool, String> {
    match (term, &got.value) {
        (Term::Optional(_), _) => Ok(false),
        (Term::Capture { name, glob }, value) => {
            let text = match value {
                Value::Bytes(bytes) => bytes.clone(),
                Value::Int(number) => number.to_string().into_bytes(),
                _ => Vec::new(),
            };
            Ok(capture(name.as_deref(), glob.as_deref(), text, names, captures))
        }
        (Term::Typed(tag, inner), _)
            if matches!(**inner, Term::Capture { .. } | Term::Table(..) | Term::List(_)) =>
        {
            Ok(*tag == got.tag && matches_field(inner, got, names, captures)?)
        }
        (Term::Table(entries, order), Value::Table(table)) => {
            matches_table(entries, *order, table, names, captures)
        }
        (Term::List(terms), Value::List(list)) => {
            if terms.len() != list.len() {
                return Ok(false);
            }
            for (term, field) in terms.iter().zip(list) {
                if !matches_field(term, field, names, captures)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Term::Table(..) | Term::List(_), _) => Ok(false),
        _ => Ok(field(term, names)? == *got),
    }
}
