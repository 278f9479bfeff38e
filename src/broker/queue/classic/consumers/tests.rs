use super::*;

const MANY: u64 = 20_000;
const WINDOW: Window = Window { messages: 10, bytes: 1000 };

fn consumer(id: u64, prefetch_count: u32) -> NewConsumer {
    NewConsumer {
        id: ConsumerId(id),
        tag: "c".into(),
        link: LinkId(1),
        channel: 1,
        connection: ConnectionId(1),
        arguments: EncodedTable::default(),
        outbox: Arc::new(Outbox::new(Box::new(|| ()), Arc::default())),
        no_ack: false,
        exclusive: false,
        priority: 0,
        credit: Credit::Prefetch(prefetch_count),
        link_credit: Arc::default(),
    }
}

fn with(count: u64, single_active: bool) -> Consumers {
    let mut consumers = Consumers::new(single_active);
    (1..=count).for_each(|id| consumers.add(consumer(id, 1)));
    consumers
}

/// Whose turn it is; it is given one message.
fn next(consumers: &mut Consumers) -> Option<u64> {
    let (consumer, _) = consumers.next_turn(WINDOW, 100)?;
    consumer.outstanding.unacked += 1;
    Some(consumer.new.id.0)
}

#[test]
fn who_has_no_credit_leaves_the_line_and_joins_its_end() {
    let mut consumers = with(3, false);
    assert_eq!([(); 4].map(|()| next(&mut consumers)), [Some(1), Some(2), Some(3), None]);
    consumers.settled(ConsumerId(2), 1);
    consumers.settled(ConsumerId(1), 1);
    assert_eq!([(); 3].map(|()| next(&mut consumers)), [Some(2), Some(1), None]);
}

/// Consumers of one link, which may have one delivery.
fn of_one_link(ids: impl Iterator<Item = u64>) -> (Consumers, Arc<LinkCredit>) {
    let credit = Arc::new(LinkCredit::default());
    credit.set_limit(1);
    let mut consumers = Consumers::new(false);
    ids.for_each(|id| consumers.add(NewConsumer { link_credit: credit.clone(), ..consumer(id, 0) }));
    (consumers, credit)
}

/// What a consumer was given is acknowledged, and the link lets the next one have its turn.
fn acknowledge(consumers: &mut Consumers, credit: &LinkCredit, id: u64) -> Option<u64> {
    consumers.settled(ConsumerId(id), 1);
    credit.release(1);
    while let Some(waiting) = credit.next_waiting() {
        consumers.resume(waiting);
        if let Some(id) = next(consumers) {
            assert_eq!(next(consumers), None, "one delivery is all the link may have");
            return Some(id);
        }
    }
    None
}

#[test]
fn consumers_of_a_full_link_take_turns() {
    let (mut consumers, credit) = of_one_link(1..=3);
    assert_eq!([(); 2].map(|()| next(&mut consumers)), [Some(1), None]);
    let turns = [1, 2, 3, 1].map(|id| acknowledge(&mut consumers, &credit, id));
    assert_eq!(turns, [Some(2), Some(3), Some(1), Some(2)]);
}

#[test]
fn the_link_hears_of_who_waits_when_the_first_of_them_is_gone() {
    let (mut consumers, credit) = of_one_link(1..=3);
    assert_eq!([(); 2].map(|()| next(&mut consumers)), [Some(1), None]);
    consumers.remove(ConsumerId(2));
    assert_eq!(acknowledge(&mut consumers, &credit, 1), Some(3));
    assert_eq!(consumers.take_all().count(), 2);
    assert_eq!((credit.release(1), credit.next_waiting()), (false, None));
}

#[test]
fn standing_aside_costs_the_same_however_many_do() {
    let (mut consumers, credit) = of_one_link(1..=MANY);
    let (_, steps) = steps::of(|| {
        let mut id = next(&mut consumers).unwrap_or_default();
        for _ in 0..4 {
            id = acknowledge(&mut consumers, &credit, id).unwrap_or_default();
        }
    });
    assert!(steps < 8 * MANY, "{steps} steps");
    let (_, steps) = steps::of(|| {
        for id in 1..=MANY {
            assert!(consumers.remove(ConsumerId(id * 7919 % MANY + 1)).is_some());
        }
    });
    assert!(steps < 8 * MANY && consumers.waiting.is_empty(), "{steps} steps to leave");
}

#[test]
fn who_is_gone_is_passed_over() {
    let mut consumers = with(5, false);
    [1, 3, 4].iter().for_each(|id| drop(consumers.remove(ConsumerId(*id))));
    consumers.add(consumer(6, 1));
    assert_eq!([(); 4].map(|()| next(&mut consumers)), [Some(2), Some(5), Some(6), None]);
    [2, 5, 6].iter().for_each(|id| drop(consumers.remove(ConsumerId(*id))));
    assert!(consumers.is_empty() && consumers.line.is_empty());
}

#[test]
fn the_last_of_many_costs_what_the_first_one_does() {
    for single_active in [false, true] {
        let (mut consumers, steps) = steps::of(|| with(MANY, single_active));
        assert!(steps < 2 * MANY, "{steps} steps to come");
        let (_, steps) = steps::of(|| while next(&mut consumers).is_some() {});
        assert!(steps < 4 * MANY, "{steps} steps for turns");
        (1..=MANY).for_each(|id| consumers.settled(ConsumerId(id), 1));
        let (_, steps) = steps::of(|| {
            for id in 1..=MANY {
                assert!(consumers.remove(ConsumerId(id * 7919 % MANY + 1)).is_some());
            }
        });
        assert!(steps < 8 * MANY && consumers.is_empty(), "{steps} steps to leave");
    }
}

#[test]
fn who_comes_and_goes_leaves_nothing_in_the_line() {
    let mut consumers = with(1, false);
    for id in 2..1000 {
        consumers.add(consumer(id, 1));
        consumers.remove(ConsumerId(id));
    }
    assert!(consumers.line[&Reverse(0)].ids.len() <= 3 + GONE_IN_LINE);
}

/// A consumer that grants its credit.
fn granting(id: u64, delivery_count: u32, credit: u32) -> NewConsumer {
    NewConsumer { credit: Credit::Absolute { delivery_count, credit, drain: false }, ..consumer(id, 0) }
}

#[test]
fn granted_credit_is_used_once_whatever_is_acknowledged() {
    let mut consumers = Consumers::new(false);
    consumers.add(granting(1, 0, 2));
    let give = |consumers: &mut Consumers| {
        let (consumer, count) = consumers.next_turn(WINDOW, 100)?;
        consumer.new.credit.spend(count);
        Some(count)
    };
    assert_eq!((give(&mut consumers), give(&mut consumers)), (Some(2), None));
    consumers.settled(ConsumerId(1), 2);
    assert_eq!(give(&mut consumers), None);
    consumers.grant(ConsumerId(1), Credit::Absolute { delivery_count: 1, credit: 4, drain: false });
    assert_eq!((give(&mut consumers), give(&mut consumers)), (Some(3), None));
}

#[test]
fn credit_is_drained_when_nothing_more_comes_at_once() {
    let mut consumers = Consumers::new(true);
    consumers.add(granting(1, 10, 5));
    consumers.add(granting(2, 20, 7));
    let drain = |delivery_count, credit| Credit::Absolute { delivery_count, credit, drain: true };
    let drained = |consumers: &mut Consumers, nothing_is_ready| -> Vec<(u64, u32)> {
        let drained = consumers.drain(nothing_is_ready).into_iter();
        drained.map(|(consumer, count)| (consumer.id.0, count)).collect()
    };
    assert!(!consumers.are_draining() && drained(&mut consumers, true).is_empty());
    consumers.grant(ConsumerId(1), drain(10, 5));
    consumers.grant(ConsumerId(2), drain(20, 7));
    assert_eq!(drained(&mut consumers, false), [(2, 7)], "the other one is active and gets what is ready");
    assert_eq!(drained(&mut consumers, true), [(1, 5)]);
    assert!(!consumers.are_draining());
    consumers.grant(ConsumerId(1), drain(15, 1));
    consumers.remove(ConsumerId(1));
    assert!(!consumers.are_draining(), "it is gone");
}

/// What a client of granted credit knows, against what it is given: never more than it granted, and all of it in the end.
#[test]
fn granted_credit_follows_the_model() {
    let mut random = 1u64;
    let mut next_random = |below: u32| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u32 % below
    };
    let start = u32::MAX - 50;
    let mut consumers = Consumers::new(false);
    consumers.add(granting(1, start, 0));
    // The client's count and limit, as distances from the start; what is on its way to it; what is ready.
    let (mut seen, mut limit, mut under_way, mut ready) = (0u32, 0u32, 0u32, 0u32);
    for _ in 0..10_000 {
        match next_random(4) {
            0 => ready += next_random(5),
            1 => {
                let credit = next_random(8);
                // Less than was granted before may come too late: what is under way has used it.
                limit = (seen + credit).max(seen + under_way);
                let drain = next_random(3) == 0;
                let delivery_count = start.wrapping_add(seen);
                consumers.grant(ConsumerId(1), Credit::Absolute { delivery_count, credit, drain });
            }
            2 => {
                let arrives = next_random(under_way + 1);
                (seen, under_way) = (seen + arrives, under_way - arrives);
            }
            _ => consumers.sent(ConsumerId(1), under_way, 0),
        }
        while ready > 0
            && let Some((consumer, count)) = consumers.next_turn(WINDOW, ready as usize)
        {
            consumer.new.credit.spend(count);
            (ready, under_way) = (ready - count, under_way + count);
            assert!(seen + under_way <= limit, "more than was granted");
        }
        for (_, count) in consumers.drain(ready == 0) {
            under_way += count;
            assert_eq!(seen + under_way, limit, "drained is used up");
        }
        assert!(ready == 0 || seen + under_way == limit, "what is granted is given");
    }
}
