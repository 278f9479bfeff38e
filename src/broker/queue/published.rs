//! Through which exchanges messages came into a queue: counted once a batch, all of whose messages came through one.

/// This many exchanges are counted apart; what comes through others is not counted here.
const EXCHANGES_MAX: usize = 64;

/// Counts by exchange; see the module.
#[derive(Debug, Default)]
pub(super) struct Published {
    by_exchange: Vec<(Box<[u8]>, u64)>,
    /// The one that the last messages came through: mostly the next ones do too.
    last: usize,
}

impl Published {
    /// Messages come through that exchange now.
    pub(super) fn turn_to(&mut self, exchange: &[u8]) {
        let is_it = |(name, _): &(Box<[u8]>, u64)| **name == *exchange;
        if self.by_exchange.get(self.last).is_some_and(is_it) {
            return;
        }
        self.last = self.by_exchange.iter().position(is_it).unwrap_or(self.by_exchange.len());
        if self.last == self.by_exchange.len() && self.last < EXCHANGES_MAX {
            self.by_exchange.push((exchange.into(), 0));
        }
    }

    /// A number of messages has come.
    pub(super) fn add(&mut self, messages: u64) {
        if let Some((_, count)) = self.by_exchange.get_mut(self.last) {
            *count += messages;
        }
    }

    /// All exchanges with how many messages came through each.
    pub(super) fn list(&self) -> Vec<(String, u64)> {
        let named = |(name, count): &(Box<[u8]>, u64)| (String::from_utf8_lossy(name).into_owned(), *count);
        self.by_exchange.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_by_their_exchange() {
        let mut published = Published::default();
        for (exchange, count) in [("", 1), ("x", 2), ("", 3)] {
            published.turn_to(exchange.as_bytes());
            published.add(count);
        }
        assert_eq!(published.list(), [(String::new(), 4), ("x".to_owned(), 2)]);
        for other in 0..100 {
            published.turn_to(format!("other {other}").as_bytes());
            published.add(1);
        }
        assert_eq!(published.list().len(), EXCHANGES_MAX);
        published.turn_to(b"x");
        published.add(1);
        assert_eq!(published.list()[1].1, 3);
    }
}
