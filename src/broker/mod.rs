//! The core: virtual hosts, exchanges, queues. Synchronous and deterministic; time is handed in, nothing here does I/O.

pub mod exchange;
