//! What a session keeps for its client, in whatever protocol they speak: deliveries that wait for an
//! acknowledgement, transactions, and names.

mod away;
mod names;
mod settle;
mod transaction;
mod unacked;

pub(crate) use names::{DeletingQueues, ExclusiveQueues, NameGenerator};
pub(crate) use settle::{Returning, SETTLE_STEPS, Settling, Verdict, credit_of, part, settle, tell_queues};
pub(crate) use transaction::{TooLarge, Transaction, TransactionLimits};
pub(crate) use unacked::{Taken, Unacked, UnackedList};
