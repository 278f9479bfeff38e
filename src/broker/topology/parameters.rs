//! Runtime parameters: values that operators keep in the broker, for a part of it and a vhost, or for all of it. Policies are
//! no parameters here, though RabbitMQ lists them as some. A change is durable when the ticket of [`Broker::last_change`] is
//! answered.

use super::definitions::Definition;
use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::message::{Name, Value};
use crate::store::DefinitionChanges;
use parking_lot::RwLock;
use std::collections::BTreeMap;

/// What names a parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParameterKey {
    /// The part of the broker that it is for.
    pub component: Name,
    /// The vhost that it is for.
    pub vhost: Name,
    /// Its name, unique in component and vhost.
    pub name: Name,
}

/// The global parameter that names the cluster.
pub const CLUSTER_NAME: &str = "cluster_name";

/// The global parameter that identifies this broker for as long as its data exist.
pub const INTERNAL_CLUSTER_ID: &str = "internal_cluster_id";

/// All parameters, by their keys.
#[derive(Debug, Default)]
pub(in crate::broker) struct Parameters {
    of_vhosts: RwLock<BTreeMap<ParameterKey, Value>>,
    global: RwLock<BTreeMap<Name, Value>>,
}

impl Parameters {
    pub(in crate::broker) fn restore(&self, key: ParameterKey, value: Value) {
        self.of_vhosts.write().insert(key, value);
    }

    pub(in crate::broker) fn restore_global(&self, name: Name, value: Value) {
        self.global.write().insert(name, value);
    }
}

impl Broker {
    /// All parameters, ordered by component, vhost and name.
    pub fn parameters(&self) -> Vec<(ParameterKey, Value)> {
        self.parameters.of_vhosts.read().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Sets a parameter, whatever it is, and says whether there was none.
    ///
    /// # Errors
    /// When its vhost is not there or the store failed.
    pub fn set_parameter(&self, key: ParameterKey, value: Value) -> Result<bool, BrokerError> {
        // A vhost that is deleted takes along what is set until then.
        let _changing = self.changing.lock();
        self.existing_vhost(&key.vhost)?;
        let mut parameters = self.parameters.of_vhosts.write();
        self.shared.define(Definition::Parameter(key.clone(), value.clone()).as_change())?;
        Ok(parameters.insert(key, value).is_none())
    }

    /// The value of a parameter, if it is set.
    pub fn parameter(&self, key: &ParameterKey) -> Option<Value> {
        self.parameters.of_vhosts.read().get(key).cloned()
    }

    /// Removes a parameter, and says whether it was there.
    ///
    /// # Errors
    /// When the store failed.
    pub fn remove_parameter(&self, key: &ParameterKey) -> Result<bool, BrokerError> {
        let mut parameters = self.parameters.of_vhosts.write();
        let Some(value) = parameters.get(key) else { return Ok(false) };
        self.shared.define(Definition::Parameter(key.clone(), value.clone()).as_removal())?;
        parameters.remove(key);
        Ok(true)
    }

    /// Forgets the parameters of a vhost that goes.
    pub(in crate::broker) fn forget_parameters(&self, vhost: &Name, removals: &mut DefinitionChanges) {
        self.parameters.of_vhosts.write().retain(|key, value| {
            let is_going = key.vhost == *vhost;
            if is_going {
                Definition::Parameter(key.clone(), value.clone()).remove(removals);
            }
            !is_going
        });
    }

    /// All global parameters, ordered by name.
    pub fn global_parameters(&self) -> Vec<(Name, Value)> {
        self.parameters.global.read().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The value of a global parameter, if it is set.
    pub fn global_parameter(&self, name: &str) -> Option<Value> {
        self.parameters.global.read().get(name).cloned()
    }

    /// The cluster's name, if an operator gave it one.
    pub fn cluster_name(&self) -> Option<String> {
        self.global_parameter(CLUSTER_NAME)?.as_str().map(str::to_owned)
    }

    /// Sets a global parameter, and says whether there was none. Any value is fine.
    ///
    /// # Errors
    /// When the store failed.
    pub fn set_global_parameter(&self, name: &str, value: Value) -> Result<bool, BrokerError> {
        let mut global = self.parameters.global.write();
        self.shared.define(Definition::GlobalParameter(name.into(), value.clone()).as_change())?;
        Ok(global.insert(name.into(), value).is_none())
    }

    /// Removes a global parameter, and says whether it was there.
    ///
    /// # Errors
    /// When the store failed.
    pub fn remove_global_parameter(&self, name: &str) -> Result<bool, BrokerError> {
        let mut global = self.parameters.global.write();
        let Some(value) = global.get(name) else { return Ok(false) };
        self.shared.define(Definition::GlobalParameter(name.into(), value.clone()).as_removal())?;
        global.remove(name);
        Ok(true)
    }
}
