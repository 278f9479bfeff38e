//! File descriptors: how many the process may have, and what they are for. Sockets are counted before they are taken, so that none is
//! ever missing for what the broker needs itself: the files of the store, a backup, a look at what the system says.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that no socket gets: for a database that is written anew, a backup, certificates and lists of them that are read
/// again, commands of the operator, and what is open for a moment.
const OWN: u64 = 24;

/// What starts after the limit was looked at: for each event loop an epoll and what wakes it, the listeners, the control socket.
const FOR_EACH_LOOP: u64 = 4;
const FOR_LISTENERS: u64 = 8;

/// HTTP gets no more than this share of the sockets, over all of its listeners.
const HTTP_SHARE: u64 = 3;

/// The fewest connections that a broker is of any use with.
const CONNECTIONS_MIN: u64 = 4;

/// As many as anybody asks for.
const ANY: u64 = u32::MAX as u64;

/// What is asked for, and what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Descriptors that are open already.
    pub open: u64,
    /// Event loops that will be started.
    pub event_loops: u64,
    /// Files that the store may come to hold open.
    pub store: u64,
    /// Connections for AMQP; 0 is any number.
    pub connections: u32,
    /// Those of them that have not logged in; 0 is any number.
    pub before_login: u32,
    /// Connections for HTTP on each of its listeners.
    pub http_connections: u32,
    /// How many of those there are.
    pub http_listeners: u64,
}

/// How they are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// How many there may be in all.
    pub limit: u64,
    /// Connections of messaging protocols in all.
    pub connections: u32,
    /// Those of them that have not logged in.
    pub before_login: u32,
    /// Connections for HTTP on each of its listeners.
    pub http_connections: u32,
}

/// Allows this process as many descriptors as it may allow itself, and says how many that are.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    // Some systems say that there may be any number, and then refuse it.
    if current < maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        return maximum.unwrap_or(u64::MAX);
    }
    limit()
}

/// How many descriptors this process may have.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

impl Descriptors {
    /// Shares the descriptors out among connections, HTTP and the store.
    pub fn share_out(limit: u64, wanted: &Wanted) -> Descriptors {
        let own = wanted.open + wanted.event_loops * FOR_EACH_LOOP + FOR_LISTENERS + wanted.store + OWN;
        let sockets = limit.saturating_sub(own).max(2 * CONNECTIONS_MIN);
        let listeners = wanted.http_listeners.max(1);
        let spare = super::http::SPARE as u64;
        let http = (sockets / HTTP_SHARE / listeners).saturating_sub(spare).max(1);
        let http = http.min(wanted.http_connections.into());
        let amqp = sockets.saturating_sub((http + spare) * wanted.http_listeners).max(CONNECTIONS_MIN);
        let connections = or_any(wanted.connections).min(amqp);
        let before_login = or_any(wanted.before_login).min((connections / 2).max(1));
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Descriptors {
            limit,
            connections: count(connections),
            before_login: count(before_login),
            http_connections: count(http),
        }
    }
}

/// A number of which 0 means any.
fn or_any(number: u32) -> u64 {
    if number == 0 { ANY } else { number.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        open: 20,
        event_loops: 2,
        store: 16,
        connections: 0,
        before_login: 1000,
        http_connections: 512,
        http_listeners: 2,
    };

    /// The most descriptors that can be in use at once.
    fn used(descriptors: Descriptors) -> u64 {
        let Descriptors { connections, http_connections, .. } = descriptors;
        let spare = super::super::http::SPARE as u64;
        let own = WANTED.open + 2 * FOR_EACH_LOOP + FOR_LISTENERS + WANTED.store + OWN;
        own + u64::from(connections) + 2 * (u64::from(http_connections) + spare)
    }

    #[test]
    fn all_that_is_shared_out_is_there() {
        for limit in [128, 200, 256, 1024, 4096, 65_536, 1 << 20, 1 << 30] {
            let shared = Descriptors::share_out(limit, &WANTED);
            assert!(used(shared) <= limit, "{shared:?} takes {}", used(shared));
            assert!(shared.connections >= 10 && shared.http_connections >= 1, "{shared:?}");
            assert!(2 * shared.before_login <= shared.connections, "{shared:?}");
        }
        let many = Descriptors::share_out(1 << 20, &WANTED);
        assert_eq!((many.before_login, many.http_connections), (1000, 512));
        assert!(many.connections > 1_000_000);
    }

    #[test]
    fn the_settings_count_where_they_are_less() {
        let wanted = Wanted { connections: 50, before_login: 0, http_connections: 3, ..WANTED };
        let shared = Descriptors::share_out(1024, &wanted);
        assert_eq!((shared.connections, shared.http_connections), (50, 3));
        assert_eq!(shared.before_login, 25);
    }

    #[test]
    fn the_soft_limit_is_raised() {
        let raised = raise_limit();
        assert_eq!(raised, limit());
        assert!(raised >= 256);
    }
}
