//! What a line of the list of routes says.

use super::answer::{Answer, ApiError};
use super::request::Request;

/// What is done to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl Method {
    /// As HTTP writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// Who may ask. Everybody who may has logged in with one of the tags `management`, `policymaker`, `monitoring` and
/// `administrator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nobody has to log in.
    Nothing,
    /// Whoever may use the API.
    Login,
    /// Who may see the vhost in the path: its users, and `monitoring` and `administrator`. One that is not there is not found.
    SeeVhost,
    /// Who has permissions in the vhost in the path.
    UseVhost,
    /// `administrator`, or `policymaker` with permissions in the vhost in the path, if there is one.
    Policymaker,
    /// `monitoring` or `administrator`.
    Monitoring,
    /// `administrator`.
    Administrator,
}

/// Answers a request.
pub(super) type Handler = fn(&Request) -> Result<Answer, ApiError>;

/// One thing that can be asked.
pub(super) struct Route {
    pub(super) method: Method,
    /// With its parameters in braces.
    pub(super) path: &'static str,
    pub(super) needs: Needs,
    /// What it does, in a line.
    pub(super) summary: &'static str,
    pub(super) handler: Handler,
}

impl Route {
    pub(super) const fn get(
        path: &'static str,
        needs: Needs,
        handler: Handler,
        summary: &'static str,
    ) -> Route {
        Route { method: Method::Get, path, needs, summary, handler }
    }

    pub(super) const fn put(
        path: &'static str,
        needs: Needs,
        handler: Handler,
        summary: &'static str,
    ) -> Route {
        Route { method: Method::Put, path, needs, summary, handler }
    }

    pub(super) const fn post(
        path: &'static str,
        needs: Needs,
        handler: Handler,
        summary: &'static str,
    ) -> Route {
        Route { method: Method::Post, path, needs, summary, handler }
    }

    pub(super) const fn delete(
        path: &'static str,
        needs: Needs,
        handler: Handler,
        summary: &'static str,
    ) -> Route {
        Route { method: Method::Delete, path, needs, summary, handler }
    }
}
