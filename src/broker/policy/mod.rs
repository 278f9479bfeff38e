//! Policies: settings for all queues and exchanges whose names match a pattern, which can change while these are in use.
//!
//! To each object the policy of the highest priority applies that fits it, and one operator policy beside it, whose limits
//! bound those of the other. A vhost keeps its policies; [`super::VirtualHost`] applies them to its objects when they change.

mod apply;
mod effective;
mod undecided;

pub use crate::vocabulary::ApplyTo;
pub use effective::Applied;
pub(super) use effective::{alternate_exchange, settings};

use super::error::ResourceKind;
use super::queue::QueueType;
use crate::message::{FieldTable, Name, Value};
use crate::pattern::{Pattern, Undecided};
use std::sync::Arc;
use undecided::GivenUp;

/// Who set a policy, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// Set by those who use the vhost.
    Policy,
    /// Set by those who run the broker; its limits can't be exceeded by the other kind.
    Operator,
}

impl ApplyTo {
    fn fits(self, target: Target<'_>) -> bool {
        match (self, target) {
            (ApplyTo::All, _)
            | (ApplyTo::Exchanges, Target::Exchange(_))
            | (ApplyTo::Queues, Target::Queue(..))
            | (ApplyTo::ClassicQueues, Target::Queue(_, QueueType::Classic))
            | (ApplyTo::QuorumQueues, Target::Queue(_, QueueType::Quorum))
            | (ApplyTo::Streams, Target::Queue(_, QueueType::Stream)) => true,
            (_, _) => false,
        }
    }
}

/// What a policy may apply to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    Queue(&'a str, QueueType),
    Exchange(&'a str),
}

impl<'a> Target<'a> {
    fn name(self) -> &'a str {
        match self {
            Target::Queue(name, _) | Target::Exchange(name) => name,
        }
    }

    fn kind(self) -> ResourceKind {
        match self {
            Target::Queue(..) => ResourceKind::Queue,
            Target::Exchange(_) => ResourceKind::Exchange,
        }
    }
}

/// One policy. It never changes: another one takes its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name, unique in the vhost.
    pub name: Name,
    /// What names it is for.
    pub pattern: Pattern,
    /// What objects it is for.
    pub apply_to: ApplyTo,
    /// The higher one applies: a number, whole or not.
    pub priority: Value,
    /// What it sets, ordered by key.
    pub definition: FieldTable,
}

impl Policy {
    /// Reads a policy from its [fields](Policy::fields), of which priority and apply-to may be missing. What its settings say is not
    /// judged; `None` is no policy.
    pub fn read(name: &str, fields: &FieldTable) -> Option<Policy> {
        let pattern = Pattern::new(fields.field("pattern")?.as_str()?).ok()?;
        let Value::Table(mut definition) = fields.field("definition")?.clone() else { return None };
        definition.sort();
        let apply_to = match fields.field("apply-to") {
            None => ApplyTo::All,
            Some(word) => ApplyTo::named(word.as_str()?)?,
        };
        let priority = match fields.field("priority") {
            None => Value::I64(0),
            Some(number @ Value::F64(_)) => number.clone(),
            Some(value) => Value::I64(value.as_integer()?),
        };
        Some(Policy { name: name.into(), pattern, apply_to, priority, definition })
    }

    /// The fields that it is read from again.
    pub fn fields(&self) -> FieldTable {
        [
            ("pattern", Value::from(self.pattern.as_str())),
            ("definition", Value::Table(self.definition.clone())),
            ("priority", self.priority.clone()),
            ("apply-to", Value::from(self.apply_to.name())),
        ]
        .into_iter()
        .collect()
    }

    fn rank(&self) -> f64 {
        match self.priority {
            Value::F64(number) => number,
            // Priorities beyond 2^53 can't be told apart.
            ref whole => whole.as_integer().unwrap_or_default() as f64,
        }
    }

    /// Whether it applies to an object if no other one comes first.
    fn applies(&self, target: Target<'_>) -> Result<bool, Undecided> {
        let has_unsupported = |queue_type| {
            self.definition
                .iter()
                .any(|(key, _)| unsupported(queue_type).iter().any(|unsupported| key == *unsupported))
        };
        match target {
            _ if !self.apply_to.fits(target) => Ok(false),
            Target::Queue(_, queue_type) if has_unsupported(queue_type) => Ok(false),
            _ => self.pattern.matches(target.name()),
        }
    }
}

/// A policy with one of these keys passes a queue of that type by.
fn unsupported(queue_type: QueueType) -> &'static [&'static str] {
    match queue_type {
        QueueType::Classic => &[
            "max-age",
            "stream-max-segment-size-bytes",
            "stream-filter-size-bytes",
            "stream-publisher-expires",
            "stream-offset-expires",
            "queue-leader-locator",
            "initial-cluster-size",
            "delivery-limit",
            "dead-letter-strategy",
            "target-group-size",
        ],
        QueueType::Quorum => &[
            "queue-mode",
            "ha-mode",
            "ha-params",
            "ha-sync-mode",
            "ha-promote-on-shutdown",
            "ha-promote-on-failure",
            "queue-master-locator",
            "max-age",
            "stream-max-segment-size-bytes",
            "stream-filter-size-bytes",
            "stream-publisher-expires",
            "stream-offset-expires",
            "initial-cluster-size",
        ],
        // RabbitMQ takes all keys for a stream, and passes over those of other queues.
        QueueType::Stream => &[],
    }
}

/// How many patterns are given up for one object and kind of policy; the others are not tried then. Each has cost a millisecond or
/// two.
const GIVEN_UP_MAX: usize = 2;

/// The policies of one vhost.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    /// Those that come first apply first.
    policies: Vec<Arc<Policy>>,
    operator_policies: Vec<Arc<Policy>>,
}

impl Policies {
    pub(super) fn of(&self, kind: PolicyKind) -> &[Arc<Policy>] {
        match kind {
            PolicyKind::Policy => &self.policies,
            PolicyKind::Operator => &self.operator_policies,
        }
    }

    fn list(&mut self, kind: PolicyKind) -> &mut Vec<Arc<Policy>> {
        match kind {
            PolicyKind::Policy => &mut self.policies,
            PolicyKind::Operator => &mut self.operator_policies,
        }
    }

    /// Sets a policy in the place of its namesake, and says whether there was none.
    pub(super) fn set(&mut self, kind: PolicyKind, policy: Arc<Policy>) -> bool {
        let is_new = self.remove(kind, &policy.name).is_none();
        let list = self.list(kind);
        list.push(policy);
        list.sort_by(|a, b| b.rank().total_cmp(&a.rank()).then_with(|| a.name.cmp(&b.name)));
        is_new
    }

    pub(super) fn remove(&mut self, kind: PolicyKind, name: &str) -> Option<Arc<Policy>> {
        let list = self.list(kind);
        let at = list.iter().position(|policy| &*policy.name == name)?;
        Some(list.remove(at))
    }

    /// What applies to an object. Policies whose patterns can't decide are noted.
    fn applied_to(&self, target: Target<'_>, given_up: &mut GivenUp) -> Applied {
        let mut first = |kind| {
            let mut undecided = 0;
            for policy in self.of(kind) {
                match policy.applies(target) {
                    Ok(true) => return Some(policy.clone()),
                    Ok(false) => {}
                    Err(_) if undecided == GIVEN_UP_MAX => {
                        given_up.note_rest(kind, target);
                        return None;
                    }
                    Err(_) => {
                        undecided += 1;
                        given_up.note(kind, &policy.name, target);
                    }
                }
            }
            None
        };
        Applied { policy: first(PolicyKind::Policy), operator_policy: first(PolicyKind::Operator) }
    }
}

#[cfg(test)]
mod tests;
