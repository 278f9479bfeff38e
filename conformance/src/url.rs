//! URLs of brokers, as the command takes them.

use crate::run::Options;

/// `host:port`, and options with the user, password and vhost of `amqp://user:password@host:port/vhost`.
pub fn parse(url: &str) -> Result<(String, Options), String> {
    let bad = || format!("'{url}' is no URL like amqp://user:password@host:5672/vhost");
    let rest = url.strip_prefix("amqp://").ok_or_else(bad)?;
    let (login, place) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
    let (user, password) = login.split_once(':').ok_or_else(bad)?;
    let (host, vhost) = place.split_once('/').unwrap_or((place, "%2F"));
    let address = if host.contains(':') { host.to_string() } else { format!("{host}:5672") };
    let options = Options {
        user: user.into(),
        password: password.into(),
        vhost: vhost.replace("%2F", "/").replace("%2f", "/"),
        ..Options::default()
    };
    Ok((address, options))
}
