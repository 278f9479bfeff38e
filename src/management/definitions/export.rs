//! The broker's definitions as a document.

use crate::api::{self, Definitions};
use crate::broker::exchange::{Binding, Destination};
use crate::broker::policy::PolicyKind;
use crate::broker::queue::QueueHandle;
use crate::broker::{Broker, VirtualHost};
use crate::management::permissions::{permission, topic_permission};
use crate::management::{
    ManagementSettings, bindings, exchanges, parameters, policies, queues, users, vhosts,
};
use std::sync::Arc;

/// All there is to export.
pub(super) fn everything(broker: &Broker, settings: &ManagementSettings) -> Definitions {
    let mut all = broker.vhosts();
    all.sort_by(|a, b| a.name().cmp(b.name()));
    let permissions = broker.permissions();
    let global = broker.global_parameters();
    Definitions {
        rabbitmq_version: Some(settings.version.clone()),
        product_name: Some(settings.product.clone()),
        product_version: Some(settings.version.clone()),
        users: Some(broker.users().list().iter().map(|user| users::definition(user)).collect()),
        vhosts: Some(all.iter().map(|vhost| vhosts::definition(vhost)).collect()),
        permissions: Some(permissions.list().iter().map(permission).collect()),
        topic_permissions: Some(permissions.list_topics().iter().map(topic_permission).collect()),
        global_parameters: Some(global.iter().map(|(name, value)| parameters::global(name, value)).collect()),
        ..in_vhosts(broker, &all, settings)
    }
}

/// What is in one vhost, without its name, so that it can be imported into another one.
pub(super) fn of_vhost(
    broker: &Broker,
    vhost: &Arc<VirtualHost>,
    settings: &ManagementSettings,
) -> Definitions {
    let mut found = in_vhosts(broker, std::slice::from_ref(vhost), settings);
    found.queues.iter_mut().for_each(|queue| queue.vhost = None);
    found.exchanges.iter_mut().for_each(|exchange| exchange.vhost = None);
    found.bindings.iter_mut().for_each(|binding| binding.vhost = None);
    found
}

fn in_vhosts(broker: &Broker, vhosts: &[Arc<VirtualHost>], settings: &ManagementSettings) -> Definitions {
    let mut found = Definitions { rabbit_version: settings.version.clone(), ..Definitions::default() };
    for vhost in vhosts {
        found.parameters.extend(parameters_of(broker, vhost));
        let policies = vhost.policies(PolicyKind::Policy);
        found.policies.extend(policies.iter().map(|policy| policies::definition(vhost.name(), policy)));
        let queues = queues::sorted(vhost);
        let shared = queues.iter().filter(|queue| is_shared(queue));
        found.queues.extend(shared.map(|queue| queues::definition(queue.definition())));
        found.exchanges.extend(exchanges_of(vhost));
        found.bindings.extend(bindings_of(vhost));
    }
    found
}

/// The parameters, and what RabbitMQ keeps as such: limits and operator policies.
fn parameters_of(broker: &Broker, vhost: &VirtualHost) -> Vec<api::Parameter> {
    let mut found: Vec<_> = broker
        .parameters()
        .iter()
        .filter(|(key, _)| key.vhost == *vhost.name())
        .map(|(key, value)| parameters::parameter(key, value))
        .collect();
    found.extend(parameters::policies(vhost, PolicyKind::Operator, "operator_policy"));
    found.extend(parameters::vhost_limits(vhost));
    found
}

/// An exclusive queue goes with its connection.
fn is_shared(queue: &QueueHandle) -> bool {
    queue.definition().exclusive_owner.is_none()
}

fn exchanges_of(vhost: &VirtualHost) -> Vec<api::ExchangeDefinition> {
    let all = exchanges::sorted(vhost);
    // What every vhost has from the start need not be declared.
    let declared = all.iter().filter(|exchange| {
        let name = &exchange.definition().name;
        !name.is_empty() && !name.starts_with("amq.")
    });
    declared.map(|exchange| exchanges::definition(exchange.definition())).collect()
}

fn bindings_of(vhost: &VirtualHost) -> Vec<api::Binding> {
    let bindings = vhost.bindings();
    let leads_to_shared = |binding: &Binding| match &binding.destination {
        Destination::Queue(name) => vhost.queue(name).is_some_and(|queue| is_shared(&queue)),
        Destination::Exchange(_) => true,
    };
    let kept = bindings.iter().filter(|binding| leads_to_shared(binding));
    let mut found: Vec<_> = kept.map(|binding| bindings::definition(vhost.name(), binding)).collect();
    found.sort_by_cached_key(api::written);
    found
}
