//! Sending: methods with their content, and anything below that level.

use super::*;

impl Runner<'_> {
    /// A broker may see a request before the effects of what came before it and has no answer, such as a publish on
    /// another channel. A case is about the rule, so those effects are awaited first.
    pub(super) fn keep_order(&mut self, place: Place, args: &[Arg]) {
        const UNANSWERED: [&str; 12] = [
            "basic.publish",
            "basic.ack",
            "basic.nack",
            "basic.reject",
            "basic.recover-async",
            "header",
            "body",
            // These are answered, but queues hear of what they give back later.
            "basic.recover",
            "channel.close",
            "connection.close",
            "tx.commit",
            "tx.rollback",
        ];
        let name = args.first().and_then(Arg::word).map_or("", long_name);
        let unanswered = UNANSWERED.contains(&name) || args.iter().any(|arg| arg.word() == Some("nowait"));
        if self.unanswered.is_some_and(|last| !unanswered || last != place) {
            self.settle();
            self.unanswered = None;
        }
        if unanswered {
            self.unanswered = Some(place);
        }
    }

    /// Opens the channel unless the case does so itself.
    pub(super) fn need_channel(&mut self, (letter, channel): Place, verb: &str) -> Result<()> {
        self.need_connection(letter)?;
        let connection = self.connection(letter)?;
        if channel == 0 || connection.channels.contains_key(&channel) {
            return Ok(());
        }
        if !connection.ready || verb == "channel.open" {
            connection.channels.insert(channel, false);
            return Ok(());
        }
        connection.channels.insert(channel, true);
        self.call((letter, channel), "channel.open", "channel.open-ok")
    }

    pub(super) fn send(&mut self, place: Place, args: &[Arg]) -> Result<()> {
        let verb = args.first().and_then(Arg::word).unwrap_or_default();
        self.need_channel(place, verb)?;
        let bytes = match verb {
            "protocol" | "hex" | "frame" | "heartbeat" | "method" | "header" | "body" => {
                self.connection(place.0)?.raw |= verb != "heartbeat" && verb != "protocol";
                self.raw(place.1, verb, &args[1..])?
            }
            _ => self.method_bytes(place, args)?,
        };
        let id = self.connection(place.0)?.id;
        self.transport.send(id, &bytes);
        Ok(())
    }

    fn method_bytes(&mut self, (letter, channel): Place, args: &[Arg]) -> Result<Vec<u8>> {
        let parts = Parts::new(args)?;
        let method = parts.method(&mut self.names)?;
        self.note_sent((letter, channel), &method);
        let mut bytes = frame::encode(frame::METHOD, channel, &method.encode());
        if parts.spec.has_content() {
            let content = parts.content(&mut self.names)?;
            let size = content.body.len();
            let header = frame::encode_header(60, 0, size as u64, &content.properties);
            bytes.extend(frame::encode(frame::HEADER, channel, &header));
            let limit = match self.connection(letter)?.frame_max {
                0 => 131_072,
                limit => limit,
            };
            for piece in content.body.chunks(limit - 8) {
                bytes.extend(frame::encode(frame::BODY, channel, piece));
            }
        }
        Ok(bytes)
    }

    /// Remembers what must be deleted at the end, and that a channel or connection is ending.
    fn note_sent(&mut self, (letter, channel): Place, method: &Method) {
        // A name that is not UTF-8 is refused, and naming it again would end the runner's own connection.
        let text = |name| match method.arg(name) {
            Some(Wire::Text(text)) if std::str::from_utf8(text).is_ok() => text.clone(),
            _ => Vec::new(),
        };
        match method.spec.name {
            "queue.declare" => {
                self.queues.insert(text("queue"));
            }
            "exchange.declare" => {
                self.exchanges.insert(text("exchange"));
            }
            "tx.commit" => {
                if let Some(connection) = self.connections.get_mut(&letter) {
                    connection.committing.insert(channel);
                }
            }
            "channel.close" => {
                if let Some(connection) = self.connections.get_mut(&letter) {
                    connection.channels.insert(channel, false);
                }
            }
            "connection.close" => {
                if let Some(connection) = self.connections.get_mut(&letter) {
                    connection.ended = true;
                }
            }
            _ => {}
        }
    }

    /// Bytes of what is sent below the level of methods.
    fn raw(&mut self, channel: u16, verb: &str, args: &[Arg]) -> Result<Vec<u8>> {
        if verb == "method" {
            let method = Parts::new(args)?.method(&mut self.names)?;
            return Ok(frame::encode(frame::METHOD, channel, &method.encode()));
        }
        let mut numbers =
            BTreeMap::from([("class", 60u64), ("weight", 0), ("size", 0), ("type", 1), ("end", 0xce)]);
        numbers.insert("channel", u64::from(channel));
        let (mut bytes, mut words, mut content) = (Vec::new(), Vec::new(), Vec::new());
        for arg in args {
            match (&arg.key, &arg.term) {
                (Some(key), Term::Text { text, .. }) => {
                    let known =
                        numbers.get_mut(key.as_str()).ok_or_else(|| format!("{verb} has no '{key}'"))?;
                    let text = String::from_utf8_lossy(text);
                    *known = text.parse().map_err(|_| format!("{key}: a number expected"))?;
                }
                (None, Term::Table(..)) => content = properties(&arg.term, &mut self.names)?,
                (None, Term::Text { text, quoted: false }) if !text.starts_with(b"bytes:") => {
                    words.push(String::from_utf8_lossy(text).into_owned());
                }
                _ => bytes.extend(body(&arg.term, &mut self.names)),
            }
        }
        if verb == "hex" || verb == "frame" {
            for word in &words {
                bytes.extend(hex(word)?);
            }
        }
        let channel = numbers["channel"] as u16;
        Ok(match verb {
            "hex" => bytes,
            "frame" => {
                let mut out = frame::encode(numbers["type"] as u8, channel, &bytes);
                if let Some(last) = out.last_mut() {
                    *last = numbers["end"] as u8;
                }
                out
            }
            "heartbeat" => frame::encode(frame::HEARTBEAT, channel, b""),
            "body" => frame::encode(frame::BODY, channel, &bytes),
            "header" => {
                let payload = frame::encode_header(
                    numbers["class"] as u16,
                    numbers["weight"] as u16,
                    numbers["size"],
                    &content,
                );
                frame::encode(frame::HEADER, channel, &payload)
            }
            _ => {
                let mut out = b"AMQP".to_vec();
                for word in words {
                    out.push(word.parse().map_err(|_| format!("'{word}': four bytes expected"))?);
                }
                out
            }
        })
    }
}
