//! How a queue is owned: one of a few kinds, each behind locks of its own. Nothing outside of this directory knows, so that it could
//! as well be a thread, a shard or another machine that has it; what can be done with a queue is in `verbs.rs`.

use super::arguments::{self, Recognised};
use super::classic::Queue;
use super::stream::{Stream, StreamOffset, position_of};
use super::{Credit, QueueDefinition, QueueType};
use crate::broker::done::Ticket;
use crate::broker::error::{BrokerError, Resource, StreamRefusal};
use crate::broker::memory::{Held, MemoryUse};
use crate::broker::turn::Turn;
use crate::broker::{BrokerLimits, Shared};
use crate::message::{ConnectionId, FieldTable, Name, Position, QueueId, Value};
use crate::store::RecoveredQueue;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What queue.declare asks for.
#[derive(Clone, Debug)]
pub struct QueueDeclaration {
    /// The queue's name, unique in the vhost.
    pub name: Name,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Deleted when its last consumer leaves.
    pub auto_delete: bool,
    /// Belongs to the declaring connection.
    pub exclusive_owner: Option<ConnectionId>,
    /// Its arguments, as the client sent them.
    pub arguments: FieldTable,
}

impl QueueDeclaration {
    /// Gives a queue that is declared without a type the vhost's default one, if it can have it.
    pub(in crate::broker) fn take_default_type(&mut self, default: QueueType) {
        let is_plain = self.durable && !self.auto_delete && self.exclusive_owner.is_none();
        if default != QueueType::Classic && is_plain && self.arguments.field("x-queue-type").is_none() {
            self.arguments.insert("x-queue-type", Value::from(default.name()));
        }
    }
}

/// What a consumer asks for, as far as it depends on the queue whether it may.
#[derive(Clone, Copy, Debug)]
pub struct ConsumeRequest<'a> {
    /// The arguments of basic.consume.
    pub arguments: &'a FieldTable,
    /// Whether deliveries count as acknowledged when they are sent.
    pub no_ack: bool,
    /// How much it may be given.
    pub credit: Credit,
}

/// What a queue is behind its handle. A further kind is a further variant, and the compiler then names each verb that has to say what
/// it does for it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a classic queue is reached without a further pointer")]
pub(super) enum Kind {
    /// A classic or quorum queue on this node, behind a lock for work in memory alone.
    Classic(Mutex<Queue>),
    /// A stream on this node.
    Stream(Arc<Stream>),
}

/// A shared queue: its definition, and what its kind makes of it.
#[derive(Debug)]
pub struct QueueHandle {
    definition: Arc<QueueDefinition>,
    next_position: AtomicU64,
    pub(super) kind: Kind,
    /// When its definition is durable, if it is kept and was not there at the start.
    kept_since: Option<Ticket>,
    /// Holds its arguments in the memory account.
    _held: Held,
}

impl QueueHandle {
    /// A new and empty queue.
    ///
    /// # Errors
    /// When the arguments make no sense for the type of queue.
    pub fn new(
        vhost: &Name,
        id: QueueId,
        declaration: QueueDeclaration,
        shared: &Shared,
        turn: &mut Turn,
    ) -> Result<QueueHandle, BrokerError> {
        let (queue_type, recognised) = parse(vhost, &declaration, &shared.limits)?;
        let definition = Arc::new(QueueDefinition {
            id,
            vhost: vhost.clone(),
            name: declaration.name,
            durable: declaration.durable,
            auto_delete: declaration.auto_delete,
            exclusive_owner: declaration.exclusive_owner,
            arguments: declaration.arguments.into(),
            queue_type,
            max_priority: recognised.max_priority,
            single_active_consumer: recognised.single_active_consumer,
            segment_bytes: recognised.segment_bytes,
            declared: recognised.settings,
        });
        let kind = match queue_type {
            QueueType::Stream => Kind::Stream(Stream::open(&definition, shared, turn.now)?),
            QueueType::Classic | QueueType::Quorum => {
                Kind::Classic(Mutex::new(Queue::new(definition.clone(), shared, turn)))
            }
        };
        let held = shared.memory.hold(MemoryUse::Arguments, definition.arguments.bytes());
        let next = match &kind {
            Kind::Classic(_) => Position(1),
            Kind::Stream(stream) => position_of(stream.next_offset()),
        };
        let next_position = AtomicU64::new(next.0);
        Ok(QueueHandle { definition, next_position, kind, kept_since: None, _held: held })
    }

    /// What was declared; it never changes.
    pub fn definition(&self) -> &Arc<QueueDefinition> {
        &self.definition
    }

    /// When its definition is durable, if it is kept and was not there at the start.
    pub(in crate::broker) fn kept_since(&self) -> Option<Ticket> {
        self.kept_since
    }

    pub(in crate::broker) fn set_kept_since(&mut self, since: Option<Ticket>) {
        self.kept_since = since;
    }

    /// Checks what a consumer asks for.
    ///
    /// # Errors
    /// When it has an argument that is not for queues of this type, or a stream's would not acknowledge, or have no prefetch count.
    pub fn check_consumer(&self, request: &ConsumeRequest<'_>) -> Result<(), BrokerError> {
        let resource = || self.definition.resource();
        let not_here = |argument: &str| match request.arguments.field(argument) {
            None => Ok(()),
            Some(_) => Err(BrokerError::ArgumentOfOtherType {
                argument: argument.to_owned(),
                resource: resource(),
                queue_type: self.definition.queue_type,
            }),
        };
        match &self.kind {
            Kind::Classic(_) => not_here("x-stream-offset"),
            Kind::Stream(_) if request.credit == Credit::Prefetch(0) => {
                Err(BrokerError::OfStream(StreamRefusal::NoPrefetchCount, resource()))
            }
            Kind::Stream(_) if request.no_ack => {
                Err(BrokerError::OfStream(StreamRefusal::NoAcknowledgement, resource()))
            }
            Kind::Stream(_) => {
                not_here("x-priority")?;
                StreamOffset::of(request.arguments, 0, &resource()).map(drop)
            }
        }
    }

    /// Checks that basic.get is possible.
    ///
    /// # Errors
    /// On a quorum queue with a single active consumer, and on a stream, as in RabbitMQ.
    pub fn check_get(&self) -> Result<(), BrokerError> {
        self.check_not_stream(StreamRefusal::Get)?;
        if self.definition.queue_type == QueueType::Quorum && self.definition.single_active_consumer {
            return Err(BrokerError::GetFromSingleActive(self.definition.resource()));
        }
        Ok(())
    }

    /// Checks that queue.purge is possible.
    ///
    /// # Errors
    /// On a stream, as in RabbitMQ.
    pub fn check_purge(&self) -> Result<(), BrokerError> {
        self.check_not_stream(StreamRefusal::Purge)
    }

    fn check_not_stream(&self, refusal: StreamRefusal) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Classic(_) => Ok(()),
            Kind::Stream(_) => Err(BrokerError::OfStream(refusal, self.definition.resource())),
        }
    }

    /// Reserves the positions of that many messages and returns the first, so that the journal can be written before the
    /// queue is locked.
    pub fn reserve(&self, messages: usize) -> Position {
        Position(self.next_position.fetch_add(messages as u64, Ordering::Relaxed))
    }

    /// Takes over what the journal recovered; the queue is empty so far.
    ///
    /// # Errors
    /// When what is in the journal can't be brought to where the queue keeps it.
    pub(in crate::broker) fn restore(
        &self,
        recovered: &RecoveredQueue,
        turn: &mut Turn,
    ) -> Result<(), BrokerError> {
        self.next_position.fetch_max(recovered.highest.0 + 1, Ordering::Relaxed);
        match &self.kind {
            Kind::Classic(queue) => queue.lock().restore(&recovered.runs),
            Kind::Stream(stream) => stream.restore(recovered, turn)?,
        }
        Ok(())
    }

    /// Takes over what the journal recovered of what a stream remembers of its consumers.
    ///
    /// # Errors
    /// When it can't be read.
    pub(in crate::broker) fn restore_tracking(&self, recovered: &RecoveredQueue) -> Result<(), BrokerError> {
        match &self.kind {
            Kind::Classic(_) => Ok(()),
            Kind::Stream(stream) => stream.restore_tracking(recovered),
        }
    }

    /// Checks that a redeclaration means this queue.
    ///
    /// # Errors
    /// With the first thing that differs.
    pub fn check_equivalent(&self, declaration: &QueueDeclaration) -> Result<(), BrokerError> {
        let resource = self.definition.resource();
        self.check_exclusive(&resource, declaration)?;
        let properties = [
            ("durable", self.definition.durable, declaration.durable),
            ("auto_delete", self.definition.auto_delete, declaration.auto_delete),
        ];
        for (name, current, received) in properties {
            if current != received {
                let [current, received] = [current, received].map(Value::Bool);
                return Err(arguments::inequivalent(name, Some(&current), Some(&received), &resource));
            }
        }
        arguments::check_equivalent(
            self.definition.queue_type,
            &self.definition.arguments.decode(),
            &declaration.arguments,
            &resource,
        )
    }

    fn check_exclusive(
        &self,
        resource: &Resource,
        declaration: &QueueDeclaration,
    ) -> Result<(), BrokerError> {
        match (self.definition.exclusive_owner, declaration.exclusive_owner) {
            (Some(owner), Some(asking)) if owner == asking => Ok(()),
            (None, None) => Ok(()),
            _ => Err(BrokerError::Locked(resource.clone())),
        }
    }
}

/// Checks a declaration without making anything.
///
/// # Errors
/// When the arguments make no sense for the type of queue.
pub(in crate::broker) fn check(
    vhost: &Name,
    declaration: &QueueDeclaration,
    limits: &BrokerLimits,
) -> Result<(), BrokerError> {
    parse(vhost, declaration, limits).map(drop)
}

fn parse(
    vhost: &Name,
    declaration: &QueueDeclaration,
    limits: &BrokerLimits,
) -> Result<(QueueType, Recognised), BrokerError> {
    let resource = Resource::queue(vhost, &declaration.name);
    let (queue_type, recognised) =
        arguments::recognised(&declaration.arguments, &resource, limits.priority_max)?;
    if queue_type != QueueType::Classic {
        check_properties(declaration, &resource)?;
    }
    if queue_type == QueueType::Stream {
        arguments::check_stream_sizes(&declaration.arguments, &resource)?;
    }
    Ok((queue_type, recognised))
}

/// Quorum queues and streams are durable, and not exclusive.
fn check_properties(declaration: &QueueDeclaration, resource: &Resource) -> Result<(), BrokerError> {
    let forbidden = [
        ("auto-delete", declaration.auto_delete),
        ("exclusive-owner", declaration.exclusive_owner.is_some()),
        ("non-durable", !declaration.durable),
    ];
    match forbidden.into_iter().find(|(_, set)| *set) {
        Some((property, _)) => Err(BrokerError::InvalidProperty { property, resource: resource.clone() }),
        None => Ok(()),
    }
}
