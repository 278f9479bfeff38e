//! Response codes, and which one each refusal of the core gets.

use crate::broker::error::BrokerError;

/// A response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Code {
    Ok = 0x01,
    StreamDoesNotExist = 0x02,
    SubscriptionIdExists = 0x03,
    SubscriptionIdDoesNotExist = 0x04,
    StreamExists = 0x05,
    StreamNotAvailable = 0x06,
    MechanismNotSupported = 0x07,
    AuthenticationFailure = 0x08,
    SaslError = 0x09,
    AuthenticationFailureLoopback = 0x0b,
    VhostAccessFailure = 0x0c,
    UnknownFrame = 0x0d,
    FrameTooLarge = 0x0e,
    InternalError = 0x0f,
    AccessRefused = 0x10,
    PreconditionFailed = 0x11,
    PublisherDoesNotExist = 0x12,
    NoOffset = 0x13,
    CannotChangeMechanism = 0x14,
    CannotChangeUser = 0x15,
}

impl Code {
    pub(super) fn number(self) -> u16 {
        self as u16
    }
}

impl From<&BrokerError> for Code {
    fn from(error: &BrokerError) -> Code {
        match error {
            BrokerError::NotFound(_) => Code::StreamDoesNotExist,
            BrokerError::AlreadyThere(_) => Code::StreamExists,
            BrokerError::AccessRefused { .. } => Code::AccessRefused,
            BrokerError::Store(_) => Code::InternalError,
            _ => Code::PreconditionFailed,
        }
    }
}
