//! `leveret serve`: a process that runs one broker until a signal stops it.

use crate::notify::{READY, STOPPING, notify};
use crate::terminal::{complain, say};
use leveret::broker::Broker;
use leveret::broker::exchange::ExchangeTypes;
use leveret::config::{Config, Engine};
use leveret::server::Server;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use tikv_jemalloc_ctl::{Access, AsName};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a broker until SIGTERM or SIGINT, and says what it listens on.
pub(crate) fn serve(config: &Config) -> ExitCode {
    if let Err(error) = leveret::log::start(&config.log) {
        complain(format_args!("leveret: {error}"));
        return ExitCode::FAILURE;
    }
    leveret::log::report_panics(leveret::store::takes_panics);
    leveret::files::keep_all_private();
    keep_freed_memory();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("leveret: the system gives no threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("leveret: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Lets what was freed lie until it has been unused for the time in `.cargo/config.toml`, however much of it has grown together.
/// jemalloc gives 8 MiB or more back at once, and with messages of a megabyte that is soon together and soon wanted again. The
/// setting in the file comes too late for the first of its arenas.
fn keep_freed_memory() {
    if let Err(error) = b"arena.0.oversize_threshold\0".name().write(usize::MAX) {
        tracing::debug!(
            "jemalloc does not take a setting, so large messages take more processor time: {error}"
        );
    }
}

async fn run(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let server = Server::start(config, ExchangeTypes::standard()).await?;
    let address = server.address()?;
    say(format_args!("leveret {} is listening on amqp://{address}", env!("CARGO_PKG_VERSION")));
    for listener in server.listeners()? {
        let address = listener.address;
        match listener.protocol {
            "amqp/ssl" => say(format_args!("leveret is listening on amqps://{address}")),
            "http" => say(format_args!("the management API is at http://{address}/api")),
            "https" => say(format_args!("the management API is at https://{address}/api")),
            "http/websocket" => say(format_args!("leveret is listening on ws://{address}/ws")),
            "https/websocket" => say(format_args!("leveret is listening on wss://{address}/ws")),
            "http/prometheus" => say(format_args!("metrics are at http://{address}/metrics")),
            "https/prometheus" => say(format_args!("metrics are at https://{address}/metrics")),
            // Said before.
            "amqp" => {}
            other => say(format_args!("leveret is listening for {other} on {address}")),
        }
    }
    match config.store.engine {
        Engine::Sled => {
            say(format_args!("what is kept is in {}", std::path::absolute(&config.data_dir)?.display()))
        }
        Engine::Memory => say("nothing is kept when it stops, since store.engine is \"memory\""),
    }
    if can_be_tried(server.broker()) {
        let address = reachable(address);
        say(format_args!("try it: AMQP_URL=amqp://guest:guest@{address}/%2F python3 examples/first.py"));
    }
    say("Ctrl-C stops the broker");
    notify(READY);
    let shutdown = server.shutdown();
    let tls = server.tls().cloned();
    let mut running = tokio::spawn(server.run());
    loop {
        tokio::select! {
            ended = &mut running => return Ok(ended??),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                tracing::info!("SIGHUP: the files of [tls] are read again");
                tls.iter().for_each(|tls| tls.reload_and_log());
            }
        }
    }
    notify(STOPPING);
    tracing::info!("stopping: connections are closed, then everything is made durable");
    shutdown.begin();
    tokio::select! {
        ended = running => {
            ended??;
            tracing::info!("stopped");
            Ok(())
        }
        _ = terminate.recv() => Err("stopped at once by a second signal".into()),
        _ = interrupt.recv() => Err("stopped at once by a second signal".into()),
    }
}

/// An address that a client on this machine can take: one that stands for all of the machine's is none.
fn reachable(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, address.port())
}

/// Whether the user that every example takes is there as it was made, and may use the vhost that they use.
fn can_be_tried(broker: &Broker) -> bool {
    let user = broker.users().get("guest").filter(|user| broker.users().fits(user, "guest"));
    user.is_some_and(|user| broker.permissions().may_open(&user.name, &"/".into()))
        && broker.vhost("/").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_stands_for_all_becomes_one_to_connect_to() {
        for (bound, typed) in [
            ("0.0.0.0:5672", "127.0.0.1:5672"),
            ("[::]:5672", "[::1]:5672"),
            ("192.0.2.7:5673", "192.0.2.7:5673"),
            ("[2001:db8::1]:5672", "[2001:db8::1]:5672"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()).to_string(), typed);
        }
    }
}
