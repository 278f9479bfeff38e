//! The words and values a line of a case is made of. Called by [`crate::case`]; knows no AMQP beyond the type tags.
//!
//! `name=value`, `word`, `"quoted text"`, `{table}`, `[array]`, `i:5` (a typed value), `?name` (capture), `?~glob`, `...`.

/// A value as written, its `$names` not yet replaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// Text, quoted or a bare word.
    Text {
        /// The bytes, escapes resolved.
        text: Vec<u8>,
        /// Whether it stood in quotes, which makes it a string always.
        quoted: bool,
    },
    /// `?name~glob`: matches anything that fits the glob, and keeps it under the name.
    Capture {
        /// Where to keep it; `None` for a bare `?`.
        name: Option<String>,
        /// With `*` for any bytes.
        glob: Option<Vec<u8>>,
    },
    /// `tag:value`
    Typed(u8, Box<Term>),
    /// `[a b]`
    List(Vec<Term>),
    /// `{a=1 b=2}`
    Table(Vec<(Vec<u8>, Term)>, Order),
    /// `a?=1` in a table: may be missing.
    Optional(Box<Term>),
    /// `...`
    Open,
}

/// How strictly a table is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// These and no others, in this order.
    Exact,
    /// `~` stands in it: these and no others, in any order.
    Any,
    /// `...` stands in it: these and perhaps others, in any order.
    Open,
}

/// A word of a line, and what it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    /// What stands before `=`.
    pub key: Option<String>,
    /// The value.
    pub term: Term,
}

impl Arg {
    /// The text of a bare word without a key.
    pub fn word(&self) -> Option<&str> {
        match (&self.key, &self.term) {
            (None, Term::Text { text, quoted: false }) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }
}

/// Cuts a line into its words.
pub fn parse(line: &str) -> Result<Vec<Arg>, String> {
    let mut lexer = Lexer { text: line.as_bytes(), at: 0, depth: 0 };
    let mut args = Vec::new();
    loop {
        lexer.blank();
        if lexer.peek().is_none() {
            return Ok(args);
        }
        let key = lexer.key()?.map(|key| String::from_utf8_lossy(&key).into_owned());
        args.push(Arg { key, term: lexer.term()? });
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

const TAGS: &[u8] = b"tbBsuIilLfdDSATFVx";

impl Lexer<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|byte| byte == b' ' || byte == b'\t' || self.depth > 0 && byte == b',')
        {
            self.at += 1;
        }
    }

    /// A name with its `=`, if one stands here.
    fn key(&mut self) -> Result<Option<Vec<u8>>, String> {
        let start = self.at;
        let key = if self.peek() == Some(b'"') {
            self.quoted()?
        } else {
            let mut braced = false;
            while let Some(byte) = self.peek() {
                match byte {
                    b'{' if self.text[start..self.at].last() == Some(&b'$') => braced = true,
                    b'}' if braced => braced = false,
                    b'_' | b'-' | b'.' | b'$' => {}
                    _ if byte.is_ascii_alphanumeric() => {}
                    _ => break,
                }
                self.at += 1;
            }
            self.text[start..self.at].to_vec()
        };
        if self.peek() == Some(b'=') && self.at > start {
            self.at += 1;
            return Ok(Some(key));
        }
        self.at = start;
        Ok(None)
    }

    fn term(&mut self) -> Result<Term, String> {
        match self.peek() {
            Some(b'"') => Ok(Term::Text { text: self.quoted()?, quoted: true }),
            Some(b'{') => self.table(),
            Some(b'[') => self.list(),
            Some(b'?') => self.capture(),
            Some(tag) if TAGS.contains(&tag) && self.text.get(self.at + 1) == Some(&b':') => {
                self.at += 2;
                Ok(Term::Typed(tag, Box::new(self.term()?)))
            }
            _ => {
                let bare = self.bare();
                Ok(if bare == b"..." { Term::Open } else { Term::Text { text: bare, quoted: false } })
            }
        }
    }

    fn bare(&mut self) -> Vec<u8> {
        let start = self.at;
        let mut braces = 0;
        while let Some(byte) = self.peek() {
            let closes = byte == b']' || byte == b'}' && braces == 0;
            if byte == b' ' || byte == b'\t' || self.depth > 0 && (closes || byte == b',') {
                break;
            }
            braces += usize::from(byte == b'{');
            braces -= usize::from(byte == b'}' && braces > 0);
            self.at += 1;
        }
        self.text[start..self.at].to_vec()
    }

    fn capture(&mut self) -> Result<Term, String> {
        self.at += 1;
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            self.at += 1;
        }
        let name = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
        let mut glob = None;
        if self.peek() == Some(b'~') {
            self.at += 1;
            glob = Some(if self.peek() == Some(b'"') { self.quoted()? } else { self.bare() });
        }
        Ok(Term::Capture { name: (!name.is_empty()).then_some(name), glob })
    }

    fn table(&mut self) -> Result<Term, String> {
        self.at += 1;
        self.depth += 1;
        let (mut entries, mut order) = (Vec::new(), Order::Exact);
        loop {
            self.blank();
            match self.peek() {
                None => return Err("a table without its '}'".into()),
                Some(b'}') => break,
                _ => {}
            }
            match self.key()? {
                Some(key) => {
                    let term = self.term()?;
                    entries.push((key, term));
                }
                None => self.without_key(&mut entries, &mut order)?,
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(Term::Table(entries, order))
    }

    /// What may stand in a table instead of `name=value`: `...`, `~`, `name?=value`.
    fn without_key(&mut self, entries: &mut Vec<(Vec<u8>, Term)>, order: &mut Order) -> Result<(), String> {
        let column = self.at + 1;
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-.~".contains(&byte)) {
            self.at += 1;
        }
        let word = self.text[start..self.at].to_vec();
        if self.text[self.at..].starts_with(b"?=") {
            self.at += 2;
            let term = self.term()?;
            entries.push((word, Term::Optional(Box::new(term))));
            return Ok(());
        }
        *order = match word.as_slice() {
            b"..." => Order::Open,
            b"~" => Order::Any,
            _ => return Err(format!("'name=' expected in a table at column {column}")),
        };
        Ok(())
    }

    fn list(&mut self) -> Result<Term, String> {
        self.at += 1;
        self.depth += 1;
        let mut terms = Vec::new();
        loop {
            self.blank();
            match self.peek() {
                None => return Err("an array without its ']'".into()),
                Some(b']') => break,
                Some(b'}') => return Err("'}' in an array".into()),
                _ => terms.push(self.term()?),
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(Term::List(terms))
    }

    fn quoted(&mut self) -> Result<Vec<u8>, String> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let byte = self.peek().ok_or("a quoted text without its end")?;
            self.at += 1;
            match byte {
                b'"' => return Ok(out),
                b'\\' => out.push(self.escape()?),
                _ => out.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Result<u8, String> {
        let byte = self.peek().ok_or("a '\\' at the end of the line")?;
        self.at += 1;
        Ok(match byte {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'x' => {
                let digits =
                    self.text.get(self.at..self.at + 2).and_then(|two| std::str::from_utf8(two).ok());
                self.at += 2;
                digits
                    .and_then(|two| u8::from_str_radix(two, 16).ok())
                    .ok_or("two hexadecimal digits expected behind \\x")?
            }
            b'"' | b'\\' => byte,
            other => return Err(format!("unknown escape '\\{}'", other as char)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str, quoted: bool) -> Term {
        Term::Text { text: text.into(), quoted }
    }

    #[test]
    fn a_line_is_cut_into_words_tables_and_typed_values() {
        let args = parse(r#"queue.declare queue=$q key=#.a.* arguments={x-max=i:5, n=["a" F:{b=t:true}] ...} "b\x41" ?c~x*"#)
            .unwrap();
        assert_eq!(args[0].word(), Some("queue.declare"));
        assert_eq!(args[2].term, text("#.a.*", false));
        let nested = Term::Typed(
            b'F',
            Box::new(Term::Table(
                vec![(b"b".to_vec(), Term::Typed(b't', Box::new(text("true", false))))],
                Order::Exact,
            )),
        );
        let table = Term::Table(
            vec![
                (b"x-max".to_vec(), Term::Typed(b'i', Box::new(text("5", false)))),
                (b"n".to_vec(), Term::List(vec![text("a", true), nested])),
            ],
            Order::Open,
        );
        assert_eq!(args[3].term, table);
        assert_eq!(args[4].term, text("bA", true));
        assert_eq!(args[5].term, Term::Capture { name: Some("c".into()), glob: Some(b"x*".to_vec()) });
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        for line in ["{a=1", "[1", "\"abc", "{a}", "\"\\q\""] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
