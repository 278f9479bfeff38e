//! What an import does, step by step, known before the first of them is taken.

use super::note::Note;
use crate::api::{self, Table};
use crate::broker::access::permissions::{Permission, TopicPermission};
use crate::broker::access::users::User;
use crate::broker::exchange::{Binding, ExchangeDefinition};
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::queue::QueueDeclaration;
use crate::broker::topology::parameters::ParameterKey;
use crate::broker::topology::vhost_settings::VhostSettings;
use crate::broker::{Actor, Broker, BrokerError, Turn};
use crate::management::told::Told;
use crate::management::{bindings, exchanges, parameters, permissions, policies, queues, users, vhosts};
use crate::message::{Name, Value};
use crate::rabbit;
use std::collections::HashMap;

/// One thing that is made or changed.
#[derive(Clone, Debug)]
pub enum Step {
    /// A user is put.
    User(User),
    /// A vhost is made or changed.
    Vhost(Name, VhostSettings),
    /// What a user may do in a vhost.
    Permission(Permission),
    /// What a user may do with routing keys.
    TopicPermission(TopicPermission),
    /// A global parameter is set.
    GlobalParameter(Name, Value),
    /// A policy of a vhost is set.
    Policy(Name, PolicyKind, Policy),
    /// A parameter is set.
    Parameter(ParameterKey, Value),
    /// An exchange is declared.
    Exchange(ExchangeDefinition),
    /// A queue of a vhost is declared.
    Queue(Name, QueueDeclaration),
    /// A binding of a vhost is made.
    Binding(Name, Binding),
}

/// What a step is about: the later one of two that are about the same counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum About {
    User(Name),
    Vhost(Name),
    Permission(Name, Name),
    TopicPermission(Name, Name, Name),
    GlobalParameter(Name),
    Policy(Name, PolicyKind, Name),
    Parameter(Name, Name, Name),
}

impl Step {
    fn about(&self) -> Option<About> {
        Some(match self {
            Step::User(user) => About::User(user.name.clone()),
            Step::Vhost(name, _) => About::Vhost(name.clone()),
            Step::Permission(permission) => {
                About::Permission(permission.user.clone(), permission.vhost.clone())
            }
            Step::TopicPermission(TopicPermission { user, vhost, exchange, .. }) => {
                About::TopicPermission(user.clone(), vhost.clone(), exchange.clone())
            }
            Step::GlobalParameter(name, _) => About::GlobalParameter(name.clone()),
            Step::Policy(vhost, kind, policy) => About::Policy(vhost.clone(), *kind, policy.name.clone()),
            Step::Parameter(ParameterKey { component, vhost, name }, _) => {
                About::Parameter(component.clone(), vhost.clone(), name.clone())
            }
            // Of these the first one counts, and there is only one.
            Step::Exchange(_) | Step::Queue(..) | Step::Binding(..) => return None,
        })
    }

    /// What it makes, as definitions have it.
    pub fn definition(&self) -> Table {
        match self {
            Step::User(user) => api::object(&users::definition(user)),
            Step::Vhost(name, settings) => api::object(&vhosts::described(name, settings)),
            Step::Permission(permission) => api::object(&permissions::permission(permission)),
            Step::TopicPermission(permission) => api::object(&permissions::topic_permission(permission)),
            Step::GlobalParameter(name, value) => api::object(&parameters::global(name, value)),
            Step::Policy(vhost, _, policy) => api::object(&policies::definition(vhost, policy)),
            Step::Parameter(key, value) => api::object(&parameters::parameter(key, value)),
            Step::Exchange(exchange) => api::object(&exchanges::definition(exchange)),
            Step::Queue(vhost, queue) => api::object(&queues::declared(vhost, queue)),
            Step::Binding(vhost, binding) => api::object(&bindings::definition(vhost, binding)),
        }
    }

    /// Does it. What is so already is not written to the store again, and not told.
    fn take(self, broker: &Broker, by: Actor<'_>, turn: &mut Turn) -> Result<(), BrokerError> {
        let told = Told { broker, by };
        match self {
            Step::User(user) => {
                let known = broker.users().get(&user.name);
                if known.as_deref() != Some(&user) {
                    broker.put_user(user.clone())?;
                    told.imported_user(known.as_deref(), &user);
                }
            }
            Step::Vhost(name, settings) => {
                let known = broker.vhost(&name).map(|vhost| vhost.settings());
                if known.as_deref() != Some(&settings) {
                    broker.put_vhost(&name, |current| *current = settings.clone())?;
                    told.imported_vhost(&name, known.as_deref(), &settings);
                }
            }
            Step::Permission(permission) => {
                let Permission { user, vhost, patterns } = &permission;
                if broker.permissions().get(user, vhost).is_none_or(|known| known != *patterns) {
                    broker.set_permissions(user, vhost, (**patterns).clone())?;
                    told.permission(&permission);
                }
            }
            Step::TopicPermission(permission) => {
                let TopicPermission { user, vhost, exchange, patterns } = &permission;
                let known = broker.permissions().get_topic(user, vhost, exchange);
                if known.is_none_or(|known| known != *patterns) {
                    let patterns = (patterns.write.as_str(), patterns.read.as_str());
                    broker.set_topic_permissions(user, vhost, exchange, patterns)?;
                    told.topic_permission(&permission);
                }
            }
            Step::GlobalParameter(name, value) => {
                if broker.global_parameter(&name).is_none_or(|known| known != value) {
                    broker.set_global_parameter(&name, value.clone())?;
                    told.global_parameter(&name, &value);
                }
            }
            Step::Parameter(key, value) => {
                if broker.parameter(&key).is_none_or(|known| known != value) {
                    rabbit::parameters::report(&key);
                    broker.set_parameter(key.clone(), value.clone())?;
                    told.parameter(&key, &value);
                }
            }
            other => other.take_topology(broker, by, turn)?,
        }
        Ok(())
    }

    /// Does it, of what is in a vhost: the core tells of that itself.
    fn take_topology(self, broker: &Broker, by: Actor<'_>, turn: &mut Turn) -> Result<(), BrokerError> {
        match self {
            Step::Policy(vhost, kind, policy) => {
                let vhost = broker.existing_vhost(&vhost)?;
                if vhost.policy(kind, &policy.name).is_none_or(|known| *known != policy) {
                    vhost.set_policy(kind, policy, by, turn)?;
                }
            }
            Step::Exchange(definition) => {
                let vhost = broker.existing_vhost(&definition.vhost)?;
                if vhost.exchange(&definition.name).is_none() {
                    vhost.declare_exchange(definition, Actor::Broker)?.into_value();
                }
            }
            Step::Queue(vhost, declaration) => {
                let vhost = broker.existing_vhost(&vhost)?;
                if vhost.queue(&declaration.name).is_none() {
                    vhost.declare_queue(declaration, Actor::Broker, turn)?.into_value();
                    vhost.apply_effects(turn);
                }
            }
            Step::Binding(vhost, binding) => {
                broker.existing_vhost(&vhost)?.bind(binding, Actor::Broker)?.into_value();
            }
            Step::User(_)
            | Step::Vhost(..)
            | Step::Permission(_)
            | Step::TopicPermission(_)
            | Step::GlobalParameter(..)
            | Step::Parameter(..) => {}
        }
        Ok(())
    }
}

/// What an import does, and what there is to say of it.
#[derive(Debug, Default)]
pub struct Plan {
    steps: Vec<Step>,
    places: HashMap<About, usize>,
    /// What is not imported just as it stands in the document, in its order.
    pub notes: Vec<Note>,
}

impl Plan {
    /// The steps, in the order in which they can be taken.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Adds a step, in the place of one that is about the same.
    pub(super) fn add(&mut self, step: Step) {
        if let Some(about) = step.about() {
            if let Some(place) = self.places.get(&about) {
                self.steps[*place] = step;
                return;
            }
            self.places.insert(about, self.steps.len());
        }
        self.steps.push(step);
    }

    /// Whether a step about a user's permissions in a vhost is there.
    pub(super) fn permits(&self, user: &Name, vhost: &Name) -> bool {
        self.places.contains_key(&About::Permission(user.clone(), vhost.clone()))
    }

    /// Takes all steps; the request is answered when they are durable.
    ///
    /// # Errors
    /// When the store failed, or another request has changed meanwhile what a step needs: then those before it are taken.
    pub(super) fn carry_out(
        self,
        broker: &Broker,
        by: Actor<'_>,
        turn: &mut Turn,
    ) -> Result<Vec<Note>, BrokerError> {
        for step in self.steps {
            step.take(broker, by, turn)?;
        }
        Ok(self.notes)
    }
}
