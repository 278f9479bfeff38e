//! Ids and names of things. Each is its own type, so that one can't be taken for another.

use std::fmt;
use std::sync::Arc;

/// A name of a vhost, exchange or queue, shared rather than copied.
pub type Name = Arc<str>;

/// A channel's number within its connection (0-9-1 section 4.2.3); 0 is the connection itself.
pub type ChannelNumber = u16;

/// An address inside a session, chosen by the session and opaque to the core: what is given to the session names it again. It
/// is whatever the session's protocol has one flow of deliveries for: a channel, a subscription, a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

impl From<ChannelNumber> for LinkId {
    fn from(channel: ChannelNumber) -> LinkId {
        LinkId(channel.into())
    }
}

/// A point in time: milliseconds since the Unix epoch. Time is always handed in, see [`crate::clock`].
pub type Millis = u64;

/// The time that never comes.
pub const NEVER: Millis = Millis::MAX;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A queue, for as long as it exists. Never used again, unlike its name.
    QueueId
);
number!(
    /// A message's place in its queue: later messages have greater ones. With the queue's id it names one copy of a
    /// message and is never used again, which the journal relies on.
    Position
);
number!(
    /// Log sequence number: how far the journal has been written. See [`crate::store`].
    Lsn
);
number!(
    /// A connection, for as long as the broker runs.
    ConnectionId
);
number!(
    /// A consumer, for as long as the broker runs.
    ConsumerId
);
number!(
    /// A publish that is to be confirmed, by its number among those of its link, which are counted from 1.
    PublishId
);
number!(
    /// A delivery tag: scoped to a channel, counted from 1 (0-9-1 section 1.8.3.13).
    DeliveryTag
);
