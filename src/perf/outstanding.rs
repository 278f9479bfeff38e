//! What a publisher waits for: messages that are not confirmed yet, with when each was sent.

use std::collections::VecDeque;

/// Messages by their delivery tags, which count from 1 (RabbitMQ's publisher confirms).
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    /// How many have gone from the front.
    settled: u64,
    /// When each was sent; `None` once it is confirmed before those in front of it.
    sent: VecDeque<Option<u64>>,
    open: usize,
}

impl Outstanding {
    /// How many messages are unconfirmed.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    pub(super) fn push(&mut self, sent: u64) {
        self.sent.push_back(Some(sent));
        self.open += 1;
    }

    /// Takes a confirm, and calls `each` with when each message of it was sent. Returns how many there were.
    pub(super) fn settle(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(u64)) -> u64 {
        let before = self.open;
        let count = tag.saturating_sub(self.settled).min(self.sent.len() as u64) as usize;
        let first = if multiple { 0 } else { count.saturating_sub(1) };
        for sent in self.sent.range_mut(first..count) {
            if let Some(sent) = sent.take() {
                each(sent);
                self.open -= 1;
            }
        }
        while self.sent.front().is_some_and(Option::is_none) {
            self.sent.pop_front();
            self.settled += 1;
        }
        (before - self.open) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_come_one_by_one_or_together_and_in_any_order() {
        let mut outstanding = Outstanding::default();
        (101..=106).for_each(|sent| outstanding.push(sent));
        let mut seen = Vec::new();
        assert_eq!(outstanding.settle(2, false, |sent| seen.push(sent)), 1);
        assert_eq!((seen.as_slice(), outstanding.len()), (&[102][..], 5));
        // 2 was there already.
        assert_eq!(outstanding.settle(3, true, |sent| seen.push(sent)), 2);
        assert_eq!(seen, [102, 101, 103]);
        assert_eq!(outstanding.settle(4, false, |sent| seen.push(sent)), 1);
        assert_eq!(outstanding.settle(4, false, |_| panic!("it is gone")), 0);
        // What was never sent is confirmed by none.
        assert_eq!(outstanding.settle(99, true, |sent| seen.push(sent)), 2);
        assert_eq!((seen.as_slice(), outstanding.len()), (&[102, 101, 103, 104, 105, 106][..], 0));
        outstanding.push(107);
        assert_eq!(outstanding.settle(7, false, |sent| seen.push(sent)), 1);
    }
}
