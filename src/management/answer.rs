//! What is answered, and what is refused: the one place where errors get their HTTP statuses and RabbitMQ's bodies.

use crate::amqp::AmqpError;
use crate::api::{self, Fault, Health};
use crate::broker::BrokerError;
use crate::broker::topology::administration::Put;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

/// An answer to a request that went well.
#[derive(Debug)]
pub(super) enum Answer {
    /// 200 with a body.
    Json(Value),
    /// 200 with a body that is written already.
    Text(String),
    /// 200 with a page for people.
    Html(String),
    /// 200 with a file to save.
    File {
        /// The name that is proposed for it.
        name: String,
        /// What is in it.
        content: String,
    },
    /// 201: it was not there before.
    Created,
    /// 201, and where it is.
    CreatedAt(String),
    /// 204.
    NoContent,
    /// 303: done, and the browser is to look there.
    SeeOther(String),
    /// 503: what was checked is not as it should be.
    Unavailable(Box<Health>),
    /// One of the others, and what of the request has no effect: a header `Warning` for each.
    Warned(Box<Answer>, Vec<String>),
}

impl Answer {
    /// 200 with a thing as JSON.
    pub(super) fn of<T: Serialize>(thing: &T) -> Result<Answer, ApiError> {
        serde_json::to_string(thing).map(Answer::Text).map_err(|error| ApiError::Internal(error.to_string()))
    }

    /// The same answer with warnings, if there are any.
    pub(super) fn warned(self, warnings: Vec<String>) -> Answer {
        if warnings.is_empty() { self } else { Answer::Warned(Box::new(self), warnings) }
    }
}

impl From<Put> for Answer {
    fn from(put: Put) -> Answer {
        match put {
            Put::Created => Answer::Created,
            Put::Updated => Answer::NoContent,
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum ApiError {
    /// 400.
    #[error("bad_request: {0}")]
    BadRequest(Value),
    /// 400, with another word for it.
    #[error("{error}: {reason}")]
    Invalid {
        /// The field `error`.
        error: &'static str,
        /// The field `reason`: what is wrong.
        reason: String,
    },
    /// 401: there was no login.
    #[error("login needed")]
    LoginNeeded,
    /// 401: a login failed.
    #[error("login failed")]
    LoginFailed,
    /// 429: too many logins wait already.
    #[error("too many logins from this address have failed, try again in a minute")]
    TooManyLogins,
    /// 401: the user may not do that.
    #[error("not_authorised: {0}")]
    NotAuthorised(String),
    /// 403: a page of another site asks.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// 404.
    #[error("not found")]
    NotFound,
    /// 404, and what is not there.
    #[error("not_found: {0}")]
    NotThere(String),
    /// 405.
    #[error("method not allowed: {0}")]
    MethodNotAllowed(String),
    /// 413.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// 503: others are answered first.
    #[error("too many requests are at work, try again later")]
    Busy,
    /// 500: the fault is ours.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// 400 with that reason.
    pub(super) fn bad_request(reason: impl Into<String>) -> ApiError {
        ApiError::BadRequest(Value::String(reason.into()))
    }

    /// 400 with a reason in two words, as RabbitMQ's checks of single values say it.
    pub(super) fn bad_value(what: &str, value: impl Into<Value>) -> ApiError {
        ApiError::BadRequest(Value::Array(vec![what.into(), value.into()]))
    }

    /// The error of what RabbitMQ does by a method of AMQP: mostly 400 with the reply code and text that a client would have
    /// got.
    pub(super) fn of_method(error: BrokerError) -> ApiError {
        match ApiError::from(error.clone()) {
            refused @ (ApiError::NotAuthorised(_) | ApiError::Internal(_))
                if !matches!(error, BrokerError::InternalExchange(_)) =>
            {
                refused
            }
            _ => {
                let error = AmqpError::from(error);
                ApiError::bad_request(format!("{} {}", error.code.number(), error.reply_text()))
            }
        }
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> ApiError {
        match fault {
            Fault::Missing(field) => ApiError::bad_request(format!("[{{key_missing,{field}}}]")),
            Fault::NotText(field) => ApiError::bad_value("not_string", field),
            Fault::NotBoolean(value) => ApiError::bad_value("not_boolean", value),
            Fault::NotInteger(_, value) => ApiError::bad_value("not_integer", value),
            Fault::NotObject(field) => ApiError::bad_value("not_object", field),
            Fault::NotList(field) => ApiError::bad_value("not_list", field),
            Fault::Other(text) => ApiError::bad_request(text),
        }
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> ApiError {
        match error {
            BrokerError::NotFound(_) => ApiError::NotThere(error.to_string()),
            BrokerError::AccessRefused { .. } | BrokerError::TopicRefused { .. } => {
                ApiError::NotAuthorised(error.to_string())
            }
            BrokerError::ReservedName { .. }
            | BrokerError::DefaultExchange
            | BrokerError::SystemExchange(_)
            | BrokerError::InternalExchange(_) => ApiError::NotAuthorised("Access refused.".to_owned()),
            BrokerError::NoSuchUser(name) => ApiError::bad_value("no_such_user", &*name),
            BrokerError::Pattern(error) => {
                ApiError::BadRequest(json!(["invalid_regexp", error.pattern, error.reason]))
            }
            BrokerError::UnknownExchangeType(kind) => {
                ApiError::bad_request(format!("invalid exchange type '{kind}'"))
            }
            BrokerError::Store(text) => ApiError::Internal(text),
            other => ApiError::bad_request(other.to_string()),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Answer::Json(value) => body(StatusCode::OK, value.to_string()),
            Answer::Text(text) => body(StatusCode::OK, text),
            Answer::Html(text) => {
                let mut response = body(StatusCode::OK, text);
                let html = HeaderValue::from_static("text/html; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, html);
                response
            }
            Answer::File { name, content } => {
                let mut response = body(StatusCode::OK, content);
                let disposition = format!("attachment; filename=\"{}\"", name.replace(['"', '\\'], "_"));
                if let Ok(value) = HeaderValue::from_str(&disposition) {
                    response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
                }
                response
            }
            Answer::Created => StatusCode::CREATED.into_response(),
            Answer::CreatedAt(location) => {
                (StatusCode::CREATED, [(header::LOCATION, location)]).into_response()
            }
            Answer::NoContent => StatusCode::NO_CONTENT.into_response(),
            Answer::SeeOther(location) => {
                (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
            }
            Answer::Unavailable(found) => body(StatusCode::SERVICE_UNAVAILABLE, api::written(&found)),
            Answer::Warned(answer, warnings) => {
                let mut response = answer.into_response();
                for warning in warnings {
                    // RFC 7234 section 5.5: 299 is a warning that stays, the text is in quotes.
                    let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
                    if let Ok(value) = HeaderValue::from_str(&format!("299 leveret \"{text}\"")) {
                        response.headers_mut().append(header::WARNING, value);
                    }
                }
                response
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        const REALM: (header::HeaderName, HeaderValue) =
            (header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"RabbitMQ Management\""));
        match self {
            ApiError::BadRequest(reason) => error_response(StatusCode::BAD_REQUEST, "bad_request", reason),
            ApiError::Invalid { error, reason } => {
                error_response(StatusCode::BAD_REQUEST, error, reason.into())
            }
            ApiError::LoginNeeded => (StatusCode::UNAUTHORIZED, [REALM]).into_response(),
            ApiError::LoginFailed => {
                ([REALM], error_response(StatusCode::UNAUTHORIZED, "not_authorized", "Login failed".into()))
                    .into_response()
            }
            ApiError::TooManyLogins => {
                error_response(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", self.to_string().into())
            }
            ApiError::NotAuthorised(reason) => {
                error_response(StatusCode::UNAUTHORIZED, "not_authorised", reason.into())
            }
            ApiError::Forbidden(reason) => error_response(StatusCode::FORBIDDEN, "forbidden", reason.into()),
            ApiError::NotFound => {
                error_response(StatusCode::NOT_FOUND, "Object Not Found", "Not Found".into())
            }
            ApiError::NotThere(reason) => error_response(StatusCode::NOT_FOUND, "not_found", reason.into()),
            ApiError::MethodNotAllowed(allowed) => {
                (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allowed)]).into_response()
            }
            ApiError::TooLarge(_) => {
                error_response(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", self.to_string().into())
            }
            ApiError::Busy => {
                error_response(StatusCode::SERVICE_UNAVAILABLE, "busy", self.to_string().into())
            }
            ApiError::Internal(reason) => {
                error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", reason.into())
            }
        }
    }
}

fn error_response(status: StatusCode, error: &str, reason: Value) -> Response {
    body(status, json!({ "error": error, "reason": reason }).to_string())
}

fn body(status: StatusCode, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (status, headers, text).into_response()
}
