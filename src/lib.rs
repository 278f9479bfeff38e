//! Leveret, a message broker that RabbitMQ's clients use unchanged.
