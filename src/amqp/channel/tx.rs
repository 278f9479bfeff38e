//! Class tx (0-9-1 section 1.9): publishes and acknowledgements that happen together or not at all.
//!
//! All of a commit's changes go into one record of the journal, so it is atomic across queues too.

use super::underway::Underway;
use super::{Channel, Context, Mode, unimplemented};
use crate::amqp::answers::Answer;
use crate::amqp::error::{AmqpError, ReplyCode};
use crate::client::{Committing, TooLarge};
use crate::message::Lsn;
use amq_protocol::protocol::tx::AMQPMethod::{Commit, CommitOk, Rollback, RollbackOk, Select, SelectOk};
use amq_protocol::protocol::{AMQPClass, tx};

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
            Commit(_) => return self.tx_commit(context),
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

    /// Commits: everything is written as one record first, then happens. The answer leaves when that record is durable.
    fn tx_commit(&mut self, context: &mut Context<'_>) -> Result<(), AmqpError> {
        let Mode::Tx(transaction) = &mut self.mode else { return Err(not_transactional()) };
        transaction.check()?;
        if transaction.is_large() {
            let committing = transaction.begin_commit(context.vhost);
            return self.go_on_committing(committing, context);
        }
        let mut commit = transaction.stage(context.vhost, context.turn);
        self.stats.routed += commit.routed;
        for (message, mandatory) in std::mem::take(&mut commit.unroutable) {
            self.unroutable(&message, mandatory, context);
        }
        context.turn.waiter = Some(context.answers.clone());
        let record = context.turn.append_to(context.amqp.broker.journal());
        context.turn.waiter = None;
        let mut refused = Vec::new();
        commit.deliver_publishes(context.vhost, context.turn, &mut refused);
        for (taken, outcome) in std::mem::take(&mut commit.settlements) {
            self.carry_out(taken, outcome, context);
        }
        commit.deliver_letters(context.vhost, context.turn);
        context.vhost.apply_effects(context.turn);
        self.committed(record, !refused.is_empty(), context)
    }

    /// Goes on with a commit that takes longer than a turn may. Nothing else of the connection is handled before it is done.
    pub(super) fn go_on_committing(
        &mut self,
        mut committing: Committing,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        let is_staged = committing.stage(context.turn);
        self.stats.routed += std::mem::take(&mut committing.routed);
        for (message, mandatory) in std::mem::take(&mut committing.unroutable) {
            self.unroutable(&message, mandatory, context);
        }
        if is_staged {
            context.turn.waiter = Some(context.answers.clone());
            committing.append(context.turn);
            context.turn.waiter = None;
        }
        let is_delivered = is_staged && committing.deliver(context.turn);
        while is_delivered && let Some((taken, outcome)) = committing.next_settled(context.turn) {
            self.carry_out(taken, outcome, context);
        }
        let is_done = is_delivered && committing.deliver_letters(context.turn);
        context.vhost.apply_effects(context.turn);
        if !is_done {
            self.goes_on_with(Underway::Committing(Box::new(committing)));
            return Ok(());
        }
        self.committed(committing.record.flatten(), committing.is_refused, context)
    }

    /// A commit has happened; it is answered when its record is durable.
    fn committed(
        &mut self,
        record: Option<Lsn>,
        is_refused: bool,
        context: &mut Context<'_>,
    ) -> Result<(), AmqpError> {
        if is_refused {
            return Err(precondition("partial tx completion"));
        }
        match record {
            Some(lsn) => self.commits.push((lsn, Answer::CommitOk)),
            None => self.reply(AMQPClass::Tx(CommitOk(tx::CommitOk {})), context),
        }
        Ok(())
    }
}

impl From<TooLarge> for AmqpError {
    fn from(error: TooLarge) -> AmqpError {
        AmqpError::new(ReplyCode::ResourceError, error.to_string())
    }
}

fn precondition(text: &str) -> AmqpError {
    AmqpError::new(ReplyCode::PreconditionFailed, text)
}

fn not_transactional() -> AmqpError {
    precondition("channel is not transactional")
}
