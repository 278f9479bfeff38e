//! Policies, parameters and global parameters.

use super::{Done, Fault, Reading, needed};
use crate::api::{self, Form, Table};
use crate::broker::policy::PolicyKind;
use crate::broker::topology::parameters::{CLUSTER_NAME, ParameterKey};
use crate::broker::topology::vhost_settings::VhostLimits;
use crate::management::definitions::note::Outcome;
use crate::management::definitions::plan::Step;
use crate::management::json::{table_from_json, value_from_json};
use crate::management::parameters::LIMITS;
use crate::message::Name;
use crate::rabbit::{parameters, policy, unsupported};
use serde::Deserialize;
use serde_json::Value;

/// What RabbitMQ keeps among its parameters for itself, and some versions export.
const OWN_COMPONENTS: [&str; 2] = ["exchange-delete-in-progress", "imported_definition_hash_value"];

const NO_PLACE: &str =
    "the configuration file has no place for parameters; they are set while the broker runs";

/// Where an entry belongs, apart from what it says.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Place {
    vhost: Option<Name>,
    name: Option<Name>,
}

/// A parameter of a document, of which nothing is sure to be there.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Parameter {
    component: Option<Name>,
    vhost: Option<Name>,
    name: Option<Name>,
    value: Value,
}

impl Parameter {
    fn about(&self) -> Place {
        Place { vhost: self.vhost.clone(), name: self.name.clone() }
    }
}

/// An object, in whichever form it is written.
fn object(value: &Value) -> Option<Table> {
    api::fields(value, Form::Pairs)
}

impl Reading<'_> {
    pub(super) fn policy(&mut self, fields: Table) -> Done {
        let about = api::read(&Value::Object(fields.clone()), Form::Pairs)?;
        self.set_policy(PolicyKind::Policy, &about, fields)
    }

    /// Sets a policy. The broker itself judges its fields, whatever they are.
    fn set_policy(&mut self, kind: PolicyKind, about: &Place, mut content: Table) -> Done {
        let vhost = self.vhost_of(&about.vhost)?;
        if let Some(definition) = content.get("definition").and_then(object) {
            content.insert("definition".to_owned(), definition.into());
        }
        let table = table_from_json(&content, self.options.field_table_depth_max)?;
        let policy = policy::parse(kind, needed(about.name.as_deref(), "name")?, &table)?;
        for without_effect in unsupported::in_policy(&policy) {
            self.note(Outcome::WithoutEffect, without_effect);
        }
        self.add(Step::Policy(vhost, kind, policy));
        Ok(())
    }

    pub(super) fn parameter(&mut self, said: Parameter) -> Done {
        let table = || object(&said.value).ok_or_else(|| api::Fault::NotObject("value".to_owned()));
        match needed(said.component.as_deref(), "component")? {
            "policy" => self.set_policy(PolicyKind::Policy, &said.about(), table()?),
            "operator_policy" => self.set_policy(PolicyKind::Operator, &said.about(), table()?),
            LIMITS => self.set_limits(&said.vhost, table()?),
            own if OWN_COMPONENTS.contains(&own) => Ok(()),
            component if unsupported::component(component).is_none() => {
                Err(Fault::Lacking(format!("nothing here has parameters of component {component:?}")))
            }
            _ if self.options.for_file => Err(Fault::Lacking(NO_PLACE.to_owned())),
            component => self.set_parameter(component, &said),
        }
    }

    fn set_limits(&mut self, vhost: &Option<Name>, said: Table) -> Done {
        let vhost = self.vhost_of(vhost)?;
        let mut limits = VhostLimits::default();
        self.limit(&mut limits, said)?;
        let (settings, _) = self.rehearsal.put_vhost(&vhost, |settings| settings.limits = limits)?;
        self.add(Step::Vhost(vhost, settings));
        Ok(())
    }

    fn set_parameter(&mut self, component: &str, said: &Parameter) -> Done {
        let vhost = self.vhost_of(&said.vhost)?;
        let name = needed(said.name.clone(), "name")?;
        let key = ParameterKey { component: component.into(), vhost, name };
        let said = needed(Some(&said.value).filter(|value| !value.is_null()), "value")?;
        // A set of upstreams is a list of objects, all others are objects.
        let value = match said {
            Value::Array(items) if component == "federation-upstream-set" => {
                items.iter().map(|item| object(item).map_or_else(|| item.clone(), Value::Object)).collect()
            }
            other => object(other).map_or_else(|| other.clone(), Value::Object),
        };
        let value = value_from_json(&value, self.options.field_table_depth_max)?;
        let why = parameters::check(&key, &value)?;
        self.note(Outcome::WithoutEffect, format!("it is kept, and nothing acts on it: {why}"));
        self.add(Step::Parameter(key, value));
        Ok(())
    }

    pub(super) fn global_parameter(&mut self, fields: Table) -> Done {
        let Place { name, .. } = api::read(&Value::Object(fields.clone()), Form::Pairs)?;
        let name = &*needed(name, "name")?;
        // Null is a value too.
        let value = needed(fields.get("value"), "value")?;
        if self.options.for_file && name != CLUSTER_NAME {
            // RabbitMQ's own ones are not set by users.
            let is_own = name.starts_with("internal") || OWN_COMPONENTS.contains(&name);
            return if is_own { Ok(()) } else { Err(Fault::Lacking(NO_PLACE.to_owned())) };
        }
        if let Some(why) = unsupported::global_parameter(name) {
            self.note(Outcome::WithoutEffect, format!("it is kept, and nothing acts on it: {why}"));
        }
        let value = value_from_json(value, self.options.field_table_depth_max)?;
        self.add(Step::GlobalParameter(name.into(), value));
        Ok(())
    }
}
