//! Policies, parameters and global parameters.

use super::{Done, Fault, Reading, needed, object_in};
use crate::broker::elsewhere;
use crate::broker::parameters::{CLUSTER_NAME, ParameterKey};
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::vhost_settings::VhostLimits;
use crate::management::definitions::document::object;
use crate::management::definitions::note::Outcome;
use crate::management::definitions::plan::Step;
use crate::management::json::{table_from_json, value_from_json};
use crate::management::parameters::LIMITS;
use crate::management::request::Fields;
use serde_json::{Map, Value};

/// What RabbitMQ keeps among its parameters for itself, and some versions export.
const OWN_COMPONENTS: [&str; 2] = ["exchange-delete-in-progress", "imported_definition_hash_value"];

const NO_PLACE: &str =
    "the configuration file has no place for parameters; they are set while the broker runs";

impl Reading<'_> {
    pub(super) fn policy(&mut self, fields: &Fields) -> Done {
        self.set_policy(PolicyKind::Policy, fields, fields.0.clone())
    }

    fn set_policy(&mut self, kind: PolicyKind, fields: &Fields, mut content: Map<String, Value>) -> Done {
        let vhost = self.vhost_of(fields)?;
        if let Some(definition) = content.get("definition").and_then(object) {
            content.insert("definition".to_owned(), definition.into());
        }
        let table = table_from_json(&content, self.options.field_table_depth_max)?;
        let policy = Policy::parse(kind, needed(fields, "name")?, &table)?;
        for without_effect in elsewhere::in_policy(&policy) {
            self.note(Outcome::WithoutEffect, without_effect);
        }
        self.add(Step::Policy(vhost, kind, policy));
        Ok(())
    }

    pub(super) fn parameter(&mut self, fields: &Fields) -> Done {
        match needed(fields, "component")? {
            "policy" => self.set_policy(PolicyKind::Policy, fields, object_in(fields, "value")?),
            "operator_policy" => self.set_policy(PolicyKind::Operator, fields, object_in(fields, "value")?),
            LIMITS => self.set_limits(fields),
            own if OWN_COMPONENTS.contains(&own) => Ok(()),
            component if elsewhere::component(component).is_none() => {
                Err(Fault::Lacking(format!("nothing here has parameters of component {component:?}")))
            }
            _ if self.options.for_file => Err(Fault::Lacking(NO_PLACE.to_owned())),
            component => self.set_parameter(component, fields),
        }
    }

    fn set_limits(&mut self, fields: &Fields) -> Done {
        let vhost = self.vhost_of(fields)?;
        let mut limits = VhostLimits::default();
        self.limit(&mut limits, object_in(fields, "value")?)?;
        let (settings, _) = self.rehearsal.put_vhost(&vhost, |settings| settings.limits = limits)?;
        self.add(Step::Vhost(vhost, settings));
        Ok(())
    }

    fn set_parameter(&mut self, component: &str, fields: &Fields) -> Done {
        let vhost = self.vhost_of(fields)?;
        let key = ParameterKey { component: component.into(), vhost, name: needed(fields, "name")?.into() };
        let said = fields.value("value").ok_or_else(|| Fault::Wrong("\"value\" is missing".to_owned()))?;
        // A set of upstreams is a list of objects, all others are objects.
        let value = match said {
            Value::Array(items) if component == "federation-upstream-set" => {
                items.iter().map(|item| object(item).map_or_else(|| item.clone(), Value::Object)).collect()
            }
            other => object(other).map_or_else(|| other.clone(), Value::Object),
        };
        let value = value_from_json(&value, self.options.field_table_depth_max)?;
        let why = self.broker.check_parameter(&key, &value)?;
        self.note(Outcome::WithoutEffect, format!("it is kept, and nothing acts on it: {why}"));
        self.add(Step::Parameter(key, value));
        Ok(())
    }

    pub(super) fn global_parameter(&mut self, fields: &Fields) -> Done {
        let name = needed(fields, "name")?;
        let value = fields.0.get("value").ok_or_else(|| Fault::Wrong("\"value\" is missing".to_owned()))?;
        if self.options.for_file && name != CLUSTER_NAME {
            // RabbitMQ's own ones are not set by users.
            let is_own = name.starts_with("internal") || OWN_COMPONENTS.contains(&name);
            return if is_own { Ok(()) } else { Err(Fault::Lacking(NO_PLACE.to_owned())) };
        }
        if let Some(why) = elsewhere::global_parameter(name) {
            self.note(Outcome::WithoutEffect, format!("it is kept, and nothing acts on it: {why}"));
        }
        let value = value_from_json(value, self.options.field_table_depth_max)?;
        self.add(Step::GlobalParameter(name.into(), value));
        Ok(())
    }
}
