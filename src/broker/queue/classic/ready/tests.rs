use super::*;
use crate::message::{Message, NEVER};

pub(super) fn entry(position: u64, priority: u8, expires_at: Option<Millis>) -> Entry {
    Entry {
        message: Message::new("", b"q", &[0, 0], b"body").unwrap(),
        position: Position(position),
        enqueued_at: 0,
        expires_at: expires_at.unwrap_or(NEVER),
        delivery_count: 0,
        priority,
        redelivered: false,
        journaled: true,
        persistent: false,
    }
}

pub(super) fn run(first: u64, count: u64, body_bytes: u64) -> PagedRun {
    let persistent = Persistent { messages: count, body_bytes };
    PagedRun { first: Position(first), count, body_bytes, persistent }
}

fn drain(ready: &mut Ready) -> Vec<u64> {
    std::iter::from_fn(|| ready.pop_front()).map(|entry| entry.position.0).collect()
}

#[test]
fn higher_priority_first_then_by_position() {
    let mut ready = Ready::default();
    for (position, priority) in [(1, 0), (2, 5), (3, 0), (4, 9), (5, 5)] {
        ready.insert(entry(position, priority, None));
    }
    assert_eq!((ready.len(), ready.bytes()), (5, 20));
    assert_eq!(drain(&mut ready), [4, 2, 5, 1, 3]);
    assert_eq!((ready.len(), ready.bytes(), ready.resident_bytes()), (0, 0, 0));
}

#[test]
fn what_comes_back_takes_its_old_place() {
    let mut ready = Ready::default();
    for position in [4, 5, 1, 3, 2] {
        ready.insert(entry(position, 0, None));
    }
    assert_eq!(drain(&mut ready), [1, 2, 3, 4, 5]);
}

#[test]
fn many_that_come_back_are_merged_with_those_that_stayed() {
    let mut ready = Ready::default();
    // One by one these would take a quarter of a minute.
    const EACH: u64 = 120_000;
    let one = entry(0, 0, None);
    let numbered = |n, odd| Entry { position: Position(2 * n + odd), priority: (n % 2) as u8, ..one.clone() };
    (0..EACH).for_each(|n| assert!(ready.insert(numbered(n, 0)).is_none()));
    let back: Vec<Entry> = (0..EACH).rev().map(|n| numbered(n, 1)).collect();
    let start = std::time::Instant::now();
    assert!(ready.insert_all(back).is_empty());
    assert!(start.elapsed() < std::time::Duration::from_secs(3));
    assert_eq!((ready.len() as u64, ready.bytes()), (2 * EACH, 8 * EACH));
    let positions = drain(&mut ready);
    assert!(positions.chunk_by(|a, b| a < b).count() == 2 && positions.len() as u64 == 2 * EACH);
    assert_eq!(ready.resident_bytes(), 0);
}

#[test]
fn what_comes_back_one_by_one_in_any_order_costs_little_each() {
    const ALL: u64 = 40_000;
    let one = entry(0, 0, None);
    let at = |n| Entry { position: Position(n), ..one.clone() };
    let mut ready = Ready::default();
    let (_, steps) = crate::steps::of(|| {
        for n in 0..ALL {
            assert!(ready.insert(at(n * 7919 % ALL)).is_none());
            if n % 1000 == 999 {
                let front = ready.pop_front().unwrap();
                assert!(ready.insert(front).is_none());
            }
        }
    });
    assert!(steps < 300 * ALL, "{steps} steps for {ALL} that come back");
    assert_eq!(ready.resident() as u64, ALL);
    let seen: Vec<u64> = ready
        .places_after(Some((0, Position(9))))
        .filter_map(|place| match place {
            Place::InMemory(entry) => Some(entry.position.0),
            Place::PagedOut { .. } => None,
        })
        .collect();
    assert!(seen.into_iter().eq(10..ALL));
    assert!(drain(&mut ready).into_iter().eq(0..ALL));
}

#[test]
fn only_the_front_of_a_lane_expires() {
    let mut ready = Ready::default();
    ready.insert(entry(1, 0, Some(100)));
    ready.insert(entry(2, 0, Some(10)));
    ready.insert(entry(3, 1, Some(20)));
    assert_eq!(ready.next_expiry(), Some(20));
    assert!(ready.pop_expired(19).is_none());
    assert_eq!(ready.pop_expired(50).unwrap().position, Position(3));
    assert!(ready.pop_expired(50).is_none());
    assert_eq!(ready.pop_expired(100).unwrap().position, Position(1));
    assert_eq!(ready.pop_expired(100).unwrap().position, Position(2));
}

#[test]
fn what_is_paged_out_comes_back_in_order() {
    let mut ready = Ready::default();
    for position in 1..=3000 {
        ready.insert(entry(position, 0, None));
    }
    assert!(ready.page_out().is_empty());
    assert!(ready.resident_bytes() <= FRONT_MESSAGES * memory_bytes(&entry(1, 0, None)));
    // What comes now is behind those that are not in memory.
    assert!(ready.insert(entry(3001, 0, None)).is_none());
    assert_eq!((ready.len(), ready.bytes()), (3001, 3001 * 4));
    assert_eq!(ready.paged_bytes(), (3001 - ready.resident() as u64) * 4);
    let mut seen: Vec<u64> = drain(&mut ready);
    while let Some(request) = ready.page_request(false) {
        assert_eq!(request.from, Position(seen.len() as u64 + 1));
        assert_eq!(ready.page_request(false), None);
        let read = (request.from.0..=3001).take(700).map(|position| entry(position, 0, None));
        ready.paged_in(request, read.collect());
        seen.extend(drain(&mut ready));
    }
    assert_eq!(seen, (1..=3001).collect::<Vec<_>>());
    assert_eq!((ready.len(), ready.bytes(), ready.resident_bytes()), (0, 0, 0));
}

#[test]
fn persistent_messages_stay_counted_while_they_are_not_in_memory() {
    let of = |n: u64| Entry { persistent: !n.is_multiple_of(3), ..entry(n, 0, None) };
    let all = Persistent { messages: 2000, body_bytes: 8000 };
    let mut ready = Ready::default();
    (1..=3000).for_each(|n| assert!(ready.insert(of(n)).is_none()));
    assert_eq!(ready.persistent(), all);
    ready.page_out();
    assert_eq!(ready.persistent(), all);
    // One is taken out of the middle, and one of the others.
    assert!(matches!(ready.take(0, Position(2000), 4, Persistent::of(&of(2000))), Taken::PagedOut));
    assert!(matches!(ready.take(0, Position(2001), 4, Persistent::of(&of(2001))), Taken::PagedOut));
    assert_eq!(ready.persistent(), Persistent { messages: 1999, body_bytes: 7996 });
    let mut seen = drain(&mut ready).len();
    while let Some(request) = ready.page_request(false) {
        let left = (request.from.0..=3000).filter(|n| !(2000..=2001).contains(n));
        ready.paged_in(request, left.take(700).map(of).collect());
        seen += drain(&mut ready).len();
    }
    assert_eq!((seen, ready.persistent()), (2998, Persistent::default()));
}

#[test]
fn what_was_paged_out_is_not_wanted_back_at_once() {
    for body_bytes in [10, 9_000, 300_000, 5_000_000] {
        let mut ready = Ready::default();
        let body = vec![0; body_bytes];
        for (position, large) in (1..=1200).map(|position| (position, position % 30 == 2)) {
            let body = if large { &body[..] } else { &body[..10] };
            let message = Message::new("", b"q", &[0, 0], body).unwrap();
            ready.insert(Entry { message, ..entry(position, 0, None) });
        }
        assert_eq!(ready.page_out().len(), 0);
        assert_eq!(ready.page_request(false), None, "{body_bytes}");
    }
}

#[test]
fn what_the_journal_lost_is_not_waited_for() {
    let mut ready = Ready::default();
    ready.restore(0, run(1, 5, 20), false);
    let request = ready.page_request(false).unwrap();
    ready.paged_in(request, vec![entry(2, 0, None), entry(4, 0, None)]);
    assert_eq!((ready.len(), drain(&mut ready)), (3, vec![2, 4]));
    let request = ready.page_request(false).unwrap();
    ready.paged_in(request, Vec::new());
    assert!(ready.is_empty());
}

#[test]
fn what_only_memory_holds_is_handed_out_to_be_spilled() {
    let mut ready = Ready::default();
    for position in 1..=1500 {
        ready.insert(Entry { journaled: false, ..entry(position, 0, None) });
    }
    assert_eq!(ready.page_out().len(), 1500 - FRONT_MESSAGES);
    assert!(ready.insert(Entry { journaled: false, ..entry(1501, 0, None) }).is_some());
    assert_eq!(ready.len(), 1501);
}
