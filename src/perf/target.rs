//! Which broker is put under load, and as whom: an amqp URL.

use super::Failure;
use hyper::Uri;
use percent_encoding::percent_decode_str;

/// What a URL comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Host and port.
    pub(super) address: String,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) vhost: String,
}

impl Target {
    /// Reads `amqp://user:password@host:port/vhost`; what is missing is as on a fresh broker. No message quotes the URL, since
    /// it may hold a password.
    pub(super) fn parse(url: &str) -> Result<Target, Failure> {
        let wrong = |what: &str| {
            Failure::Typed(format!(
                "the URL {what}; one looks like amqp://user:password@host:5672/vhost, with %2F for a / in a name"
            ))
        };
        let text = if url.contains("://") { url.to_owned() } else { format!("amqp://{url}") };
        let uri: Uri = text.parse().map_err(|_| wrong("can't be read"))?;
        match uri.scheme_str() {
            Some("amqp") => {}
            Some("amqps") => {
                return Err(wrong("asks for TLS, which this tool does not speak"));
            }
            _ => return Err(wrong("does not begin with amqp://")),
        }
        if uri.query().is_some() {
            return Err(wrong("has a ? in it"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.port_u16().is_none() && !authority.as_str().ends_with(authority.host()) {
            return Err(wrong("has a port that is none"));
        }
        let login = authority.as_str().rsplit_once('@').map(|(login, _)| login);
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (decoded(user), decoded(password)),
            None => ("guest".to_owned(), "guest".to_owned()),
        };
        let vhost = match uri.path().trim_start_matches('/') {
            "" => "/".to_owned(),
            name if name.contains('/') => return Err(wrong("has more than a vhost behind its host")),
            name => decoded(name),
        };
        if vhost.len() > 255 {
            return Err(wrong("has a vhost of more than 255 bytes"));
        }
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(5672));
        Ok(Target { address, user, password, vhost })
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_who() {
        let target = Target::parse("amqp://my%40app:p%2F@broker.example:5673/a%2Fb").unwrap();
        assert_eq!(target.address, "broker.example:5673");
        assert_eq!((target.user.as_str(), target.password.as_str()), ("my@app", "p/"));
        assert_eq!(target.vhost, "a/b");
        for url in ["amqp://localhost", "localhost/", "amqp://localhost:5672/%2F"] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.address.as_str(), target.vhost.as_str()), ("localhost:5672", "/"), "{url}");
            assert_eq!((target.user.as_str(), target.password.as_str()), ("guest", "guest"));
        }
        assert_eq!(Target::parse("amqp://[::1]").unwrap().address, "[::1]:5672");
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in
            ["amqps://u:secret@h", "http://u:secret@h", "amqp://u:secret@h:port", "amqp://u:secret@h/a/b"]
        {
            let problem = Target::parse(url).unwrap_err().to_string();
            assert!(problem.contains("one looks like amqp://") && !problem.contains("secret"), "{problem}");
        }
    }
}
