//! What a line of the list of routes says.

use super::answer::{Answer, ApiError};
use super::request::Request;
use schemars::{JsonSchema, Schema, SchemaGenerator};

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

/// Which users may call it. But for `Nothing` they have logged in with one of the tags `management`, `policymaker`, `monitoring` and
/// `administrator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// No login is needed.
    Nothing,
    /// Every user of the API.
    Login,
    /// Users who may see the vhost in the path: its users, and `monitoring` and `administrator`. One that is not there is not found.
    SeeVhost,
    /// Users with permissions in the vhost in the path.
    UseVhost,
    /// `administrator`, or `policymaker` with permissions in the vhost in the path, if there is one.
    Policymaker,
    /// `monitoring` or `administrator`.
    Monitoring,
    /// `administrator`.
    Administrator,
}

/// A handler: answers a request that may be made.
pub(super) type Handler = fn(&Request) -> Result<Answer, ApiError>;

/// The schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What is answered with status 200.
#[derive(Clone, Copy)]
pub(super) enum Answers {
    /// Nothing, or no JSON.
    Nothing,
    /// A thing.
    One(SchemaOf),
    /// Things, as a list or a page of one.
    List(SchemaOf),
}

/// One thing that can be asked.
pub(super) struct Route {
    pub(super) method: Method,
    /// With its parameters in braces.
    pub(super) path: &'static str,
    pub(super) needs: Needs,
    /// What it does, in a line.
    pub(super) summary: &'static str,
    pub(super) handler: Handler,
    /// How large the body of a request may be.
    pub(super) body: BodySize,
    /// What the body of a request says, for its description.
    pub(super) takes: Option<SchemaOf>,
    /// What is answered.
    pub(super) answers: Answers,
    /// Whether it is answered where it is read: it takes no time, and must not wait for what does.
    pub(super) is_quick: bool,
}

/// How large the body of a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodySize {
    /// `limits.http_small_body_max_bytes`.
    Small,
    /// `limits.http_body_max_bytes`.
    Large,
}

impl Route {
    pub(super) const fn get(
        path: &'static str,
        needs: Needs,
        handler: Handler,
        summary: &'static str,
    ) -> Route {
        Route::new(Method::Get, path, needs, handler, summary)
    }

    pub(super) const fn put(
        path: &'static str,
        needs: Needs,
        handler: Handler,
        summary: &'static str,
    ) -> Route {
        Route::new(Method::Put, path, needs, handler, summary)
    }

    pub(super) const fn post(
        path: &'static str,
        needs: Needs,
        handler: Handler,
        summary: &'static str,
    ) -> Route {
        Route::new(Method::Post, path, needs, handler, summary)
    }

    pub(super) const fn delete(
        path: &'static str,
        needs: Needs,
        handler: Handler,
        summary: &'static str,
    ) -> Route {
        Route::new(Method::Delete, path, needs, handler, summary)
    }

    const fn new(
        method: Method,
        path: &'static str,
        needs: Needs,
        handler: Handler,
        summary: &'static str,
    ) -> Route {
        Route {
            method,
            path,
            needs,
            summary,
            handler,
            body: BodySize::Small,
            takes: None,
            answers: Answers::Nothing,
            is_quick: false,
        }
    }

    /// The same, with what its requests say.
    pub(super) const fn takes<T: JsonSchema>(self) -> Route {
        Route { takes: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// The same, with what it answers.
    pub(super) const fn answers<T: ?Sized + JsonSchema>(self) -> Route {
        Route { answers: Answers::One(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// The same, with what the list that it answers has.
    pub(super) const fn lists<T: JsonSchema>(self) -> Route {
        Route { answers: Answers::List(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// The same, with bodies that may be large.
    pub(super) const fn with_large_body(self) -> Route {
        Route { body: BodySize::Large, ..self }
    }

    /// The same, answered at once.
    pub(super) const fn at_once(self) -> Route {
        Route { is_quick: true, ..self }
    }
}
