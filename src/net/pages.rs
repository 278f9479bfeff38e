//! Which web pages may use what listens here. A browser connects to any address that a page names, and lets the page act with what
//! it can reach; and a name that its owner lets point to this machine makes a foreign page one of ours.
//!
//! Browsers say in `Origin` which page a request comes from; tools do not, and are served as ever.

use hyper::HeaderMap;
use hyper::header::{AsHeaderName, HOST, ORIGIN};
use std::net::IpAddr;

/// A request, as far as it says where it comes from, and what is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The name of this node, such as `leveret@localhost`.
    pub node_name: &'a str,
    /// The names that requests may be made under; without any, those from elsewhere may say any.
    pub hosts: &'a [String],
    /// The origins of pages that may ask besides those of the same host.
    pub origins: &'a [String],
    /// The setting that lists the origins, for refusals.
    pub origins_setting: &'static str,
}

impl Asked<'_> {
    /// Checks the name that is asked for. Only names with a dot have owners elsewhere, who may let them point to where this broker
    /// is; and what has no name of its own is asked from this machine.
    ///
    /// # Errors
    /// A text that says why it is refused, and which setting would allow it.
    pub fn check_host(&self) -> Result<(), String> {
        let Some(host) = self.text(HOST) else { return Ok(()) };
        let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let own = self.node_name.rsplit('@').next().unwrap_or_default();
        let is_known = is_address
            || !name.contains('.')
            || name.ends_with(".localhost")
            || name.eq_ignore_ascii_case(own)
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(&name));
        if is_known || self.hosts.is_empty() && !self.peer.is_loopback() {
            return Ok(());
        }
        Err(format!(
            "this broker is not asked for under the name {name:?}; access.http_hosts lists the names that it has"
        ))
    }

    /// Whether a page that may do so asks; requests without a page may as well, and are not.
    ///
    /// # Errors
    /// A text that says why a page of another site is refused, and which setting would allow it.
    pub fn check_origin(&self) -> Result<bool, String> {
        let Some(origin) = self.headers.get(ORIGIN) else { return Ok(false) };
        let origin = origin.to_str().unwrap_or("null");
        let authority = origin.split_once("://").map(|(scheme, rest)| (default_port(scheme), rest));
        let host = self.text(HOST).unwrap_or_default();
        let is_ours = authority.is_some_and(|(port, authority)| {
            with_port(authority, port).eq_ignore_ascii_case(&with_port(host, port))
        });
        if is_ours || self.is_listed(origin) {
            return Ok(true);
        }
        let setting = self.origins_setting;
        Err(format!("a page of {origin:?} may not ask; {setting} lists those that may"))
    }

    /// Whether the origin of the request, if it has one, is in the settings.
    pub fn is_from_listed_origin(&self) -> bool {
        self.text(ORIGIN).is_some_and(|origin| self.is_listed(origin))
    }

    fn text(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn is_listed(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
    }
}

fn default_port(scheme: &str) -> &'static str {
    if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// A name and a port, which browsers leave out where it is the scheme's own.
fn with_port(host: &str, default: &str) -> String {
    if without_port(host).len() == host.len() { format!("{host}:{default}") } else { host.to_owned() }
}
