//! Exchanges, queues and bindings.

use super::{Done, Fault, Reading, needed};
use crate::api::{self, Table};
use crate::broker::BrokerError;
use crate::broker::exchange::{Binding, Destination, ExchangeDefinition};
use crate::broker::queue::QueueDeclaration;
use crate::broker::topology::{RESERVED_PREFIX, without_line_ends};
use crate::management::definitions::note::Outcome;
use crate::management::definitions::plan::Step;
use crate::management::json::table_from_json;
use crate::message::{FieldTable, Name, Value as Argument};
use crate::rabbit::unsupported;
use serde_json::Value;

/// The longest key that a method of AMQP can hold.
const ROUTING_KEY_BYTES_MAX: usize = 255;

const TYPE: &str = "x-queue-type";
const MAX_PRIORITY: &str = "x-max-priority";

/// What is not said to go with the broker stays, as in RabbitMQ.
const DURABLE: bool = true;

impl Reading<'_> {
    pub(super) fn exchange(&mut self, said: api::ExchangeDefinition) -> Done {
        let vhost = self.vhost_of(&said.vhost)?;
        let name = self.object_name(&said.name)?;
        if self.rehearsal.has(&vhost, &Destination::Exchange(name.clone())) {
            return Ok(());
        }
        if unsupported::is_own_exchange(&name) {
            return Ok(());
        }
        check_reserved(&name)?;
        let kind = said.kind.unwrap_or_else(|| "direct".into());
        if !self.broker.exchange_types().contains(&kind)
            && let Some(why) = unsupported::exchange_type(&kind)
        {
            return Err(Fault::Lacking(why));
        }
        let definition = ExchangeDefinition {
            vhost,
            name,
            kind,
            durable: said.durable.unwrap_or(DURABLE),
            auto_delete: said.auto_delete,
            internal: said.internal,
            arguments: self.arguments(&said.arguments)?.into(),
        };
        if self.rehearsal.declare_exchange(definition.clone())? {
            self.note_arguments(&definition.arguments.decode());
            self.add(Step::Exchange(definition));
        }
        Ok(())
    }

    pub(super) fn queue(&mut self, said: api::QueueDefinition) -> Done {
        let vhost = self.vhost_of(&said.vhost)?;
        let name = self.object_name(&said.name)?;
        if self.rehearsal.has(&vhost, &Destination::Queue(name.clone())) {
            return Ok(());
        }
        if name.is_empty() {
            return Err(Fault::Wrong("a queue needs a name".to_owned()));
        }
        check_reserved(&name)?;
        let mut arguments = said.arguments;
        // Later versions say it beside the arguments.
        let default = self.rehearsal.default_queue_type(&vhost)?.name();
        let queue_type = said.queue_type.filter(|said| said != default);
        if let Some(queue_type) = queue_type {
            arguments.entry(TYPE).or_insert_with(|| queue_type.into());
        }
        if let Some(why) = arguments.get(TYPE).and_then(Value::as_str).and_then(unsupported::queue_type) {
            return Err(Fault::Lacking(why));
        }
        let declaration = QueueDeclaration {
            name,
            durable: said.durable.unwrap_or(DURABLE),
            auto_delete: said.auto_delete,
            exclusive_owner: None,
            arguments: self.arguments(&arguments)?,
        };
        self.declare_queue(vhost, declaration)
    }

    /// Tries a queue, without arguments that older versions of RabbitMQ took and passed over.
    fn declare_queue(&mut self, vhost: Name, mut declaration: QueueDeclaration) -> Done {
        loop {
            match self.rehearsal.declare_queue(&vhost, declaration.clone()) {
                Ok(false) => return Ok(()),
                Ok(true) => break,
                Err(BrokerError::ArgumentOfOtherType { argument, .. }) => {
                    let queue_type =
                        declaration.arguments.field(TYPE).and_then(Argument::as_str).unwrap_or("classic");
                    let what =
                        format!("it is without the argument {argument:?}, which no {queue_type} queue has");
                    declaration.arguments.remove(&argument).ok_or_else(|| Fault::Wrong(what.clone()))?;
                    self.note(Outcome::Changed, what);
                }
                Err(error) => match self.lower_priority(&mut declaration.arguments) {
                    true => {}
                    false => return Err(error.into()),
                },
            }
        }
        self.note_arguments(&declaration.arguments);
        self.add(Step::Queue(vhost, declaration));
        Ok(())
    }

    /// Lowers a highest priority that is too high, which it was not always; whether there was one.
    fn lower_priority(&mut self, arguments: &mut FieldTable) -> bool {
        let max = i64::from(self.broker.limits().priority_max);
        let said = arguments.field(MAX_PRIORITY).and_then(Argument::as_integer);
        let Some(said) = said.filter(|said| *said > max) else { return false };
        self.note(
            Outcome::Changed,
            format!("its {MAX_PRIORITY:?} is {max}, the highest there is, and not {said}"),
        );
        arguments.remove(MAX_PRIORITY);
        arguments.insert(MAX_PRIORITY, Argument::I64(max));
        true
    }

    pub(super) fn binding(&mut self, said: api::Binding) -> Done {
        let vhost = self.vhost_of(&said.vhost)?;
        let destination = without_line_ends(&needed(said.destination, "destination")?).as_str().into();
        if said.routing_key.len() > ROUTING_KEY_BYTES_MAX {
            return Err(Fault::Wrong(format!(
                "its routing key has {} bytes, and may have {ROUTING_KEY_BYTES_MAX}",
                said.routing_key.len()
            )));
        }
        let binding = Binding {
            source: without_line_ends(&needed(said.source, "source")?).as_str().into(),
            destination: match said.destination_type.as_deref().unwrap_or("queue") {
                "queue" => Destination::Queue(destination),
                "exchange" => Destination::Exchange(destination),
                other => {
                    return Err(Fault::Wrong(format!("it leads to {other:?}, neither queue nor exchange")));
                }
            },
            routing_key: said.routing_key.as_str().into(),
            arguments: self.arguments(&said.arguments)?.into(),
        };
        // The default exchange has the bindings that it has.
        if binding.source.is_empty() {
            return Ok(());
        }
        match self.rehearsal.bind(&vhost, binding.clone()) {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.add(Step::Binding(vhost, binding));
                Ok(())
            }
            // One end is left out, or went while the export was made.
            Err(BrokerError::NotFound(missing)) => Err(Fault::Lacking(format!("there is no {missing}"))),
            Err(error) => Err(error.into()),
        }
    }

    /// The name of a queue or an exchange.
    fn object_name(&mut self, said: &Option<Name>) -> Result<Name, Fault> {
        let said = needed(said.as_deref(), "name")?;
        let name = without_line_ends(said);
        if name != said {
            self.note(Outcome::Changed, format!("its name is {name:?}: there are no line breaks in names"));
        }
        Ok(name.as_str().into())
    }

    fn arguments(&self, said: &Table) -> Result<FieldTable, Fault> {
        Ok(table_from_json(said, self.options.field_table_depth_max)?)
    }

    fn note_arguments(&mut self, arguments: &FieldTable) {
        for without_effect in unsupported::in_arguments(arguments) {
            self.note(Outcome::WithoutEffect, without_effect);
        }
    }
}

/// Such names are the broker's to give, and RabbitMQ imports none either.
fn check_reserved(name: &str) -> Done {
    if name.starts_with(RESERVED_PREFIX) {
        return Err(Fault::Lacking(format!(
            "names that begin with {RESERVED_PREFIX:?} are given by the broker itself"
        )));
    }
    Ok(())
}
