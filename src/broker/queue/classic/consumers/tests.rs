use super::*;

const MANY: u64 = 20_000;
const WINDOW: Window = Window { messages: 10, bytes: 1000 };

fn consumer(id: u64, prefetch_count: u16) -> NewConsumer {
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
        prefetch_count,
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
    assert!(steps < 8 * MANY && consumers.aside.is_empty(), "{steps} steps to leave");
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
