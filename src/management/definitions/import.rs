//! A document of definitions, into the broker.

use crate::broker::error::BrokerError;
use crate::broker::exchange::{Binding, Destination, ExchangeDefinition};
use crate::broker::parameters::ParameterKey;
use crate::broker::permissions::Patterns;
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::queue::{QueueDeclaration, QueueType};
use crate::broker::users::User;
use crate::broker::{Broker, Turn, VirtualHost};
use crate::management::answer::ApiError;
use crate::management::json::{table_from_json, value_from_json};
use crate::management::limits::{set_vhost_limit, vhost_limits_from_json};
use crate::management::parameters::LIMITS;
use crate::management::request::Fields;
use crate::management::users::{password, set_user_limit, tags, user_tags};
use crate::message::{FieldTable, Value as Argument};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is imported where.
pub(super) struct Import<'a> {
    broker: &'a Broker,
    field_table_depth_max: usize,
    /// The vhost that everything goes into; without it each thing says its own.
    vhost: Option<Arc<VirtualHost>>,
}

impl<'a> Import<'a> {
    pub(super) fn into_all(broker: &'a Broker, field_table_depth_max: usize) -> Import<'a> {
        Import { broker, field_table_depth_max, vhost: None }
    }

    pub(super) fn into_vhost(
        broker: &'a Broker,
        field_table_depth_max: usize,
        vhost: Arc<VirtualHost>,
    ) -> Import<'a> {
        Import { broker, field_table_depth_max, vhost: Some(vhost) }
    }

    /// Imports a document: first what other things need.
    ///
    /// # Errors
    /// At the first thing that can't be; what comes before it is imported.
    pub(super) fn run(&self, document: &Value, turn: &mut Turn) -> Result<(), ApiError> {
        if self.vhost.is_none() {
            each(document, "users", "user", |fields| self.user(fields))?;
            each(document, "vhosts", "vhost", |fields| self.make_vhost(fields))?;
            each(document, "permissions", "permissions", |fields| self.permission(fields))?;
            each(document, "topic_permissions", "topic permissions", |fields| self.topic_permission(fields))?;
            each(document, "global_parameters", "global parameter", |fields| self.global_parameter(fields))?;
        }
        each(document, "policies", "policy", |fields| self.policy(fields, turn))?;
        each(document, "parameters", "parameter", |fields| self.parameter(fields, turn))?;
        each(document, "exchanges", "exchange", |fields| self.exchange(fields))?;
        each(document, "queues", "queue", |fields| self.queue(fields, turn))?;
        each(document, "bindings", "binding", |fields| self.binding(fields))
    }

    fn user(&self, fields: &Fields) -> Result<(), ApiError> {
        let name = needed(fields, "name")?;
        let known = self.broker.users().get(name);
        let mut limits = known.as_ref().map(|known| known.limits).unwrap_or_default();
        for (limit, value) in fields.object("limits")? {
            set_user_limit(&mut limits, &limit, &value)?;
        }
        let user = User {
            name: name.into(),
            password: password(fields, known.as_deref(), self.broker.users())?,
            tags: user_tags(fields)?,
            limits,
        };
        // One that is there already is not written to the store again.
        if known.as_deref() != Some(&user) {
            self.broker.put_user(user)?;
        }
        Ok(())
    }

    fn make_vhost(&self, fields: &Fields) -> Result<(), ApiError> {
        let name = needed(fields, "name")?;
        let about = Fields(fields.object("metadata")?);
        let mut settings =
            self.broker.vhost(name).map(|vhost| (*vhost.settings()).clone()).unwrap_or_default();
        for fields in [fields, &about] {
            if let Some(description) = fields.text("description")? {
                settings.description = description.to_owned();
            }
            if fields.value("tags").is_some() {
                settings.tags = tags(fields)?;
            }
            // RabbitMQ lists the absence of one as `undefined`.
            if let Some(queue_type) = fields.text("default_queue_type")?.filter(|name| *name != "undefined") {
                let named = QueueType::named(queue_type);
                settings.default_queue_type =
                    Some(named.ok_or_else(|| ApiError::bad_value("unknown_queue_type", queue_type))?);
            }
        }
        for (limit, value) in fields.object("limits")? {
            set_vhost_limit(&mut settings.limits, &limit, &value)?;
        }
        if self.broker.vhost(name).is_none_or(|known| *known.settings() != settings) {
            self.broker.put_vhost(name, |current| *current = settings)?;
        }
        Ok(())
    }

    fn permission(&self, fields: &Fields) -> Result<(), ApiError> {
        let (user, vhost) = (needed(fields, "user")?, needed(fields, "vhost")?);
        let pattern = |name| needed(fields, name);
        let patterns = Patterns::new(pattern("configure")?, pattern("write")?, pattern("read")?)
            .map_err(BrokerError::from)?;
        let known = self.broker.permissions().get(&user.into(), &vhost.into());
        if known.is_none_or(|known| *known != patterns) {
            self.broker.set_permissions(user, vhost, patterns)?;
        }
        Ok(())
    }

    fn topic_permission(&self, fields: &Fields) -> Result<(), ApiError> {
        let (user, vhost, exchange) =
            (needed(fields, "user")?, needed(fields, "vhost")?, needed(fields, "exchange")?);
        let (write, read) = (needed(fields, "write")?, needed(fields, "read")?);
        let known = self.broker.permissions().get_topic(&user.into(), &vhost.into(), &exchange.into());
        if known.is_none_or(|known| known.write.as_str() != write || known.read.as_str() != read) {
            self.broker.set_topic_permissions(user, vhost, exchange, (write, read))?;
        }
        Ok(())
    }

    fn global_parameter(&self, fields: &Fields) -> Result<(), ApiError> {
        let name = needed(fields, "name")?;
        let value = self.value(fields)?;
        if self.broker.global_parameter(name).is_none_or(|known| known != value) {
            self.broker.set_global_parameter(name, value)?;
        }
        Ok(())
    }

    fn value(&self, fields: &Fields) -> Result<Argument, ApiError> {
        fields.require(&["value"])?;
        value_from_json(fields.0.get("value").unwrap_or(&Value::Null), self.field_table_depth_max)
    }

    fn table(&self, object: &Map<String, Value>) -> Result<FieldTable, ApiError> {
        table_from_json(object, self.field_table_depth_max)
    }

    fn vhost(&self, fields: &Fields) -> Result<Arc<VirtualHost>, ApiError> {
        match &self.vhost {
            Some(vhost) => Ok(vhost.clone()),
            None => {
                let found = self.broker.existing_vhost(needed(fields, "vhost")?);
                found.map_err(|error| ApiError::bad_request(error.to_string()))
            }
        }
    }

    fn policy(&self, fields: &Fields, turn: &mut Turn) -> Result<(), ApiError> {
        self.set_policy(PolicyKind::Policy, fields, &fields.0, turn)
    }

    fn set_policy(
        &self,
        kind: PolicyKind,
        fields: &Fields,
        content: &Map<String, Value>,
        turn: &mut Turn,
    ) -> Result<(), ApiError> {
        let vhost = self.vhost(fields)?;
        let policy = Policy::parse(kind, needed(fields, "name")?, &self.table(content)?)?;
        if vhost.policy(kind, &policy.name).is_none_or(|known| *known != policy) {
            vhost.set_policy(kind, policy, turn)?;
        }
        Ok(())
    }

    fn parameter(&self, fields: &Fields, turn: &mut Turn) -> Result<(), ApiError> {
        let vhost = self.vhost(fields)?;
        match needed(fields, "component")? {
            "policy" => self.set_policy(PolicyKind::Policy, fields, &fields.object("value")?, turn),
            "operator_policy" => {
                self.set_policy(PolicyKind::Operator, fields, &fields.object("value")?, turn)
            }
            LIMITS => {
                let mut settings = (*vhost.settings()).clone();
                settings.limits = vhost_limits_from_json(fields.value("value").unwrap_or(&Value::Null))?;
                if *vhost.settings() != settings {
                    self.broker.put_vhost(vhost.name(), |current| *current = settings)?;
                }
                Ok(())
            }
            component => {
                let key = ParameterKey {
                    component: component.into(),
                    vhost: vhost.name().clone(),
                    name: needed(fields, "name")?.into(),
                };
                self.broker.set_parameter(key, self.value(fields)?)?;
                Ok(())
            }
        }
    }

    fn exchange(&self, fields: &Fields) -> Result<(), ApiError> {
        let (vhost, name) = (self.vhost(fields)?, needed(fields, "name")?);
        if vhost.exchange(name).is_some() {
            return Ok(());
        }
        vhost
            .declare_exchange(ExchangeDefinition {
                vhost: vhost.name().clone(),
                name: name.into(),
                kind: fields.text("type")?.unwrap_or("direct").into(),
                durable: fields.flag("durable")?,
                auto_delete: fields.flag("auto_delete")?,
                internal: fields.flag("internal")?,
                arguments: self.table(&fields.object("arguments")?)?,
            })?
            .untold();
        Ok(())
    }

    fn queue(&self, fields: &Fields, turn: &mut Turn) -> Result<(), ApiError> {
        let (vhost, name) = (self.vhost(fields)?, needed(fields, "name")?);
        if vhost.queue(name).is_some() {
            return Ok(());
        }
        let mut arguments = fields.object("arguments")?;
        // Later versions say it beside the arguments.
        let queue_type = fields.text("type")?.unwrap_or(vhost.default_queue_type().name());
        if queue_type != vhost.default_queue_type().name() {
            arguments.entry("x-queue-type").or_insert_with(|| queue_type.into());
        }
        let declaration = QueueDeclaration {
            name: name.into(),
            durable: fields.flag("durable")?,
            auto_delete: fields.flag("auto_delete")?,
            exclusive_owner: None,
            arguments: self.table(&arguments)?,
        };
        vhost.declare_queue(declaration, turn)?.untold();
        vhost.apply_effects(turn);
        Ok(())
    }

    fn binding(&self, fields: &Fields) -> Result<(), ApiError> {
        let vhost = self.vhost(fields)?;
        let destination = needed(fields, "destination")?;
        let binding = Binding {
            source: needed(fields, "source")?.into(),
            destination: match needed(fields, "destination_type")? {
                "queue" => Destination::Queue(destination.into()),
                "exchange" => Destination::Exchange(destination.into()),
                other => return Err(ApiError::bad_value("unknown_destination_type", other)),
            },
            routing_key: fields.text("routing_key")?.unwrap_or_default().into(),
            arguments: self.table(&fields.object("arguments")?)?,
        };
        if binding.source.is_empty() {
            return Ok(());
        }
        match vhost.bind(binding, None) {
            // RabbitMQ passes over it without a word: an export may name what went while it was made.
            Err(error @ BrokerError::NotFound(_)) => {
                tracing::warn!("a binding in the definitions is left out: {error}");
                Ok(())
            }
            bound => {
                bound?.untold();
                Ok(())
            }
        }
    }
}

/// Does something with each item of a section. What goes wrong is told with the item.
fn each(
    document: &Value,
    section: &str,
    kind: &str,
    mut act: impl FnMut(&Fields) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let items = match document.get(section) {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(ApiError::bad_request(format!("{section} is no list"))),
    };
    for item in items {
        let Value::Object(fields) = item else {
            return Err(ApiError::bad_request(format!("{section} has something that is no object: {item}")));
        };
        let fields = Fields(fields.clone());
        act(&fields).map_err(|error| about(kind, &fields, error))?;
    }
    Ok(())
}

/// The same refusal with the thing that was refused.
fn about(kind: &str, fields: &Fields, error: ApiError) -> ApiError {
    let reason = match error {
        ApiError::BadRequest(Value::String(reason))
        | ApiError::NotThere(reason)
        | ApiError::NotAuthorised(reason) => reason,
        ApiError::BadRequest(reason) => reason.to_string(),
        other => return other,
    };
    let of = |name: &str| fields.0.get(name).and_then(Value::as_str);
    let name = of("name").or(of("user")).or(of("source")).unwrap_or_default();
    let vhost = of("vhost").map(|vhost| format!(" in vhost '{vhost}'")).unwrap_or_default();
    ApiError::bad_request(format!("{kind} '{name}'{vhost}: {reason}"))
}

/// A text that has to be there.
fn needed<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, ApiError> {
    fields.text(name)?.ok_or_else(|| ApiError::bad_value("key_missing", name))
}
