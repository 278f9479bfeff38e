//! Waiting for a broker that starts, by its process.

use super::super::client::ClientError;
use super::{Call, Command, Done, Refusal, command, status};
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const COMMANDS: &[Command] =
    &[command("wait", (0, 1), wait, "[<pidfile>] [--pid|-P <pid>] [--timeout <timeout>]")];

/// Seconds that it waits by default.
const WAIT_S: f64 = 10.0;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

fn wait(call: &mut Call) -> Done {
    let patience = Duration::from_secs_f64(call.typed.timeout_s().unwrap_or(WAIT_S).clamp(0.0, 1e9));
    let (place, deadline) = (call.place(), Instant::now() + patience);
    let late = move |place: &str| {
        let text = format!(
            "Error: operation wait on node {place} timed out. Timeout value used: {}",
            patience.as_millis()
        );
        Refusal::Bare(status::TIMED_OUT, text)
    };
    let pid = match (call.typed.option("--pid").map(str::to_owned), call.typed.arguments.first().cloned()) {
        (Some(pid), None) => pid,
        (None, Some(file)) => {
            call.banner(&format!("Waiting for pid file '{file}' to appear"))?;
            loop {
                match std::fs::read_to_string(&file) {
                    Ok(text) if !text.trim().is_empty() => break text.trim().to_owned(),
                    _ if Instant::now() >= deadline => return Err(late(&place)),
                    _ => std::thread::park_timeout(PAUSE),
                }
            }
        }
        (Some(_), Some(_)) => {
            return Err(Refusal::Usage("Cannot specify both pid and pidfile".to_owned()));
        }
        (None, None) => return Err(Refusal::Usage("No pid or pidfile specified".to_owned())),
    };
    if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Error(status::DATA, format!("'{pid}' is no process id")));
    }
    call.banner(&format!("Waiting for the broker at {place} while OS process '{pid}' is running"))?;
    loop {
        match call.client.check("/health/ready") {
            Ok(()) => {
                let text = format!("Applications 'rabbit_and_plugins' are running on node '{place}'");
                return Ok(call.banner(&text)?);
            }
            // It is starting, or stopping.
            Err(
                ClientError::Unreachable { .. } | ClientError::Garbled { .. } | ClientError::Refused { .. },
            ) => {}
            Err(error) => return Err(error.into()),
        }
        if !Path::new("/proc").join(&pid).exists() {
            let text = format!("there is no process '{pid}', so nothing is waited for");
            return Err(Refusal::Error(status::UNAVAILABLE, text));
        }
        if Instant::now() >= deadline {
            return Err(late(&place));
        }
        std::thread::park_timeout(PAUSE);
    }
}
