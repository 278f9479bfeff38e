//! Benchmarks of the hot path, each with its cost by message: `cargo bench`, or `cargo bench -- routing` for some of them.
//!
//! Everything runs on one thread, without sockets.

mod commit;
mod routing;
mod session;

fn main() {
    divan::main();
}
