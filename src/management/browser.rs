//! What a page in the browser of a user of the API may not do. A browser sends along the login that it remembers, whatever site
//! wrote the page that asks; and a name that its owner lets point to this machine makes a foreign page one of ours.
//!
//! Browsers say where a request comes from, in `Origin` and `Sec-Fetch-Site`; tools do not, and are served as ever.

use super::ManagementSettings;
use super::answer::ApiError;
use super::routes::Method;
use crate::net::pages;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use std::net::IpAddr;

/// Bodies of these types can be sent by a form on any page, without the browser asking first.
const FORM_TYPES: [&str; 3] = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];

/// A request, as far as it says where it comes from.
pub(super) struct Asked<'a> {
    pub(super) settings: &'a ManagementSettings,
    pub(super) method: Method,
    pub(super) headers: &'a HeaderMap,
    /// The other end of the connection.
    pub(super) peer: IpAddr,
}

impl Asked<'_> {
    /// Refuses what a page of another site asks.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        let page = self.page();
        page.check_host().map_err(ApiError::Forbidden)?;
        let is_ours = page.check_origin().map_err(ApiError::Forbidden)? | self.check_site()?;
        if !is_ours && self.is_form_of_a_browser() {
            let text = "a browser says that this comes from a form, and not from which page";
            return Err(ApiError::Forbidden(text.to_owned()));
        }
        Ok(())
    }

    fn page(&self) -> pages::Asked<'_> {
        pages::Asked {
            headers: self.headers,
            peer: self.peer,
            node_name: &self.settings.node_name,
            hosts: &self.settings.http_hosts,
            origins: &self.settings.http_origins,
            origins_setting: "access.http_origins",
        }
    }

    fn text(&self, name: impl axum::http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether a page of ours asks, by what the browser makes of it.
    fn check_site(&self) -> Result<bool, ApiError> {
        match self.text("sec-fetch-site") {
            None => Ok(false),
            Some("same-origin" | "none") => Ok(true),
            Some(_) if self.page().is_from_listed_origin() => Ok(true),
            // A link to what can be read, which the other page does not get to see.
            Some(_) if self.method == Method::Get && self.text("sec-fetch-mode") == Some("navigate") => {
                Ok(true)
            }
            Some(_) => Err(ApiError::Forbidden("a page of another site may not ask".to_owned())),
        }
    }

    fn is_form_of_a_browser(&self) -> bool {
        let is_browser = self.text(header::USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla/"));
        let content_type = self.text(header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let is_form = FORM_TYPES.iter().any(|form| content_type.starts_with(form));
        self.method != Method::Get && is_browser && is_form
    }
}

/// Adds the headers by which a browser takes an answer for data and no page, and knows whether it may keep it.
pub(super) fn protect(mut response: Response, is_private: bool) -> Response {
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    if is_private {
        set(header::CACHE_CONTROL, "no-store");
    }
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &ManagementSettings, method: Method, peer: &str, lines: &[(&str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        Asked { settings, method, headers: &headers, peer: peer.parse().unwrap() }.check().is_ok()
    }

    #[test]
    fn names_that_somebody_else_may_own_are_none_of_ours_on_this_machine() {
        let mut settings =
            ManagementSettings { node_name: "leveret@box.example".to_owned(), ..Default::default() };
        let asks = |host: &str, peer: &str| check(&settings, Method::Get, peer, &[("host", host)]);
        for host in [
            "127.0.0.1:15672",
            "[::1]:15672",
            "[::1]",
            "localhost",
            "a.localhost:1",
            "leveret:15672",
            "BOX.example.:1",
        ] {
            assert!(asks(host, "127.0.0.1"), "{host}");
        }
        assert!(!asks("evil.example:15672", "127.0.0.1") && !asks("evil.example", "::1"));
        assert!(asks("broker.example:15672", "192.0.2.7"), "from elsewhere the network says who may");
        settings.http_hosts = vec!["broker.example".to_owned()];
        let asks = |host: &str, peer: &str| check(&settings, Method::Get, peer, &[("host", host)]);
        assert!(asks("Broker.Example:15672", "127.0.0.1") && asks("broker.example", "192.0.2.7"));
        assert!(!asks("evil.example", "192.0.2.7") && asks("192.0.2.1", "192.0.2.7"));
    }

    #[test]
    fn pages_of_other_origins_are_refused_and_tools_are_not() {
        let settings =
            ManagementSettings { http_origins: vec!["https://ops.example".to_owned()], ..Default::default() };
        let asks = |method, lines: &[(&str, &str)]| {
            let lines = [&[("host", "localhost:15672")], lines].concat();
            check(&settings, method, "127.0.0.1", &lines)
        };
        let form = ("content-type", "multipart/form-data; boundary=b");
        let browser = ("user-agent", "Mozilla/5.0");
        for (is_served, method, lines) in [
            (true, Method::Put, &[][..]),
            (true, Method::Post, &[form]),
            (
                true,
                Method::Post,
                &[("content-type", "application/x-www-form-urlencoded"), ("user-agent", "curl/8.0")],
            ),
            (false, Method::Post, &[form, browser]),
            (true, Method::Post, &[form, browser, ("origin", "http://localhost:15672")]),
            (true, Method::Post, &[form, browser, ("sec-fetch-site", "same-origin")]),
            (true, Method::Put, &[("content-type", "application/json"), browser]),
            (false, Method::Put, &[("origin", "http://evil.example")]),
            (false, Method::Get, &[("origin", "http://localhost:3000")]),
            (false, Method::Get, &[("origin", "null")]),
            (true, Method::Put, &[("origin", "https://ops.example"), ("sec-fetch-site", "cross-site")]),
            (false, Method::Post, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]),
            (false, Method::Get, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]),
            (true, Method::Get, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]),
        ] {
            assert_eq!(asks(method, lines), is_served, "{method:?} {lines:?}");
        }
        let origin = [("host", "broker"), ("origin", "https://broker")];
        assert!(check(&settings, Method::Put, "192.0.2.1", &origin));
        let origin = [("host", "broker:443"), ("origin", "https://broker")];
        assert!(check(&settings, Method::Put, "192.0.2.1", &origin));
        let origin = [("host", "broker:15672"), ("origin", "https://broker")];
        assert!(!check(&settings, Method::Put, "192.0.2.1", &origin));
    }
}
