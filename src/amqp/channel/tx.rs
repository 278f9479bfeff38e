//! Class tx (0-9-1 section 1.9): publishes and acknowledgements that happen together or not at all.
//!
//! All of a commit's changes go into one record of the journal, so it is atomic across queues too.

use super::settle::Verdict;
use super::unacked::Unacked;
use super::{Channel, Context, Mode, unimplemented};
use crate::amqp::AmqpSettings;
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::broker::routing::Route;
use crate::message::Message;
use amq_protocol::protocol::tx::AMQPMethod::{Commit, CommitOk, Rollback, RollbackOk, Select, SelectOk};
use amq_protocol::protocol::{AMQPClass, tx};
use std::sync::Arc;

/// What has been said since the last commit.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    publishes: Vec<Publish>,
    body_bytes: usize,
    settlements: Vec<(Vec<Unacked>, Verdict)>,
}

#[derive(Debug)]
struct Publish {
    route: Arc<Route>,
    message: Message,
    mandatory: bool,
}

impl Transaction {
    pub(super) fn publish(
        &mut self,
        route: Arc<Route>,
        message: Message,
        mandatory: bool,
        settings: &AmqpSettings,
    ) -> Result<(), AmqpError> {
        self.body_bytes += message.body_bytes();
        if self.publishes.len() >= settings.tx_messages_max || self.body_bytes > settings.tx_bytes_max {
            let text = format!(
                "transaction is too large: at most {} messages and {} bytes may be uncommitted",
                settings.tx_messages_max, settings.tx_bytes_max
            );
            return Err(AmqpError::new(ReplyCode::ResourceError, text));
        }
        self.publishes.push(Publish { route, message, mandatory });
        Ok(())
    }

    pub(super) fn settle(&mut self, taken: Vec<Unacked>, verdict: Verdict) {
        self.settlements.push((taken, verdict));
    }

    /// Forgets everything, and returns the deliveries that are unacknowledged again.
    pub(super) fn roll_back(&mut self) -> Vec<Unacked> {
        std::mem::take(self).settlements.into_iter().flat_map(|(taken, _)| taken).collect()
    }
}

impl Channel {
    pub(super) fn handle_tx(
        &mut self,
        method: &tx::AMQPMethod,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let ok = match method {
            Select(_) => {
                match self.mode {
                    Mode::Plain => self.mode = Mode::Tx(Box::default()),
                    Mode::Tx(_) => {}
                    Mode::Confirm(_) => return Err(precondition("cannot switch from confirm to tx mode")),
                }
                SelectOk(tx::SelectOk {})
            }
            Commit(_) => {
                self.tx_commit(context)?;
                CommitOk(tx::CommitOk {})
            }
            Rollback(_) => {
                let Mode::Tx(transaction) = &mut self.mode else { return Err(not_transactional()) };
                let unacked = transaction.roll_back();
                self.unacked.put_back(unacked);
                RollbackOk(tx::RollbackOk {})
            }
            _ => return Err(unimplemented()),
        };
        self.reply(AMQPClass::Tx(ok), context);
        Ok(())
    }

    fn tx_commit(&mut self, context: &mut Context<'_>) -> Result<(), AmqpError> {
        let Mode::Tx(transaction) = &mut self.mode else { return Err(not_transactional()) };
        let Transaction { publishes, settlements, .. } = std::mem::take(&mut **transaction);
        let mut refused = Vec::new();
        for Publish { route, message, mandatory } in publishes {
            if route.is_empty() {
                if mandatory {
                    self.basic_return(&message, context);
                }
                continue;
            }
            context.vhost.publish(&route, &mut vec![message], context.turn, &mut refused);
        }
        for (taken, verdict) in settlements {
            self.carry_out(taken, verdict, context);
        }
        context.vhost.apply_effects(context.turn);
        if refused.is_empty() { Ok(()) } else { Err(precondition("partial tx completion")) }
    }
}

fn precondition(text: &str) -> AmqpError {
    AmqpError::new(ReplyCode::PreconditionFailed, text)
}

fn not_transactional() -> AmqpError {
    precondition("channel is not transactional")
}
