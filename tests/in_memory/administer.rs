//! The part of the management API that is about users, permissions and vhosts, straight on the broker.

use super::InMemory;
use leveret::broker::administration::Put;
use leveret::broker::passwords::{HashingAlgorithm, PasswordHash};
use leveret::broker::permissions::Patterns;
use leveret::broker::users::{User, UserLimits};
use leveret::broker::{Broker, BrokerError, Turn};
use leveret::clock::Clock;
use serde_json::Value;

impl InMemory {
    /// As `Transport::manage`.
    pub(super) fn administer(&mut self, method: &str, path: &str, body: &str) -> Result<(), String> {
        let decoded: Vec<String> = path.trim_start_matches("/api/").split('/').map(decode).collect();
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let body: Value = match body {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|error| error.to_string())?,
        };
        let mut turn = Turn::at(self.clock.now());
        let broker = self.broker();
        let result = match method {
            "PUT" => put(broker, &parts, &body),
            "DELETE" => delete(broker, &parts, &mut turn),
            _ => Err(BrokerError::NotImplemented(format!("{method} in memory"))),
        };
        broker.end_turn(&mut turn);
        self.settle();
        result.map_err(|error| error.to_string())
    }
}

fn put(broker: &Broker, parts: &[&str], body: &Value) -> Result<(), BrokerError> {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    match parts {
        ["users", name] => {
            let password = match body["password"].as_str() {
                Some(password) => PasswordHash::of(password, [1, 2, 3, 4], HashingAlgorithm::Sha256),
                None => PasswordHash::none(),
            };
            let tags = text("tags").split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
            let user = User { name: (*name).into(), password, tags, limits: UserLimits::default() };
            broker.put_user(user).map(drop)
        }
        ["vhosts", name] => broker.put_vhost(name, |_| ()).map(drop).inspect(|()| {
            // Who makes a vhost may use it.
            let all = Patterns::new(".*", ".*", ".*").unwrap();
            assert_eq!(broker.set_permissions("guest", name, all), Ok(Put::Created));
        }),
        ["permissions", vhost, user] => {
            let patterns = Patterns::new(text("configure"), text("write"), text("read"))?;
            broker.set_permissions(user, vhost, patterns).map(drop)
        }
        ["topic-permissions", vhost, user] => {
            let patterns = (text("write"), text("read"));
            broker.set_topic_permissions(user, vhost, text("exchange"), patterns).map(drop)
        }
        ["vhost-limits", vhost, limit] => limit_vhost(broker, vhost, limit, body["value"].as_i64()),
        ["user-limits", user, limit] => limit_user(broker, user, limit, body["value"].as_i64()),
        _ => Err(BrokerError::NotImplemented(format!("PUT {} in memory", parts.join("/")))),
    }
}

fn delete(broker: &Broker, parts: &[&str], turn: &mut Turn) -> Result<(), BrokerError> {
    match parts {
        ["users", name] => broker.delete_user(name),
        ["vhosts", name] => broker.delete_vhost(name, turn),
        ["permissions", vhost, user] => broker.clear_permissions(user, vhost),
        ["topic-permissions", vhost, user] => broker.clear_topic_permissions(user, vhost, None),
        ["vhost-limits", vhost, limit] => limit_vhost(broker, vhost, limit, None),
        ["user-limits", user, limit] => limit_user(broker, user, limit, None),
        _ => Err(BrokerError::NotImplemented(format!("DELETE {} in memory", parts.join("/")))),
    }
}

fn limit_vhost(broker: &Broker, vhost: &str, limit: &str, value: Option<i64>) -> Result<(), BrokerError> {
    broker.existing_vhost(vhost)?;
    let set = |settings: &mut leveret::broker::vhost_settings::VhostSettings| match limit {
        "max-connections" => settings.limits.max_connections = value,
        _ => settings.limits.max_queues = value,
    };
    broker.put_vhost(vhost, set).map(drop)
}

fn limit_user(broker: &Broker, user: &str, limit: &str, value: Option<i64>) -> Result<(), BrokerError> {
    broker.set_user_limits(user, |limits| match limit {
        "max-connections" => limits.max_connections = value,
        _ => limits.max_channels = value,
    })
}

fn decode(part: &str) -> String {
    part.replace("%2F", "/")
}
