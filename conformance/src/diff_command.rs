//! `leveret-conformance diff`: random runs on two brokers.

use clap::Args;
use leveret_conformance::diff::{Differ, End, Target};
use leveret_conformance::{Options, TcpTransport, differences, url};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Drives two brokers with the same random steps and compares all that can be seen. Exits with 0 when nothing differs that
/// is not declared in differences.toml.
#[derive(Args)]
pub(crate) struct DiffArguments {
    /// One broker: amqp://user:password@host:port/vhost
    #[arg(long)]
    left: String,
    /// The other one
    #[arg(long)]
    right: String,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many seeds, one after the other
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Steps of each seed
    #[arg(long, default_value_t = 60)]
    steps: usize,
    /// So many seeds at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Milliseconds to listen for more when a broker seems quiet
    #[arg(long, default_value_t = 2)]
    pause: u64,
}

/// What all seeds came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    steps: usize,
    declared: BTreeMap<String, Vec<u64>>,
    unsteady: Vec<u64>,
    different: Vec<u64>,
    failure: Option<String>,
}

pub(crate) fn run(arguments: &DiffArguments) -> Result<bool, String> {
    let target = |text: &str| -> Result<Target<'static>, String> {
        let (address, options) = url::parse(text)?;
        let connect = Box::new(move || -> Box<dyn leveret_conformance::Transport> {
            Box::new(TcpTransport::new(&address, None))
        });
        // A busy machine may keep a broker waiting; a run of many seeds must not end at that.
        let options = Options { timeout: Duration::from_secs(60), ..options };
        Ok(Target { connect, options, alter: None })
    };
    let differ = Differ {
        left: target(&arguments.left)?,
        right: target(&arguments.right)?,
        declared: differences::declared()?.random,
        pause: Duration::from_millis(arguments.pause),
    };
    let next = AtomicU64::new(arguments.seed);
    let sum = Mutex::new(Sum::default());
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.seed + arguments.seeds {
                return;
            }
            let end = differ.seed(seed, arguments.steps);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            note(&mut sum, seed, end);
            if sum.failure.is_some() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(worker);
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = sum.failure {
        return Err(failure);
    }
    print(&sum);
    Ok(sum.different.is_empty())
}

fn note(sum: &mut Sum, seed: u64, end: Result<End, String>) {
    sum.seeds += 1;
    match end {
        Ok(End::Same(steps)) => sum.steps += steps,
        Ok(End::Declared(steps, case)) => {
            sum.steps += steps;
            sum.declared.entry(case).or_default().push(seed);
        }
        Ok(End::Unsteady(steps)) => {
            sum.steps += steps;
            sum.unsteady.push(seed);
        }
        Ok(End::Different(finding)) => {
            sum.steps += finding.script.len();
            sum.different.push(seed);
            println!("# Seed {seed}: the brokers differ.\n{}", finding.text);
        }
        Err(failure) => sum.failure = Some(format!("seed {seed}: {failure}")),
    }
    if sum.seeds.is_multiple_of(50) {
        println!("# {} seeds done, {} steps, {} differ", sum.seeds, sum.steps, sum.different.len());
    }
}

fn print(sum: &Sum) {
    println!("{} seeds with {} steps:", sum.seeds, sum.steps);
    println!("  {} differ {}", sum.different.len(), list(&sum.different));
    for (case, seeds) in &sum.declared {
        println!("  {} ended at a declared difference, {case}: {}", seeds.len(), list(seeds));
    }
    println!("  {} differed once, and not when played again {}", sum.unsteady.len(), list(&sum.unsteady));
}

fn list(seeds: &[u64]) -> String {
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}
