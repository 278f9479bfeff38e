//! Declares at start what the configuration lists: vhosts, users, permissions, policies, exchanges, queues, bindings. What is there
//! already and means the same stays as it is.

mod access;

use super::{DeclarationError, StartError};
use crate::broker::error::BrokerError;
use crate::broker::exchange::{Binding, Destination, ExchangeDefinition};
use crate::broker::policy::PolicyKind;
use crate::broker::queue::QueueDeclaration;
use crate::broker::{Actor, Broker, Done, Turn};
use crate::config::{self, Argument, Arguments, Config, DestinationType, Location, Problem};
use crate::management::definitions;
use crate::message::{FieldTable, Millis, Value};
use crate::rabbit::{RabbitDialect, policy, unsupported};

/// `is_in_use` says that a broker has served from this data directory before: no default user is made then.
pub(super) fn declare(
    broker: &Broker,
    config: &Config,
    is_in_use: bool,
    now: Millis,
) -> Result<(), StartError> {
    broker.set_node_name(&config.node_name);
    broker.set_dialect(RabbitDialect::default());
    broker.set_default_queue_type(config.default_queue_type);
    if let Some(path) = &config.load_definitions {
        let depth_max = config.limits.field_table_depth_max as usize;
        definitions::load(broker, path, depth_max, now).map_err(StartError::Definitions)?;
    }
    let mut faults = Faults::default();
    access::declare(broker, config, is_in_use, &mut faults);
    let mut turn = Turn::at(now);
    let policies = config.policies.iter().map(|policy| (PolicyKind::Policy, policy));
    let operator_policies = config.operator_policies.iter().map(|policy| (PolicyKind::Operator, policy));
    for (kind, policy) in policies.chain(operator_policies) {
        faults.note(&policy.declared_at, set_policy(broker, kind, policy, &mut turn));
    }
    if let Some(vhost) = config.events.vhost.as_deref().filter(|vhost| broker.vhost(vhost).is_none()) {
        tracing::warn!("there are no events: vhost '{vhost}', which [events] names, does not exist");
    }
    for exchange in &config.exchanges {
        faults.note(&exchange.declared_at, declare_exchange(broker, exchange));
    }
    for queue in &config.queues {
        faults.note(&queue.declared_at, declare_queue(broker, queue, &mut turn));
    }
    for binding in &config.bindings {
        faults.note(&binding.declared_at, bind(broker, binding));
    }
    broker.end_turn(&mut turn);
    if faults.0.is_empty() { Ok(()) } else { Err(StartError::Declarations(faults.0)) }
}

/// What could not be declared.
#[derive(Default)]
struct Faults(Vec<DeclarationError>);

impl Faults {
    /// What came of declaring something that stands there.
    fn note<T>(&mut self, location: &Option<Location>, result: Result<T, BrokerError>) -> Option<T> {
        let error = match result {
            Ok(declared) => return Some(declared),
            Err(error) => error,
        };
        // The configuration was checked to declare all that it names, so this only follows from a fault reported before.
        let is_missing = matches!(
            error,
            BrokerError::NotFound(_) | BrokerError::NoSuchVhost(_) | BrokerError::NoSuchUser(_)
        );
        if !is_missing || self.0.is_empty() {
            self.0.push(DeclarationError { location: location.clone(), error });
        }
        None
    }
}

fn set_policy(
    broker: &Broker,
    kind: PolicyKind,
    policy: &config::Policy,
    turn: &mut Turn,
) -> Result<(), BrokerError> {
    let fields = [
        ("pattern", Value::from(policy.pattern.as_str())),
        ("definition", Value::Table(table(&policy.definition))),
        ("priority", Value::I64(policy.priority)),
        ("apply-to", Value::from(policy.apply_to.name())),
    ];
    let parsed = policy::parse(kind, &policy.name, &fields.into_iter().collect());
    let parsed = parsed.map_err(|error| match error {
        // The management API returns its own form, with empty lines.
        BrokerError::ValidationFailed(faults) => BrokerError::Precondition(faults.replace('\n', "; ")),
        other => other,
    })?;
    let vhost = broker.existing_vhost(&policy.vhost)?;
    // One that is there already is not written to the store again.
    if vhost.policy(kind, &policy.name).is_none_or(|current| *current != parsed) {
        for warning in unsupported::in_policy(&parsed) {
            tracing::warn!("in policy '{}' of vhost '{}' {warning}", policy.name, policy.vhost);
        }
        vhost.set_policy(kind, parsed, Actor::Broker, turn)?;
    }
    Ok(())
}

/// What of the configuration has no effect: keys of policies and arguments that mean something to RabbitMQ alone.
pub(super) fn warnings(config: &Config) -> Vec<Problem> {
    let policies = config.policies.iter().chain(&config.operator_policies).map(|policy| {
        let found = unsupported::in_policy_definition(&table(&policy.definition));
        (&policy.declared_at, found)
    });
    let exchanges =
        config.exchanges.iter().map(|exchange| (&exchange.declared_at, in_arguments(&exchange.arguments)));
    let queues = config.queues.iter().map(|queue| (&queue.declared_at, in_arguments(&queue.arguments)));
    let all = policies.chain(exchanges).chain(queues);
    let problems = all.flat_map(|(declared_at, found)| {
        let at = declared_at.clone();
        found.into_iter().filter_map(move |message| {
            let Location { file, line, key } = at.clone()?;
            Some(Problem { file: Some(file), line: Some(line), key, message })
        })
    });
    problems.collect()
}

fn in_arguments(arguments: &Arguments) -> Vec<String> {
    unsupported::in_arguments(&table(arguments))
}

fn declare_exchange(broker: &Broker, exchange: &config::Exchange) -> Result<(), BrokerError> {
    let vhost = broker.existing_vhost(&exchange.vhost)?;
    let definition = ExchangeDefinition {
        vhost: vhost.name().clone(),
        name: exchange.name.as_str().into(),
        kind: exchange.exchange_type.as_str().into(),
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        arguments: table(&exchange.arguments).into(),
    };
    let declared = vhost.declare_exchange(definition, Actor::Broker);
    declared.map(Done::into_value).map_err(|error| match error {
        // Clients get RabbitMQ's words alone; the author of the file gets more.
        BrokerError::UnknownExchangeType(kind) => {
            let known: Vec<&str> = broker.exchange_types().names().collect();
            BrokerError::Precondition(format!(
                "unknown exchange type '{kind}'; known are {}",
                known.join(", ")
            ))
        }
        other => other,
    })
}

fn declare_queue(broker: &Broker, queue: &config::Queue, turn: &mut Turn) -> Result<(), BrokerError> {
    let vhost = broker.existing_vhost(&queue.vhost)?;
    let declaration = QueueDeclaration {
        name: queue.name.as_str().into(),
        durable: queue.durable,
        auto_delete: queue.auto_delete,
        exclusive_owner: None,
        arguments: table(&queue.arguments),
    };
    vhost.declare_queue(declaration, Actor::Broker, turn)?.into_value();
    vhost.apply_effects(turn);
    Ok(())
}

fn bind(broker: &Broker, binding: &config::Binding) -> Result<(), BrokerError> {
    let name = binding.destination.as_str().into();
    let destination = match binding.destination_type {
        DestinationType::Queue => Destination::Queue(name),
        DestinationType::Exchange => Destination::Exchange(name),
    };
    let binding_of_vhost = Binding {
        source: binding.source.as_str().into(),
        destination,
        routing_key: binding.routing_key.as_str().into(),
        arguments: table(&binding.arguments).into(),
    };
    broker.existing_vhost(&binding.vhost)?.bind(binding_of_vhost, Actor::Broker).map(Done::into_value)
}

/// Arguments of the file as a client would send them: whole numbers as 64 bits, text as long strings.
fn table(arguments: &Arguments) -> FieldTable {
    arguments.iter().map(|(name, argument)| (name.as_str(), value(argument))).collect()
}

fn value(argument: &Argument) -> Value {
    match argument {
        Argument::Integer(number) => Value::I64(*number),
        Argument::Float(number) => Value::F64(*number),
        Argument::String(text) => Value::from(text.as_str()),
        Argument::Boolean(flag) => Value::Bool(*flag),
        Argument::Array(values) => Value::Array(values.iter().map(value).collect()),
        Argument::Table(fields) => Value::Table(table(fields)),
    }
}
