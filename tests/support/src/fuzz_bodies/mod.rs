//! What the fuzz targets in `fuzz/` do with their bytes. Here, so that a plain test can replay their corpora.

mod codec;
mod disk;
mod exchanges;
mod glob;
mod http;
mod input;
mod json;
mod stomp;
mod stream_protocol;
mod text;
mod websocket;
mod wire;

pub use json::bytes_of;
pub use wire::{Step, TIMES_MS, opened};

/// One target.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    body: fn(&[u8]),
    /// Steps that it may take for no bytes at all, and for each byte: what it was seen to take, a few times over, or what its
    /// worst bytes must make.
    steps: (u64, u64),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    // An array of nulls has no bytes for each of them.
    Target { name: "amqp10", body: codec::amqp10, steps: (300_000, 10) },
    Target { name: "certificate", body: text::certificate, steps: (200, 20) },
    Target { name: "config", body: text::config, steps: (2_000, 20) },
    Target { name: "definitions", body: http::definitions, steps: (3_000, 50) },
    // Each message may have had 64 patterns of x-glob compiled anew, and each pattern by itself for comparison.
    Target { name: "exchanges", body: exchanges::exchanges, steps: (2_000_000, 12_000) },
    Target { name: "field_table", body: codec::field_table, steps: (50, 3) },
    Target { name: "frames", body: wire::frames, steps: (1_000, 30) },
    Target { name: "journal", body: disk::journal, steps: (3_000, 50) },
    Target { name: "log", body: disk::log, steps: (10_000, 50) },
    Target { name: "management", body: http::management, steps: (10_000, 100) },
    Target { name: "pattern", body: text::pattern, steps: (250_000, 20) },
    Target { name: "properties", body: codec::properties, steps: (50, 3) },
    Target { name: "proxy_header", body: text::proxy_header, steps: (300, 4) },
    Target { name: "session", body: wire::session, steps: (3_000, 50) },
    Target { name: "stomp", body: stomp::stomp, steps: (6_000, 200) },
    Target { name: "stored", body: codec::stored, steps: (50, 3) },
    Target { name: "stream_protocol", body: stream_protocol::stream_protocol, steps: (6_000, 200) },
    // A batch may announce as many messages as it can count; they may all be empty, and compressed.
    Target { name: "sub_batch", body: codec::sub_batch, steps: (70_000, 3) },
    // Read twice, the second time in pieces of one byte at the least.
    Target { name: "websocket", body: websocket::websocket, steps: (10, 4) },
];

/// Runs a target on libFuzzer's bytes.
pub fn run(name: &str, data: &[u8]) {
    target(name).run(data);
}

/// The target of that name.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("every fuzz target has a body")
}

impl Target {
    /// Does with the bytes what the target does, and holds the work to what so many bytes may make.
    pub fn run(&self, data: &[u8]) {
        let ((), steps) = leveret::steps::of(|| (self.body)(data));
        let (base, per_byte) = self.steps;
        let allowed = base + per_byte * data.len() as u64;
        assert!(
            steps <= allowed,
            "{}: {steps} steps for {} bytes, where {allowed} are allowed",
            self.name,
            data.len()
        );
    }
}
