//! `leveret apply`: makes a running broker match a file. What the file has and the broker has not is made, what differs is
//! changed, and with `--prune` what the file has not is deleted. No step loses a message: those of a queue that has to be
//! declared anew are kept, and a queue that holds some is not deleted for good, which the plan says.

mod act;
mod current;
mod keep;
mod plan;
mod thing;
mod wanted;

use super::client::Client;
use super::target::Connect;
use super::{About, Failure};
use clap::Args;
use leveret::api::WhoAmI;
use leveret::broker::exchange::ExchangeTypes;
use leveret::config::Config;
use plan::{Plan, Scope};
use std::io::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  leveret apply leveret.toml --dry-run
  leveret apply leveret.toml
  leveret apply leveret.toml --prune

It takes vhosts, users, permissions, policies, exchanges, queues and bindings from the file; settings such as listeners need a \
restart. Users and vhosts are only deleted if the file lists some, and the user who asks never is. A queue that holds messages \
is not deleted: that is told, and it ends with 1. One that has to be declared anew keeps its messages and bindings: the messages \
wait in a queue whose name ends with .leveret-apply, and applying the file again finishes what was interrupted. It must have no \
consumers. What is published to a queue or an exchange in the moment in which it is declared anew reaches nobody, or is returned; \
what comes right after it may stand before what was kept, whose time to live begins anew.";

/// Makes a running broker match a configuration file, and shows how
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Apply {
    /// The configuration
    file: PathBuf,
    /// Only says what would be done
    #[arg(long)]
    dry_run: bool,
    /// Also deletes what the file does not have
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Does what was typed.
pub(super) fn run(apply: &Apply, out: &mut dyn Write) -> Result<(), Failure> {
    let config =
        Config::load(Some(&apply.file), None).map_err(|errors| Failure::State(errors.to_string()))?;
    let faults = leveret::server::check(&config, &ExchangeTypes::standard());
    if let Some(fault) = faults.first() {
        return Err(Failure::State(fault.to_string()));
    }
    let what = || format!("{} was not applied", apply.file.display());
    let mut client = Client::new(&apply.connect).about(what)?;
    let wanted = wanted::things(&config);
    let current = current::things(&mut client).about(what)?;
    let me: WhoAmI = client.get("/api/whoami").about(what)?;
    let scope = Scope::of(&config, apply.prune, me.name.to_string());
    let plan = Plan::new(&wanted, &current, &scope);
    if plan.steps.is_empty() {
        return Ok(writeln!(out, "the broker matches {}, there is nothing to do", apply.file.display())?);
    }
    for step in &plan.steps {
        writeln!(out, "{step}")?;
    }
    writeln!(out, "{}", plan.summary(apply.dry_run))?;
    if !apply.dry_run {
        act::perform(&mut client, &plan, &current)?;
        writeln!(out, "done")?;
    }
    match plan.steps.iter().filter(|step| step.blocked.is_some()).count() {
        0 => Ok(()),
        blocked => Err(Failure::State(format!("{blocked} of these steps can't be done, see !"))),
    }
}
