//! Errors as a client sees them: a reply code, a text, and the method that failed. The one place where the core's errors
//! become reply codes.

use crate::broker::BrokerError;
use crate::broker::error::StreamRefusal;
use std::fmt;

/// Reply codes (0-9-1 section 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyCode {
    /// 311
    ContentTooLarge,
    /// 320
    ConnectionForced,
    /// 402
    InvalidPath,
    /// 403
    AccessRefused,
    /// 404
    NotFound,
    /// 405
    ResourceLocked,
    /// 406
    PreconditionFailed,
    /// 501
    FrameError,
    /// 502
    SyntaxError,
    /// 503
    CommandInvalid,
    /// 504
    ChannelError,
    /// 505
    UnexpectedFrame,
    /// 506
    ResourceError,
    /// 530
    NotAllowed,
    /// 540
    NotImplemented,
    /// 541
    InternalError,
}

impl ReplyCode {
    /// The code as it is sent.
    pub fn number(self) -> u16 {
        self.row().0
    }

    /// The specification's name, as it stands at the front of reply texts.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Whether it ends the connection rather than the channel.
    pub fn is_hard(self) -> bool {
        use ReplyCode::{AccessRefused, ContentTooLarge, NotFound, PreconditionFailed, ResourceLocked};
        !matches!(self, ContentTooLarge | AccessRefused | NotFound | ResourceLocked | PreconditionFailed)
    }

    fn row(self) -> (u16, &'static str) {
        match self {
            ReplyCode::ContentTooLarge => (311, "CONTENT_TOO_LARGE"),
            ReplyCode::ConnectionForced => (320, "CONNECTION_FORCED"),
            ReplyCode::InvalidPath => (402, "INVALID_PATH"),
            ReplyCode::AccessRefused => (403, "ACCESS_REFUSED"),
            ReplyCode::NotFound => (404, "NOT_FOUND"),
            ReplyCode::ResourceLocked => (405, "RESOURCE_LOCKED"),
            ReplyCode::PreconditionFailed => (406, "PRECONDITION_FAILED"),
            ReplyCode::FrameError => (501, "FRAME_ERROR"),
            ReplyCode::SyntaxError => (502, "SYNTAX_ERROR"),
            ReplyCode::CommandInvalid => (503, "COMMAND_INVALID"),
            ReplyCode::ChannelError => (504, "CHANNEL_ERROR"),
            ReplyCode::UnexpectedFrame => (505, "UNEXPECTED_FRAME"),
            ReplyCode::ResourceError => (506, "RESOURCE_ERROR"),
            ReplyCode::NotAllowed => (530, "NOT_ALLOWED"),
            ReplyCode::NotImplemented => (540, "NOT_IMPLEMENTED"),
            ReplyCode::InternalError => (541, "INTERNAL_ERROR"),
        }
    }
}

/// An error that goes to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpError {
    /// The reply code, such as 404.
    pub code: ReplyCode,
    /// What happened, without the code's name in front.
    pub text: String,
    /// Whether it ends the connection even though its code is that of a channel.
    pub hard: bool,
    /// Class and method id of what failed; zeros when that was no method, `None` to take the method at hand.
    pub method: Option<(u16, u16)>,
}

impl AmqpError {
    /// An error of the method at hand.
    pub fn new(code: ReplyCode, text: impl Into<String>) -> AmqpError {
        AmqpError { code, text: text.into(), hard: code.is_hard(), method: None }
    }

    /// The same, ending the connection.
    pub fn hard(self) -> AmqpError {
        AmqpError { hard: true, ..self }
    }

    /// The same, not the fault of any method.
    pub fn without_method(self) -> AmqpError {
        AmqpError { method: Some((0, 0)), ..self }
    }

    /// The reply text: 255 octets at most, as a short string is. A longer one ends in three dots.
    pub fn reply_text(&self) -> String {
        const DOTS: &str = "...";
        let mut text = self.to_string();
        if text.len() > 255 {
            let cut = (0..=255 - DOTS.len()).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(cut);
            text.push_str(DOTS);
        }
        text
    }
}

impl fmt::Display for AmqpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.code.name(), self.text)
    }
}

impl From<BrokerError> for AmqpError {
    fn from(error: BrokerError) -> AmqpError {
        let code = match &error {
            BrokerError::NotFound(_) | BrokerError::NoSuchUser(_) => ReplyCode::NotFound,
            BrokerError::NoSuchVhost(_) | BrokerError::NotAllowed(_) => ReplyCode::NotAllowed,
            BrokerError::Locked(_) | BrokerError::GetFromSingleActive(_) => ReplyCode::ResourceLocked,
            BrokerError::ExclusiveUse(_)
            | BrokerError::ReservedName { .. }
            | BrokerError::DefaultExchange
            | BrokerError::SystemExchange(_)
            | BrokerError::InternalExchange(_)
            | BrokerError::AccessRefused { .. }
            | BrokerError::TopicRefused { .. } => ReplyCode::AccessRefused,
            BrokerError::Inequivalent { .. }
            | BrokerError::InvalidArgument { .. }
            | BrokerError::ArgumentOfOtherType { .. }
            | BrokerError::ArgumentNoName { .. }
            | BrokerError::ArgumentsTooLarge { .. }
            | BrokerError::Refused(_)
            | BrokerError::NameTooLong { .. }
            | BrokerError::PolicyUndecided { .. }
            | BrokerError::InvalidProperty { .. }
            | BrokerError::InUse(_)
            | BrokerError::NotEmpty(_)
            | BrokerError::AlreadyThere(_)
            | BrokerError::UnknownExchangeType(_)
            | BrokerError::LimitReached { .. }
            | BrokerError::BrokerLimitReached { .. }
            | BrokerError::VhostLimitReached { .. }
            | BrokerError::Pattern(_)
            | BrokerError::ValidationFailed(_)
            | BrokerError::Precondition(_) => ReplyCode::PreconditionFailed,
            BrokerError::OfStream(StreamRefusal::NoPrefetchCount, _) => ReplyCode::PreconditionFailed,
            BrokerError::OfStream(_, _) => ReplyCode::NotImplemented,
            BrokerError::Store(_) => ReplyCode::InternalError,
        };
        AmqpError::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let error = AmqpError::new(ReplyCode::NotFound, "ü".repeat(200));
        let text = error.reply_text();
        assert!(text.starts_with("NOT_FOUND - üü") && text.ends_with("ü..."), "{text}");
        assert!((254..=255).contains(&text.len()), "{}", text.len());
    }
}
