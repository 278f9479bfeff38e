//! What a client is sent in an ERROR frame, which ends its connection.

use crate::broker::BrokerError;

/// An error: the header `message`, and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StompError {
    pub(super) message: &'static str,
    pub(super) body: String,
    /// The header `subscription`, for an error that is one subscription's.
    pub(super) subscription: Option<Vec<u8>>,
    /// The header `receipt-id`, when the frame that failed asked for a receipt.
    pub(super) receipt: Option<Vec<u8>>,
}

impl StompError {
    pub(super) fn new(message: &'static str, body: impl Into<String>) -> StompError {
        StompError { message, body: body.into(), subscription: None, receipt: None }
    }

    /// A frame lacks something that the core would refuse, in its words.
    pub(super) fn precondition(text: impl std::fmt::Display) -> StompError {
        StompError::new("precondition_failed", format!("PRECONDITION_FAILED - {text}"))
    }
}

impl std::fmt::Display for StompError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.message, self.body.trim_end().replace('\n', " "))
    }
}

/// The core's refusals, with the names that RabbitMQ has for the reply codes of AMQP.
impl From<BrokerError> for StompError {
    fn from(error: BrokerError) -> StompError {
        let (message, code) = match &error {
            BrokerError::NotFound(_) | BrokerError::NoSuchVhost(_) => ("not_found", "NOT_FOUND"),
            BrokerError::Locked(_) | BrokerError::GetFromSingleActive(_) => {
                ("resource_locked", "RESOURCE_LOCKED")
            }
            BrokerError::ExclusiveUse(_)
            | BrokerError::AccessRefused { .. }
            | BrokerError::TopicRefused { .. }
            | BrokerError::ReservedName { .. }
            | BrokerError::DefaultExchange
            | BrokerError::SystemExchange(_)
            | BrokerError::InternalExchange(_) => ("access_refused", "ACCESS_REFUSED"),
            BrokerError::NotAllowed(_) => ("not_allowed", "NOT_ALLOWED"),
            BrokerError::Store(_) => ("internal_error", "INTERNAL_ERROR"),
            _ => ("precondition_failed", "PRECONDITION_FAILED"),
        };
        StompError::new(message, format!("{code} - {error}"))
    }
}
