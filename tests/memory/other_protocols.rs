//! What the core does for protocols that need more than AMQP 0-9-1 says: credit that consumers grant and have drained, and routing
//! keys that are longer than a short string, over a restart too.

use leveret::broker::delivery::{LinkCredit, Outbox, Outgoing};
use leveret::broker::exchange::ExchangeTypes;
use leveret::broker::queue::{Credit, NewConsumer, QueueDeclaration, QueueHandle};
use leveret::broker::{Actor, Broker, BrokerLimits, Turn, VirtualHost};
use leveret::message::{
    ConnectionId, ConsumerId, EncodedTable, FieldTable, LinkId, Message, Properties, ROUTING_KEY_BYTES_MAX,
};
use leveret::store::{Journal, JournalOptions, MemoryStore, Store};
use std::sync::Arc;

const NOW: u64 = 1_700_000_000_000;

/// A link that no channel has.
const LINK: LinkId = LinkId(1_000_000);

/// A broker, and a durable queue of it.
struct Rig {
    broker: Broker,
    vhost: Arc<VirtualHost>,
    queue: Arc<QueueHandle>,
    outbox: Arc<Outbox>,
}

impl Rig {
    fn new(store: Box<dyn Store>) -> Rig {
        let (journal, recovered) = Journal::open(store, JournalOptions::default(), |_| ()).unwrap();
        let types = ExchangeTypes::standard();
        let broker = Broker::open(Arc::new(journal), recovered, types, BrokerLimits::default(), NOW).unwrap();
        let vhost = broker.vhost("/").unwrap_or_else(|| broker.add_vhost("/").unwrap());
        let declaration = QueueDeclaration {
            name: "q".into(),
            durable: true,
            auto_delete: false,
            exclusive_owner: None,
            arguments: FieldTable::default(),
        };
        let mut turn = Turn::at(NOW);
        let queue = vhost.declare_queue(declaration, Actor::Broker, &mut turn).unwrap().into_value();
        broker.end_turn(&mut turn);
        broker.commit_changes().unwrap();
        let outbox = Arc::new(Outbox::new(Box::new(|| ()), Arc::default()));
        Rig { broker, vhost, queue, outbox }
    }

    fn turn(&self, what: impl FnOnce(&mut Turn)) {
        let mut turn = Turn::at(NOW);
        what(&mut turn);
        self.vhost.apply_effects(&mut turn);
        self.broker.end_turn(&mut turn);
    }

    /// Persistent messages for the queue, whose bodies are numbers.
    fn publish(&self, numbers: std::ops::Range<u8>) {
        let mut properties = Vec::new();
        Properties { delivery_mode: Some(2), ..Properties::default() }.encode(&mut properties);
        let exchange = self.vhost.exchange("").unwrap();
        let messages = numbers.map(|number| Message::new("", b"q", &properties, &[number]).unwrap());
        let mut messages: Vec<Message> = messages.collect();
        let route = self.vhost.route(&exchange, &messages[0]);
        self.turn(|turn| {
            self.vhost.publish(&route, &mut messages, turn, &mut Vec::new());
        });
    }

    fn consume(&self, credit: Credit) {
        let new = NewConsumer {
            id: ConsumerId(1),
            tag: "c".into(),
            link: LINK,
            channel: 1,
            connection: ConnectionId(1),
            arguments: EncodedTable::default(),
            outbox: self.outbox.clone(),
            no_ack: false,
            exclusive: false,
            priority: 0,
            credit,
            link_credit: Arc::new(LinkCredit::default()),
        };
        self.turn(|turn| self.queue.consume(new, turn).unwrap());
    }

    /// The consumer grants this.
    fn grant(&self, delivery_count: u32, credit: u32, drain: bool) {
        let credit = Credit::Absolute { delivery_count, credit, drain };
        self.turn(|turn| self.queue.grant(ConsumerId(1), credit, turn));
    }

    /// What has come for the link: bodies, and how much was drained.
    fn received(&self) -> (Vec<u8>, Vec<u32>) {
        let (mut taken, mut bodies, mut drained) = (Vec::new(), Vec::new(), Vec::new());
        self.outbox.take(&mut taken, usize::MAX);
        for outgoing in taken {
            assert_eq!(outgoing.link(), LINK);
            match outgoing {
                Outgoing::Deliver { entry, .. } => {
                    assert!(drained.is_empty(), "what is drained comes behind what is delivered");
                    bodies.extend_from_slice(entry.message.body());
                }
                Outgoing::Drained { count, .. } => drained.push(count),
                other => panic!("{other:?}"),
            }
        }
        (bodies, drained)
    }
}

#[test]
fn a_consumer_gets_what_it_grants_credit_for() {
    let rig = Rig::new(Box::new(MemoryStore::default()));
    rig.publish(0..5);
    rig.consume(Credit::Absolute { delivery_count: u32::MAX, credit: 2, drain: false });
    assert_eq!(rig.received(), (vec![0, 1], vec![]));
    rig.grant(u32::MAX, 3, false);
    assert_eq!(rig.received(), (vec![2], vec![]), "it has not seen the first two yet");
    rig.grant(2, 0, false);
    rig.publish(5..6);
    assert_eq!(rig.received(), (vec![], vec![]));
}

#[test]
fn a_consumer_has_its_credit_drained() {
    let rig = Rig::new(Box::new(MemoryStore::default()));
    rig.publish(0..3);
    rig.consume(Credit::Absolute { delivery_count: 0, credit: 1, drain: false });
    rig.grant(0, 10, true);
    assert_eq!(rig.received(), (vec![0, 1, 2], vec![7]));
    rig.publish(3..4);
    assert_eq!(rig.received(), (vec![], vec![]), "its credit is used up");
    rig.grant(10, 1, true);
    assert_eq!(rig.received(), (vec![3], vec![0]));
    rig.grant(11, 2, true);
    assert_eq!(rig.received(), (vec![], vec![2]));
}

#[test]
fn a_prefetch_count_may_be_larger_than_those_of_amqp() {
    let rig = Rig::new(Box::new(MemoryStore::default()));
    rig.consume(Credit::Prefetch(100_000));
    let consumers = rig.queue.consumers();
    assert_eq!(consumers.iter().map(|consumer| consumer.prefetch_count).collect::<Vec<_>>(), [100_000]);
}

#[test]
fn a_long_routing_key_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        Box::new(
            leveret::store::SledStore::open(folder.path(), leveret::vocabulary::Durability::Fsync).unwrap(),
        )
    };
    let key = "é".repeat(ROUTING_KEY_BYTES_MAX / 2);
    let rig = Rig::new(open());
    let mut properties = Vec::new();
    Properties { delivery_mode: Some(2), ..Properties::default() }.encode(&mut properties);
    let message = Message::new("amq.fanout", key.as_bytes(), &properties, b"body").unwrap();
    let route =
        rig.vhost.route(&rig.vhost.exchange("").unwrap(), &Message::new("", b"q", &[0, 0], b"").unwrap());
    rig.turn(|turn| {
        rig.vhost.publish(&route, &mut vec![message.clone()], turn, &mut Vec::new());
    });
    rig.publish(7..8);
    rig.broker.journal().commit().unwrap();
    drop((rig, route));
    let rig = Rig::new(open());
    rig.consume(Credit::Prefetch(0));
    let mut taken = Vec::new();
    rig.outbox.take(&mut taken, usize::MAX);
    let messages: Vec<Message> = taken
        .into_iter()
        .map(|outgoing| match outgoing {
            Outgoing::Deliver { entry, .. } => entry.message,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(messages[0], message);
    assert_eq!(messages[1].body(), [7]);
}
