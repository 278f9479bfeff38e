//! Users, vhosts, and what users may do there.

use super::{Done, Fault, Reading, needed};
use crate::api::{self, Form, Table};
use crate::broker::BrokerError;
use crate::broker::access::passwords::{HashingAlgorithm, PasswordHash};
use crate::broker::access::permissions::{Patterns, Permission, TopicPatterns, TopicPermission};
use crate::broker::access::users::{User, UserLimits};
use crate::broker::queue::QueueType;
use crate::broker::topology::vhost_settings::{VhostLimits, VhostSettings};
use crate::management::definitions::note::Outcome;
use crate::management::definitions::plan::Step;
use crate::management::limits::{set_vhost_limit, vhost_limit};
use crate::management::users::{password, set_user_limit, tags, user_limit};
use crate::message::Name;
use std::sync::Arc;

impl Reading<'_> {
    pub(super) fn user(&mut self, said: api::User) -> Done {
        let name = needed(said.name.as_deref(), "name")?;
        if name.is_empty() {
            return Err(Fault::Wrong("a user needs a name".to_owned()));
        }
        let known = self.broker.users().get(name);
        let mut limits = known.as_ref().map(|known| known.limits).unwrap_or_default();
        for (limit, value) in &said.limits {
            if user_limit(&mut UserLimits::default(), limit).is_none() {
                self.note(Outcome::Changed, format!("it is without the limit {limit:?}, which is not known"));
            } else {
                set_user_limit(&mut limits, limit, value)?;
            }
        }
        let password = match unknown_algorithm(&said) {
            None => password(&said, known.as_deref(), self.broker.users())?,
            Some(algorithm) => {
                let what = format!(
                    "its password is hashed with {algorithm:?}, which is not known: it can't log in until it gets a new one"
                );
                self.note(Outcome::Changed, what);
                PasswordHash::none()
            }
        };
        let user = User { name: name.into(), password, tags: tags(&said)?, limits };
        self.rehearsal.put_user(&user.name);
        self.add(Step::User(user));
        Ok(())
    }

    pub(super) fn vhost(&mut self, fields: Table) -> Done {
        let fields = fields.into();
        let said: api::VhostDefinition = api::read(&fields, Form::Pairs)?;
        // Older versions say it beside the name.
        let beside: api::VhostMetadata = api::read(&fields, Form::Pairs)?;
        let name = needed(said.name.as_deref(), "name")?;
        if name.is_empty() {
            self.lost_vhosts.insert(String::new());
            return Err(Fault::Lacking(
                "a vhost needs a name: without one it could not be deleted".to_owned(),
            ));
        }
        let mut change = self.rehearsal.settings(name).unwrap_or_default();
        self.describe(&mut change, beside);
        self.describe(&mut change, said.metadata);
        self.limit(&mut change.limits, said.limits)?;
        let name: Name = name.into();
        let (settings, is_new) = self.rehearsal.put_vhost(&name, |settings| *settings = change)?;
        self.add(Step::Vhost(name.clone(), settings));
        if let Some(importer) = self.options.importer.clone().filter(|_| is_new)
            && !self.plan.permits(&importer, &name)
        {
            // Who makes a vhost may use it, unless the document says more.
            let all = Patterns::new(".*", ".*", ".*").map_err(BrokerError::from)?;
            self.add(Step::Permission(Permission { user: importer, vhost: name, patterns: Arc::new(all) }));
        }
        Ok(())
    }

    /// What is said of a vhost: beside its name, or as its metadata.
    fn describe(&mut self, settings: &mut VhostSettings, said: api::VhostMetadata) {
        if let Some(description) = said.description {
            settings.description = description;
        }
        if let Some(tags) = said.tags {
            settings.tags = tags.0;
        }
        if let Some(tracing) = said.tracing {
            settings.tracing = tracing;
        }
        // RabbitMQ lists the absence of one as `undefined`.
        if let Some(name) = said.default_queue_type.as_deref().filter(|name| *name != "undefined") {
            match QueueType::named(name) {
                Some(queue_type) => settings.default_queue_type = Some(queue_type),
                None => self.note(
                    Outcome::Changed,
                    format!("it is without the default type of queues {name:?}, which is not there"),
                ),
            }
        }
        if said.protected_from_deletion == Some(true) {
            let what = "\"protected_from_deletion\" has no effect: vhosts are not protected yet";
            self.note(Outcome::WithoutEffect, what);
        }
    }

    /// Sets limits of a vhost.
    pub(super) fn limit(&mut self, limits: &mut VhostLimits, said: Table) -> Done {
        for (limit, value) in said {
            if vhost_limit(&mut VhostLimits::default(), &limit).is_none() {
                self.note(Outcome::Changed, format!("it is without the limit {limit:?}, which is not known"));
            } else {
                set_vhost_limit(limits, &limit, &value)?;
            }
        }
        Ok(())
    }

    pub(super) fn permission(&mut self, said: api::Permission) -> Done {
        let (user, vhost) = self.user_and_vhost(&said.user, &said.vhost)?;
        let patterns = Patterns::new(
            needed(said.configure.as_deref(), "configure")?,
            needed(said.write.as_deref(), "write")?,
            needed(said.read.as_deref(), "read")?,
        )
        .map_err(BrokerError::from)?;
        self.add(Step::Permission(Permission { user, vhost, patterns: Arc::new(patterns) }));
        Ok(())
    }

    pub(super) fn topic_permission(&mut self, said: api::TopicPermission) -> Done {
        let (user, vhost) = self.user_and_vhost(&said.user, &said.vhost)?;
        let exchange = needed(said.exchange, "exchange")?;
        let write = needed(said.write.as_deref(), "write")?;
        let read = needed(said.read.as_deref(), "read")?;
        let patterns = TopicPatterns::new(&user, &vhost, write, read).map_err(BrokerError::from)?;
        self.add(Step::TopicPermission(TopicPermission {
            user,
            vhost,
            exchange,
            patterns: Arc::new(patterns),
        }));
        Ok(())
    }

    fn user_and_vhost(&mut self, user: &Option<Name>, vhost: &Option<Name>) -> Result<(Name, Name), Fault> {
        let user = needed(user.as_deref(), "user")?;
        let vhost = self.vhost_of(vhost)?;
        if self.rehearsal.existing_user(user).is_err() {
            let text = format!("there is no user '{user}', neither here nor in the document");
            return Err(Fault::Wrong(text));
        }
        Ok((user.into(), vhost))
    }
}

/// The algorithm of a password's hash, if it is none that is known: a plugin may bring others along.
fn unknown_algorithm(user: &api::User) -> Option<&str> {
    let has_hash = user.password_hash.as_ref().is_some_and(|hash| !hash.is_empty());
    let said = user.hashing_algorithm.as_deref().filter(|_| has_hash);
    said.filter(|name| HashingAlgorithm::named(name).is_none())
}
