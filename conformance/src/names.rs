//! The `$names` of a case: captured values, built-in ones, and names unique to a run, so that a case can be played
//! against a broker in use. Owned by [`mod@crate::run`].

use std::collections::{BTreeMap, BTreeSet};

/// Names and their values.
#[derive(Debug)]
pub struct Names {
    run: String,
    values: BTreeMap<String, Vec<u8>>,
    made: BTreeSet<String>,
    vhost: Option<String>,
}

impl Names {
    /// `run` becomes part of every unique name.
    pub fn new(run: &str) -> Self {
        Self { run: run.into(), values: BTreeMap::new(), made: BTreeSet::new(), vhost: None }
    }

    /// Cases say `vhost '/'`; this is the one they are played in. `$vhost` is how it stands in a path.
    pub fn set_vhost(&mut self, vhost: &str) {
        self.vhost = (vhost != "/").then(|| vhost.into());
        self.set("vhost", in_a_path(vhost).as_bytes());
    }

    /// Gives a name a value.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.values.insert(name.into(), value.to_vec());
    }

    /// Replaces each `$name`, `${name}` and `$$`. A name without a value becomes unique text: the name, a dot and
    /// the run. `${name:40}` pads it with `x` to 40 bytes. A `$` before anything else stays, as in a regular expression.
    pub fn expand(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some(position) = rest.iter().position(|byte| *byte == b'$') {
            out.extend_from_slice(&rest[..position]);
            rest = &rest[position + 1..];
            if rest.first() == Some(&b'$') {
                out.push(b'$');
                rest = &rest[1..];
                continue;
            }
            let braced = rest.first() == Some(&b'{');
            let body = if braced { &rest[1..] } else { rest };
            let end = body
                .iter()
                .position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_' || braced && *byte == b':'))
                .unwrap_or(body.len());
            if end == 0 {
                out.push(b'$');
                continue;
            }
            let name = String::from_utf8_lossy(&body[..end]).into_owned();
            rest = body.get(end + usize::from(braced)..).unwrap_or_default();
            out.extend_from_slice(&self.value(&name));
        }
        out.extend_from_slice(rest);
        match (&self.vhost, std::str::from_utf8(&out)) {
            (Some(vhost), Ok(text)) => text.replace("vhost '/'", &format!("vhost '{vhost}'")).into_bytes(),
            _ => out,
        }
    }

    fn value(&mut self, name: &str) -> Vec<u8> {
        if let Some(value) = self.values.get(name) {
            return value.clone();
        }
        let (base, width) = name.split_once(':').unwrap_or((name, "0"));
        let mut made = format!("{base}.{}", self.run);
        while made.len() < width.parse().unwrap_or(0) {
            made.push('x');
        }
        self.made.insert(made.clone());
        self.values.insert(name.into(), made.clone().into_bytes());
        made.into_bytes()
    }

    /// Every unique name that was used.
    pub fn made(&self) -> Vec<String> {
        self.made.iter().cloned().collect()
    }

    /// Values that a broker made up (`amq.gen-...`), captured by the case.
    pub fn captured(&self) -> Vec<String> {
        let values = self.values.values().filter_map(|value| String::from_utf8(value.clone()).ok());
        values.filter(|value| value.starts_with("amq.gen-")).collect()
    }

    /// Whether a name has this value already.
    pub(crate) fn captured_value(&self, value: &[u8]) -> bool {
        self.values.values().any(|known| known == value)
    }

    /// Puts `$name` back in place of unique names, so that a message can be pasted into a case.
    pub fn contract(&self, text: &str) -> String {
        let mut out = text.to_string();
        for (name, value) in &self.values {
            if let Ok(value) = std::str::from_utf8(value)
                && (self.made.contains(value) || value.starts_with("amq."))
            {
                let name = if name.contains(':') { format!("{{{name}}}") } else { name.clone() };
                out = out.replace(value, &format!("${name}"));
            }
        }
        out
    }
}

/// A name as one segment of a path.
fn in_a_path(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

/// Whether `text` fits `glob`, where `*` stands for any bytes.
pub fn fits(glob: &[u8], text: &[u8]) -> bool {
    let mut parts = glob.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&[u8]> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let found =
            if part.is_empty() { Some(0) } else { rest.windows(part.len()).position(|at| at == part) };
        let Some(position) = found else { return false };
        rest = &rest[position + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_to_the_run_or_what_was_captured() {
        let mut names = Names::new("r1");
        names.set("tag", b"amq.ctag-x");
        assert_eq!(names.expand(b"a $q.b ${q}c $tag $$ ${p:8}"), b"a q.r1.b q.r1c amq.ctag-x $ p.r1xxxx");
        assert_eq!(names.made(), ["p.r1xxxx", "q.r1"]);
        assert_eq!(names.contract("no queue 'q.r1'"), "no queue '$q'");
        names.set_vhost("/");
        assert_eq!(names.expand(b"/api/queues/$vhost/$q"), b"/api/queues/%2F/q.r1");
        assert_eq!(names.expand(b"^$q$"), b"^q.r1$");
    }

    #[test]
    fn globs() {
        for (glob, text, fit) in
            [("amq.*", "amq.x", true), ("a*c*", "abcd", true), ("a*d", "abc", false), ("a", "ab", false)]
        {
            assert_eq!(fits(glob.as_bytes(), text.as_bytes()), fit, "{glob} {text}");
        }
    }
}
