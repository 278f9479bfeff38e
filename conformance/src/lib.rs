//! Cases in raw AMQP 0-9-1 frames, and what runs them against a broker.
