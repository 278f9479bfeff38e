//! What a client says of deliveries, in whatever protocol: the outcomes of AMQP 1.0 (section 3.4), which can say what those of all the
//! others can.

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done with: basic.ack, `accepted`, ACK.
    Accept,
    /// It is no good: dead-lettered or dropped. basic.nack and basic.reject without requeue, `rejected`, NACK.
    Reject,
    /// It goes back to its queue as if it had not been delivered: basic.nack with requeue, `released`.
    Release,
    /// It goes back, or is dead-lettered: `modified`, and basic.reject with requeue, which says that the delivery failed.
    Modify {
        /// Whether the delivery counts against a delivery limit.
        delivery_failed: bool,
        /// Whether it can't be delivered to this consumer. With one queue behind the link there is nowhere else for it to go, so it is
        /// dead-lettered or dropped, as RabbitMQ does it.
        undeliverable_here: bool,
    },
}

impl Outcome {
    /// The delivery failed, and the message goes back.
    pub const FAILED: Outcome = Outcome::Modify { delivery_failed: true, undeliverable_here: false };

    /// Whether the message leaves its queue for the dead-letter exchange, if there is one.
    pub fn is_refusal(self) -> bool {
        matches!(self, Outcome::Reject | Outcome::Modify { undeliverable_here: true, .. })
    }

    /// For a message that goes back to its queue, whether the delivery failed.
    pub fn goes_back(self) -> Option<bool> {
        match self {
            Outcome::Release => Some(false),
            Outcome::Modify { delivery_failed, undeliverable_here: false } => Some(delivery_failed),
            Outcome::Accept | Outcome::Reject | Outcome::Modify { undeliverable_here: true, .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_ends_or_goes_back() {
        let modify =
            |delivery_failed, undeliverable_here| Outcome::Modify { delivery_failed, undeliverable_here };
        let cases = [
            (Outcome::Accept, false, None),
            (Outcome::Reject, true, None),
            (Outcome::Release, false, Some(false)),
            (Outcome::FAILED, false, Some(true)),
            (modify(false, false), false, Some(false)),
            (modify(true, true), true, None),
            (modify(false, true), true, None),
        ];
        for (outcome, is_refusal, goes_back) in cases {
            assert_eq!((outcome.is_refusal(), outcome.goes_back()), (is_refusal, goes_back), "{outcome:?}");
        }
    }
}
