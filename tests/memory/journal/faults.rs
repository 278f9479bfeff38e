//! What the journal does when its engine fails, and how commits share syncs.

use super::model::SHAPE;
use leveret::message::{Lsn, Position, QueueId};
use leveret::store::{
    Changes, DurableWaiter, Faults, FaultyStore, Journal, JournalOptions, Loss, Recovered, StoreError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const QUEUE: QueueId = QueueId(1);

#[derive(Default)]
struct Waiter {
    durable: AtomicU64,
    hurried: AtomicBool,
    failures: AtomicU64,
}

impl DurableWaiter for Waiter {
    fn durable(&self, lsn: Lsn, is_hurried: bool) {
        self.durable.store(lsn.0, Ordering::Release);
        self.hurried.store(is_hurried, Ordering::Release);
    }

    fn failed(&self, _: &StoreError) {
        self.failures.fetch_add(1, Ordering::Release);
    }
}

impl Waiter {
    fn reached(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }
}

fn open(store: &FaultyStore) -> (Journal, Recovered) {
    Journal::open(Box::new(store.clone()), JournalOptions::default(), |_| {}).unwrap()
}

fn publish(journal: &Journal, position: u64, waiter: Option<Arc<Waiter>>) -> Lsn {
    let mut changes = Changes::default();
    changes.enqueue((b"ek--body", SHAPE), 1, &[(QUEUE, Position(position), 0)]);
    journal.append(&mut changes, waiter.map(|waiter| waiter as Arc<dyn DurableWaiter>))
}

fn settle(journal: &Journal, first: u64, last: u64) -> Lsn {
    let mut changes = Changes::default();
    changes.settle_range(QUEUE, Position(first), Position(last));
    journal.append(&mut changes, None)
}

fn positions(recovered: &Recovered) -> Vec<u64> {
    let runs = recovered.queues.iter().flat_map(|queue| &queue.runs);
    runs.flat_map(|run| run.first.0..run.first.0 + u64::from(run.count)).collect()
}

#[test]
fn a_confirm_waits_for_the_sync_that_covers_it_and_shares_it() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    let (first, second) = (Arc::new(Waiter::default()), Arc::new(Waiter::default()));
    store.set_faults(Faults { syncs_held: true, ..Faults::default() });
    let one = publish(&journal, 1, Some(first.clone()));
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| journal.commit().unwrap());
        store.wait_for_held_sync();
        assert_eq!(first.reached(), Lsn(0));
        // While the first commit syncs, others gather; they can be read already.
        let gathered: Vec<Lsn> =
            (2..=100).map(|position| publish(&journal, position, Some(second.clone()))).collect();
        assert!(gathered.iter().all(|lsn| *lsn == gathered[0] && *lsn > one));
        let read = journal.read(QUEUE, 0, Position(1), usize::MAX).unwrap();
        assert_eq!(read.len(), 100);
        store.set_faults(Faults::default());
        assert_eq!(committing.join().unwrap(), one);
    });
    assert_eq!((first.reached(), second.reached()), (one, Lsn(0)));
    let durable = journal.commit().unwrap();
    assert_eq!(second.reached(), durable);
    assert_eq!(store.syncs(), 2);
}

#[test]
fn a_confirm_waits_for_a_log_that_is_durable_later() {
    let store = FaultyStore::late();
    let (journal, _) = open(&store);
    let waiters: Vec<Arc<Waiter>> = (0..3).map(|_| Arc::default()).collect();
    let mut lsns = Vec::new();
    for (position, waiter) in (1..).zip(&waiters) {
        lsns.push(publish(&journal, position, Some(waiter.clone())));
        assert_eq!(journal.commit().unwrap(), Lsn(0));
    }
    let reached = || waiters.iter().map(|waiter| waiter.reached() >= Lsn(1)).collect::<Vec<_>>();
    assert_eq!(reached(), [false; 3]);
    // The log can't read them yet, and nothing of it is missing.
    assert_eq!(journal.read(QUEUE, 0, Position(1), usize::MAX).unwrap().len(), 3);
    assert!(journal.usage().gathered_bytes > 0);
    store.make_durable(2);
    // The committer does not sleep now.
    journal.wait_for_work(Duration::from_secs(3600));
    assert_eq!(journal.commit().unwrap(), lsns[1]);
    assert_eq!(reached(), [true, true, false]);
    store.make_durable(1);
    assert_eq!(journal.commit().unwrap(), lsns[2]);
    assert_eq!((reached(), journal.usage().gathered_bytes), (vec![true; 3], 0));
    assert_eq!(journal.read(QUEUE, 0, Position(1), usize::MAX).unwrap().len(), 3);
}

/// What is written and not durable counts as behind, and the committer sleeps meanwhile.
#[test]
fn a_log_that_is_not_durable_for_long_holds_publishers_back() {
    let store = FaultyStore::late();
    let options =
        JournalOptions { record_bytes: 1 << 10, gathered_bytes_max: 8 << 10, ..JournalOptions::default() };
    let (journal, _) = Journal::open(Box::new(store.clone()), options, |_| {}).unwrap();
    let mut position = 0;
    while !journal.is_behind() {
        position += 1;
        publish(&journal, position, Some(Arc::default()));
        journal.commit().unwrap();
        assert!(position < 100, "nothing holds back what comes");
    }
    journal.commit().unwrap();
    // All is written, and there is nothing to do until more is durable.
    journal.wait_for_work(Duration::ZERO);
    assert!(journal.is_behind());
    store.make_durable(usize::MAX);
    journal.commit().unwrap();
    assert!(!journal.is_behind());
}

#[test]
fn a_late_log_that_fails_ends_what_waits() {
    let store = FaultyStore::late();
    let (journal, _) = open(&store);
    let waiter = Arc::new(Waiter::default());
    publish(&journal, 1, Some(waiter.clone()));
    journal.commit().unwrap();
    assert_eq!(waiter.failures.load(Ordering::Acquire), 0);
    store.set_faults(Faults { syncs_left: Some(0), ..Faults::default() });
    store.make_durable(0);
    journal.commit().unwrap_err();
    assert_eq!((waiter.reached(), waiter.failures.load(Ordering::Acquire)), (Lsn(0), 1));
}

#[test]
fn a_log_without_definitions_is_a_journal_too() {
    let store = FaultyStore::default();
    let (journal, _) = Journal::open_log(Box::new(store.clone()), JournalOptions::default(), |_| {}).unwrap();
    publish(&journal, 1, None);
    assert_eq!(journal.commit().unwrap(), Lsn(1));
    assert_eq!(journal.definitions().definitions().unwrap(), []);
    drop(journal);
    assert_eq!(positions(&open(&store).1), [1]);
}

#[test]
fn acknowledgements_alone_are_synced_when_there_is_nothing_else_to_do() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    publish(&journal, 1, None);
    journal.commit().unwrap();
    assert_eq!(store.syncs(), 1);
    settle(&journal, 1, 1);
    journal.commit().unwrap();
    assert_eq!(store.syncs(), 1);
    journal.commit().unwrap();
    assert_eq!(store.syncs(), 2);
    journal.commit().unwrap();
    assert_eq!(store.syncs(), 2);
}

#[test]
fn a_failed_sync_ends_all_confirms() {
    for faults in [
        Faults { syncs_left: Some(0), ..Faults::default() },
        Faults { appends_left: Some(0), ..Faults::default() },
    ] {
        let store = FaultyStore::default();
        let (journal, _) = open(&store);
        publish(&journal, 1, None);
        journal.commit().unwrap();
        let durable = journal.durable();
        store.set_faults(faults);
        let waiter = Arc::new(Waiter::default());
        publish(&journal, 2, Some(waiter.clone()));
        let failed = journal.commit().unwrap_err();
        assert_eq!(journal.failure(), Some(failed.clone()));
        store.set_faults(Faults::default());
        assert_eq!(journal.commit().unwrap_err(), failed);
        assert_eq!(publish(&journal, 3, Some(waiter.clone())), Lsn(u64::MAX));
        assert_eq!(journal.durable(), durable);
        assert_eq!((waiter.reached(), waiter.failures.load(Ordering::Acquire)), (Lsn(0), 2));
        store.crash(0);
        assert_eq!(positions(&open(&store).1), [1]);
    }
}

/// Publishes and settles, and leaves the last twenty messages. Says how many records the engine keeps in the end, and how often it
/// had no room: of three operations one, if it is to be `short`.
fn go_through(short: bool) -> (usize, u32) {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    let waiter = Arc::new(Waiter::default());
    let (mut held_up, mut last) = (0, Lsn(0));
    for position in 1..=3000 {
        last = publish(&journal, position, Some(waiter.clone()));
        if position > 20 {
            settle(&journal, position - 20, position - 20);
        }
        let room_left = short.then_some((position % 3) as u32);
        store.set_faults(Faults { room_left, ..Faults::default() });
        assert_eq!(journal.shortage().is_some(), room_left == Some(0));
        if let Err(error) = journal.commit() {
            assert!(error.may_pass(), "{error}");
            held_up += 1;
        }
        assert_eq!(journal.failure(), None);
    }
    store.set_faults(Faults::default());
    while journal.commit().unwrap() < last {}
    for _ in 0..100 {
        journal.commit().unwrap();
    }
    assert_eq!((waiter.reached() >= last, waiter.failures.load(Ordering::Acquire)), (true, 0));
    drop(journal);
    store.crash(0);
    let (_, recovered) = open(&store);
    assert_eq!(positions(&recovered), (2981..=3000).collect::<Vec<_>>());
    assert_eq!(recovered.losses, []);
    (store.lsns().len(), held_up)
}

#[test]
fn what_finds_no_room_is_written_when_there_is_some() {
    let (kept, held_up) = go_through(false);
    assert_eq!(held_up, 0);
    let (kept_by_short, held_up) = go_through(true);
    assert!(held_up >= 1000, "{held_up}");
    assert!(kept_by_short <= 2 * kept, "{kept_by_short} records are kept instead of {kept}");
}

#[test]
fn a_damaged_record_costs_what_it_holds_and_is_reported_once() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    let lsns: Vec<Lsn> = (1..=3)
        .map(|position| {
            let lsn = publish(&journal, position, None);
            journal.commit().unwrap();
            lsn
        })
        .collect();
    drop(journal);
    store.damage(lsns[1], 30);
    let (journal, recovered) = open(&store);
    assert_eq!(positions(&recovered), [1, 3]);
    assert!(matches!(&recovered.losses[..], [Loss::Damaged { lsn, .. }] if *lsn == lsns[1]), "{recovered:?}");
    assert!(recovered.losses[0].to_string().contains("checksum"), "{}", recovered.losses[0]);
    publish(&journal, 4, None);
    journal.commit().unwrap();
    drop(journal);
    let (_, recovered) = open(&store);
    assert_eq!((positions(&recovered), &recovered.losses[..]), (vec![1, 3, 4], &[][..]));
}

#[test]
fn where_there_is_no_room_it_opens_and_clears_away_later() {
    for is_damaged in [false, true] {
        let store = FaultyStore::default();
        let (journal, _) = open(&store);
        let lsns: Vec<Lsn> = (1..=3)
            .map(|position| {
                let lsn = publish(&journal, position, None);
                journal.commit().unwrap();
                lsn
            })
            .collect();
        drop(journal);
        if is_damaged {
            store.damage(lsns[1], 30);
        }
        let kept = if is_damaged { vec![1, 3] } else { vec![1, 2, 3] };
        store.set_faults(Faults { room_left: Some(0), ..Faults::default() });
        let (journal, recovered) = open(&store);
        assert_eq!((positions(&recovered), recovered.losses.len()), (kept.clone(), 3 - kept.len()));
        publish(&journal, 4, None);
        assert!(journal.commit().unwrap_err().may_pass());
        store.set_faults(Faults::default());
        journal.commit().unwrap();
        drop(journal);
        let (_, recovered) = open(&store);
        let kept = [kept, vec![4]].concat();
        assert_eq!((positions(&recovered), &recovered.losses[..]), (kept, &[][..]));
    }
}

#[test]
fn a_record_that_an_engine_lost_is_noticed() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    for position in 1..=5 {
        publish(&journal, position, None);
        journal.commit().unwrap();
    }
    settle(&journal, 2, 3);
    for _ in 0..3 {
        journal.commit().unwrap();
    }
    publish(&journal, 6, None);
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(open(&store).1.losses, []);
    store.lose(Lsn(4));
    let recovered = open(&store).1;
    assert_eq!(positions(&recovered), [1, 5, 6]);
    assert!(matches!(recovered.losses[..], [Loss::Missing { count: 1, .. }]), "{recovered:?}");
}

#[test]
fn a_straggler_holds_up_no_more_than_itself() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    let body = vec![7; 1000];
    // Every record has one message that stays, and settles those of the one before it.
    for record in 0..1000_u64 {
        let mut changes = Changes::default();
        for position in record * 100..record * 100 + 100 {
            let content = [b"ek--".as_slice(), &body].concat();
            changes.enqueue((&content, SHAPE), 1, &[(QUEUE, Position(position), 0)]);
        }
        if record > 0 {
            changes.settle_range(QUEUE, Position(record * 100 - 99), Position(record * 100 - 1));
        }
        journal.append(&mut changes, None);
        journal.commit().unwrap();
    }
    let written = 1000 * 100 * 1000;
    assert!(store.bytes() < written / 3, "{} of {written} bytes are left", store.bytes());
    for _ in 0..20 {
        journal.commit().unwrap();
    }
    let live = journal.usage().messages;
    assert_eq!(live, 999 + 100);
    // Up to 256 young records are left alone, each with 100 KB.
    assert!(store.bytes() < 256 * 110_000 + 2_000_000, "{} bytes are left", store.bytes());
    let read = journal.read(QUEUE, 0, Position(0), usize::MAX).unwrap();
    assert!(!read.is_empty() && read.iter().all(|message| message.content[4..] == body[..]));
    drop(journal);
    let (_, recovered) = open(&store);
    assert_eq!((recovered.messages, &recovered.losses[..]), (live, &[][..]));
}

#[test]
fn purging_costs_the_caller_nothing_and_the_space_comes_back() {
    let store = FaultyStore::default();
    let (journal, _) = open(&store);
    for batch in 0..100_u64 {
        for position in 0..1000 {
            publish(&journal, 1 + batch * 1000 + position, None);
        }
        journal.commit().unwrap();
    }
    assert_eq!(journal.usage().messages, 100_000);
    settle(&journal, 1, 100_000);
    assert!(journal.read(QUEUE, 0, Position(0), 1).unwrap().is_empty());
    for _ in 0..5 {
        journal.commit().unwrap();
    }
    assert_eq!(journal.usage().messages, 0);
    assert!(store.bytes() < 100_000, "{} bytes are left", store.bytes());
}

#[test]
fn only_some_of_those_who_wait_may_take_their_time() {
    let store = FaultyStore::default();
    let options = JournalOptions { unhurried_waiters_max: 2, ..JournalOptions::default() };
    let (journal, _) = Journal::open(Box::new(store.clone()), options, |_| {}).unwrap();
    let waiters: Vec<Arc<Waiter>> = (0..4).map(|_| Arc::default()).collect();
    for (position, waiter) in waiters.iter().enumerate() {
        publish(&journal, position as u64 + 1, Some(waiter.clone()));
    }
    let durable = journal.commit().unwrap();
    assert!(waiters.iter().all(|waiter| waiter.reached() == durable));
    let hurried: Vec<bool> = waiters.iter().map(|waiter| waiter.hurried.load(Ordering::Acquire)).collect();
    assert_eq!(hurried, [false, false, true, true]);
}

#[test]
fn a_committer_is_woken_by_who_waits_and_lingers_for_who_does_not() {
    let store = FaultyStore::default();
    let hour = Duration::from_secs(3600);
    let options = JournalOptions { linger: Duration::from_millis(1), ..JournalOptions::default() };
    let (journal, _) = Journal::open(Box::new(store.clone()), options, |_| {}).unwrap();
    let waiter = Arc::new(Waiter::default());
    std::thread::scope(|scope| {
        let committer = scope.spawn(|| {
            while journal.durable() < Lsn(2) {
                journal.wait_for_work(hour);
                journal.commit().unwrap();
            }
        });
        store.set_faults(Faults { syncs_held: true, ..Faults::default() });
        publish(&journal, 1, None);
        journal.wake_committer();
        store.wait_for_held_sync();
        store.set_faults(Faults::default());
        publish(&journal, 2, Some(waiter.clone()));
        journal.wake_committer();
        committer.join().unwrap();
    });
    assert_eq!(waiter.reached(), Lsn(2));
}
