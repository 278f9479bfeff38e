//! What a session keeps for its client, in whatever protocol they speak: deliveries that wait for an
//! acknowledgement, publishes that wait for their confirms, transactions, names, and what is checked of messages.

mod answers;
mod checks;
mod committing;
mod confirms;
mod delivered;
mod ending;
mod heartbeat;
mod logging_in;
mod names;
mod paged;
mod sasl;
mod settle;
mod transaction;
mod unacked;

pub(crate) use answers::{Answer, Answered, Answers};
pub(crate) use checks::check_properties;
pub(crate) use committing::Committing;
pub(crate) use confirms::{Confirms, Publishes};
pub(crate) use delivered::{properties_of_entry, properties_to_send};
pub(crate) use ending::{CANCEL_STEPS, EndingConsumer, EndingConsumers};
pub(crate) use heartbeat::Heartbeat;
pub(crate) use logging_in::LoggingIn;
pub(crate) use names::{DeletingQueues, ExclusiveQueues, NameGenerator};
pub(crate) use sasl::{amqplain, plain};
pub(crate) use settle::{Returning, SETTLE_STEPS, Settling, credit_of, part, part_of, settle, tell_queues};
pub(crate) use transaction::{TooLarge, Transaction, TransactionLimits};
pub(crate) use unacked::{Taken, Unacked, UnackedList};
