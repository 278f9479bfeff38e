//! Which consumer of a name is given messages, where one at a time is. Of a stream that stands alone it is the one that has consumed
//! longest. Of a partition of a super stream it is the one whose turn it is by the partition's place, so that the partitions are shared
//! among the consumers of a name; the one before it has to step down first.

use super::consumers::{Bounds, Readers};
use super::reader::Reader;
use crate::broker::turn::Turn;
use crate::message::ConsumerId;

impl Readers {
    /// Sees that the right consumer of a name is active. Returns one that has become so, and is to be served.
    pub(super) fn choose_active(
        &mut self,
        name: &str,
        bounds: &Bounds<'_>,
        turn: &mut Turn,
    ) -> Option<ConsumerId> {
        let members: Vec<&Reader> =
            self.iter().filter(|reader| reader.single_active && reader.name() == Some(name)).collect();
        let active = members.iter().find(|reader| !reader.is_standby);
        // Consumers that know no partitions do not share.
        let place = members.iter().map(|reader| reader.partition).min().flatten();
        let first = members.first()?;
        let wanted = match place {
            Some(place) => members[place % members.len()].new.id,
            None => active.unwrap_or(first).new.id,
        };
        match active {
            Some(active) if active.new.id == wanted || active.is_stepping_down => None,
            Some(active) => {
                let id = active.new.id;
                self.get_mut(id)?.step_down(turn);
                None
            }
            None => {
                self.activate(wanted, bounds, turn);
                Some(wanted)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::delivery::{LinkCredit, Outbox, Outgoing};
    use crate::broker::error::Resource;
    use crate::broker::queue::stream::consumers::Begin;
    use crate::broker::queue::stream::tail::Tail;
    use crate::broker::queue::stream::tracking::Tracking;
    use crate::broker::queue::stream::{Kept, StreamFilter, StreamOffset, Subscription};
    use crate::broker::queue::{Credit, NewConsumer, Window};
    use crate::message::{ConnectionId, EncodedTable, LinkId, QueueId};
    use crate::store::stream::TrackingNotes;
    use std::sync::Arc;

    /// Consumers of one name of a partition, and what they hear.
    struct Group {
        readers: Readers,
        tail: Tail,
        tracking: Tracking,
        outbox: Arc<Outbox>,
        turn: Turn,
    }

    impl Group {
        fn new() -> Group {
            Group {
                readers: Readers::new(
                    Window { messages: 100, bytes: 1000 },
                    Resource::queue(&"/".into(), "s"),
                ),
                tail: Tail::new(0),
                tracking: Tracking::new(QueueId(1), (TrackingNotes::default(), 0)),
                outbox: Arc::new(Outbox::new(Box::new(|| ()), Arc::default())),
                turn: Turn::at(0),
            }
        }

        fn join(&mut self, id: u64, partition: Option<usize>) {
            let new = NewConsumer {
                id: ConsumerId(id),
                tag: "t".into(),
                link: LinkId(1),
                channel: 0,
                connection: ConnectionId(1),
                arguments: EncodedTable::default(),
                outbox: self.outbox.clone(),
                no_ack: true,
                exclusive: false,
                priority: 0,
                credit: Credit::Prefetch(10),
                link_credit: Arc::new(LinkCredit::default()),
            };
            let begin = Begin::of_subscription(Subscription {
                offset: StreamOffset::First,
                filter: StreamFilter::default(),
                name: Some("g".into()),
                single_active: true,
                partition,
            });
            let bounds = Bounds::of(&Kept::default(), &self.tail, &self.tracking);
            self.readers.add(new, begin, &bounds);
            self.readers.choose_active("g", &bounds, &mut self.turn);
        }

        fn choose(&mut self) {
            let bounds = Bounds::of(&Kept::default(), &self.tail, &self.tracking);
            self.readers.choose_active("g", &bounds, &mut self.turn);
        }

        fn leave(&mut self, id: u64) {
            self.readers.remove(ConsumerId(id));
            self.choose();
        }

        fn stepped_down(&mut self, id: u64) {
            self.readers.stepped_down(ConsumerId(id));
            self.choose();
        }

        /// Who has become active, and who is to be so no longer.
        fn heard(&self) -> Vec<(u64, bool)> {
            let heard = self.outbox.take_link(LinkId(1)).into_iter().map(|outgoing| match outgoing {
                Outgoing::Activated { consumer, active, .. } => (consumer.0, active),
                other => panic!("{other:?}"),
            });
            heard.collect()
        }
    }

    #[test]
    fn alone_the_first_one_is_active_until_it_goes() {
        let mut group = Group::new();
        (1..=3).for_each(|id| group.join(id, None));
        assert_eq!(group.heard(), [(1, true)]);
        group.leave(2);
        assert_eq!(group.heard(), []);
        group.leave(1);
        assert_eq!(group.heard(), [(3, true)]);
    }

    #[test]
    fn partitions_are_shared_and_who_is_active_steps_down_first() {
        let mut group = Group::new();
        group.join(1, Some(1));
        assert_eq!(group.heard(), [(1, true)], "alone it has all partitions");
        group.join(2, Some(1));
        assert_eq!(group.heard(), [(1, false)]);
        group.join(3, Some(1));
        assert_eq!(group.heard(), [], "it is asked once");
        group.stepped_down(1);
        assert_eq!(group.heard(), [(2, true)]);
        group.leave(2);
        assert_eq!(group.heard(), [(3, true)], "nobody has to step down");
        group.leave(1);
        assert_eq!(group.heard(), [], "it is the only one, and active already");
    }

    #[test]
    fn who_goes_while_it_steps_down_is_not_waited_for() {
        let mut group = Group::new();
        group.join(1, Some(1));
        group.join(2, Some(1));
        assert_eq!(group.heard(), [(1, true), (1, false)]);
        group.leave(1);
        assert_eq!(group.heard(), [(2, true)]);
    }

    #[test]
    fn one_that_is_to_be_active_again_meanwhile_steps_down_all_the_same() {
        let mut group = Group::new();
        group.join(1, Some(1));
        group.join(2, Some(1));
        group.leave(2);
        assert_eq!(group.heard(), [(1, true), (1, false)]);
        group.stepped_down(1);
        assert_eq!(group.heard(), [(1, true)]);
    }
}
