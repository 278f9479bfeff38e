//! On whose behalf something is done.

use crate::message::ConnectionId;

/// On whose behalf something is done with a queue or its bindings. An exclusive queue is its connection's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor<'a> {
    /// A client, over this connection.
    Connection(ConnectionId),
    /// The user of that name over the management API, who is no connection: exclusive queues are closed to it.
    Operator(&'a str),
    /// The broker itself, which restores or imports what is there. It may use every queue.
    Broker,
}

impl Actor<'_> {
    /// Whether a queue may be used that belongs to `owner`, if to anybody.
    pub fn may_use(self, owner: Option<ConnectionId>) -> bool {
        match (self, owner) {
            (_, None) | (Actor::Broker, _) => true,
            (Actor::Connection(asking), Some(owner)) => asking == owner,
            (Actor::Operator(_), Some(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_queue_is_its_connection_s_and_the_broker_s() {
        let (one, other) = (ConnectionId(1), ConnectionId(2));
        let actors = [Actor::Connection(one), Actor::Connection(other), Actor::Operator("u"), Actor::Broker];
        assert_eq!(actors.map(|actor| actor.may_use(None)), [true; 4]);
        assert_eq!(actors.map(|actor| actor.may_use(Some(one))), [true, false, false, true]);
    }
}
