//! Whether one more connection or channel is allowed: the limits of user, vhost and broker.

use super::users::User;
use crate::broker::Broker;
use crate::broker::error::{BrokerError, NotAllowed};
use crate::broker::observe::connections::ConnectionCounts;
use crate::broker::topology::vhost_settings::reached;
use crate::broker::vhost::VirtualHost;

impl Broker {
    /// Checks that a user may open a vhost, with that many connections open already.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_connection(
        &self,
        user: &User,
        vhost: &VirtualHost,
        counts: ConnectionCounts,
    ) -> Result<(), BrokerError> {
        let (name, vhost_name) = (&user.name, vhost.name());
        if let Some(limit) = reached(vhost.settings().limits.max_connections, counts.of_vhost) {
            return Err(BrokerError::NotAllowed(NotAllowed::VhostConnections {
                vhost: vhost_name.clone(),
                user: name.clone(),
                limit,
            }));
        }
        let limits = self.users().get(name).map_or(user.limits, |user| user.limits);
        if let Some(limit) = reached(limits.max_connections, counts.of_user) {
            return Err(BrokerError::NotAllowed(NotAllowed::UserConnections { user: name.clone(), limit }));
        }
        if !self.permissions().may_open(name, vhost_name) {
            return Err(BrokerError::NotAllowed(NotAllowed::Vhost {
                vhost: vhost_name.clone(),
                user: name.clone(),
            }));
        }
        Ok(())
    }

    /// Checks that neither the user nor the vhost of a new connection has been deleted meanwhile.
    ///
    /// # Errors
    /// When the user or the vhost has been deleted.
    pub fn check_still_there(&self, user: &User, vhost: &VirtualHost) -> Result<(), BrokerError> {
        if self.vhost(vhost.name()).is_none() {
            return Err(BrokerError::NotAllowed(NotAllowed::VhostGone(vhost.name().clone())));
        }
        if self.users().get(&user.name).is_none() {
            return Err(BrokerError::NotAllowed(NotAllowed::UserGone(user.name.clone())));
        }
        Ok(())
    }

    /// Checks that a user may have one more channel.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_channel(&self, user: &str) -> Result<(), BrokerError> {
        let max = self.shared.limits.channels_max;
        if max > 0 && self.connections.channels() >= max {
            return Err(BrokerError::NotAllowed(NotAllowed::Channels(max)));
        }
        let Some(limit) = self.users().get(user).and_then(|user| user.limits.max_channels) else {
            return Ok(());
        };
        let count = usize::try_from(self.connections.channels_of_user(user)).unwrap_or(usize::MAX);
        match reached(Some(limit), count) {
            Some(limit) => {
                Err(BrokerError::NotAllowed(NotAllowed::UserChannels { user: user.into(), limit }))
            }
            None => Ok(()),
        }
    }
}
