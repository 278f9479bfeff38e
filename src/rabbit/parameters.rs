//! What a runtime parameter may be. The words of refusals are RabbitMQ's.

use super::term::json_term;
use super::unsupported;
use crate::broker::BrokerError;
use crate::broker::topology::parameters::ParameterKey;
use crate::message::Value;

/// Checks a parameter that is to be set, and says why nothing acts on it: it is kept so that definitions which have it can be
/// imported and exported.
///
/// # Errors
/// When no part of RabbitMQ that is known here has that name, or its value makes no sense there.
pub fn check(key: &ParameterKey, value: &Value) -> Result<&'static str, BrokerError> {
    let Some(why) = unsupported::component(&key.component) else {
        return Err(BrokerError::ValidationFailed(format!("component {} not found", key.component)));
    };
    let is_list = matches!(value, Value::Array(_));
    if !is_list && !matches!(value, Value::Table(_))
        || is_list != (&*key.component == "federation-upstream-set")
    {
        let value = json_term(value);
        return Err(BrokerError::ValidationFailed(format!(
            "parse error while reading {}: {value}",
            key.component
        )));
    }
    Ok(why)
}

/// Logs that a parameter was set on which nothing acts.
pub fn report(key: &ParameterKey) {
    if let Some(why) = unsupported::component(&key.component) {
        tracing::warn!(
            "parameter '{}' of {} in vhost '{}' is kept, and nothing acts on it: {why}",
            key.name,
            key.component,
            key.vhost
        );
    }
}
