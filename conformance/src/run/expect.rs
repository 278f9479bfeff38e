//! Expectations: the next items of a place against the lines that describe them.

use super::*;
use crate::case::Step;

/// One thing still to come.
struct Wanted<'s> {
    index: usize,
    args: &'s [Arg],
    /// Publisher confirms may be joined into one by the broker, so they are counted: those to be acked and nacked.
    confirms: Option<(BTreeSet<u64>, BTreeSet<u64>)>,
}

impl Runner<'_> {
    /// Plays one ordered expectation, or a group of unordered ones.
    pub(super) fn expect(&mut self, place: Place, steps: &[&Step]) -> Result<()> {
        let mut wanted = Vec::new();
        for step in steps {
            if let Action::Expect { count, args, .. } = &step.action {
                for index in 1..=*count {
                    wanted.push(Wanted { index, args, confirms: confirms(args)? });
                }
            }
        }
        let verb =
            wanted.first().and_then(|first| first.args.first()).and_then(Arg::word).unwrap_or_default();
        self.need_channel(place, verb)?;
        let unordered = steps.len() > 1;
        while let Some(first) = wanted.first() {
            let is_heartbeat = first.args.first().and_then(Arg::word) == Some("heartbeat");
            let Some(item) = self.next(place, Instant::now() + self.options.timeout) else {
                return Err(if self.connection(place.0)?.closed {
                    "the socket was closed"
                } else {
                    "nothing came"
                }
                .to_string());
            };
            if matches!(item, Item::Heartbeat) && !is_heartbeat && self.connection(place.0)?.heartbeat > 0 {
                continue;
            }
            let candidates = if unordered { wanted.len() } else { 1 };
            let mut reason = String::new();
            let found = (0..candidates).find(|at| {
                let result = self.fits(&mut wanted[*at], &item);
                result.map_err(|why| reason = why).is_ok()
            });
            let Some(found) = found else {
                self.put_back(place, item);
                return Err(reason);
            };
            self.note_declared(&item);
            if wanted[found].confirms.as_ref().is_none_or(|(acks, nacks)| acks.is_empty() && nacks.is_empty())
            {
                wanted.remove(found);
            }
        }
        Ok(())
    }

    /// A queue the broker named is deleted at the end too.
    fn note_declared(&mut self, item: &Item) {
        let Item::Method(method, _) = item else { return };
        if let ("queue.declare-ok", Some(Wire::Text(queue))) = (method.spec.name, method.arg("queue")) {
            self.queues.insert(queue.clone());
        }
    }

    fn put_back(&mut self, (letter, channel): Place, item: Item) {
        if let Some(connection) = self.connections.get_mut(&letter) {
            connection.inbox.entry(channel).or_default().push_front(item);
        }
    }

    fn fits(&mut self, wanted: &mut Wanted<'_>, item: &Item) -> Result<()> {
        if let Some((acks, nacks)) = &mut wanted.confirms {
            return confirmed(acks, nacks, item);
        }
        self.names.set("i", wanted.index.to_string().as_bytes());
        match (wanted.args.first().and_then(Arg::word), item) {
            (Some("heartbeat"), Item::Heartbeat) => Ok(()),
            (Some("heartbeat"), _) => Err("no heartbeat".into()),
            (Some("protocol"), Item::Protocol(bytes)) => {
                let numbers = wanted.args[1..].iter().filter_map(|arg| arg.word()?.parse::<u8>().ok());
                if numbers.eq(bytes[4..].iter().copied()) {
                    Ok(())
                } else {
                    Err("another protocol header".into())
                }
            }
            (Some("protocol"), _) => Err("no protocol header".into()),
            _ => Parts::new(wanted.args)?.matches(item, &mut self.names),
        }
    }

    pub(super) fn expect_closed(&mut self, letter: char) -> Result<()> {
        let deadline = Instant::now() + self.options.timeout;
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.receive(letter, wait) {
                Arrived::Closed => {
                    self.connection(letter)?.known_closed = true;
                    return Ok(());
                }
                Arrived::Quiet if wait.is_zero() || self.transport.exact() => {
                    return Err("the socket is still open".into());
                }
                _ => {}
            }
        }
    }
}

/// `confirms ack=1-3,5 nack=4`
fn confirms(args: &[Arg]) -> Result<Option<(BTreeSet<u64>, BTreeSet<u64>)>> {
    if args.first().and_then(Arg::word) != Some("confirms") {
        return Ok(None);
    }
    let (mut acks, mut nacks) = (BTreeSet::new(), BTreeSet::new());
    for arg in &args[1..] {
        let (Some(key), Term::Text { text, .. }) = (&arg.key, &arg.term) else {
            return Err("confirms takes ack=1-3,5 and nack=4".into());
        };
        let set = if key == "ack" { &mut acks } else { &mut nacks };
        for range in String::from_utf8_lossy(text).split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (first.parse::<u64>(), last.parse::<u64>()) {
                (Ok(first), Ok(last)) => set.extend(first..=last),
                _ => return Err(format!("'{range}' is no range of delivery tags")),
            }
        }
    }
    Ok(Some((acks, nacks)))
}

fn confirmed(acks: &mut BTreeSet<u64>, nacks: &mut BTreeSet<u64>, item: &Item) -> Result<()> {
    let Item::Method(method, None) = item else { return Err("no confirm".into()) };
    let (set, other) = match method.spec.name {
        "basic.ack" => (acks, nacks),
        "basic.nack" => (nacks, acks),
        name => return Err(format!("{name} is no confirm")),
    };
    let Some(Wire::Int(tag)) = method.arg("delivery_tag") else { return Err("no delivery tag".into()) };
    let multiple = method.arg("multiple") == Some(&Wire::Bit(true));
    if !multiple {
        return if set.remove(tag) { Ok(()) } else { Err(format!("{tag} was not to be confirmed so")) };
    }
    if other.range(..=tag).next().is_some() {
        return Err(format!("up to {tag} not all were to be confirmed so"));
    }
    let after = set.split_off(&(tag + 1));
    let covered = std::mem::replace(set, after);
    if covered.contains(tag) { Ok(()) } else { Err(format!("{tag} was not to be confirmed so")) }
}
