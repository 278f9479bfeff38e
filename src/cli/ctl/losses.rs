//! What was lost of what the store kept.

use super::super::client::Client;
use super::super::output::printable;
use super::super::path::path;
use super::super::{About, Failure};
use clap::Args;
use leveret::api::Loss;
use std::io::Write;

/// Says what was lost of what the broker kept on its disk, or acknowledges it
#[derive(Args, Debug)]
#[command(after_help = "\
What is lost is found when a broker starts. It is reported by `leveret ctl status`, the health check `losses`, the metric \
leveret_losses and here, over all starts, until it is acknowledged.")]
pub(super) struct Losses {
    /// Acknowledges all of it: it is not reported any more
    #[arg(long)]
    acknowledge: bool,
}

impl Losses {
    pub(super) fn run(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let failed = || "the losses can't be told".to_owned();
        let losses: Vec<Loss> = client.get(&path(&["losses"])).about(failed)?;
        if losses.is_empty() {
            return Ok(writeln!(out, "nothing is lost that is not acknowledged")?);
        }
        for loss in &losses {
            writeln!(out, "{}  {}", printable(&loss.found_at), printable(&loss.text))?;
        }
        if self.acknowledge {
            client.delete(&path(&["losses"])).about(|| "the losses are not acknowledged".to_owned())?;
            let are = if losses.len() == 1 { "loss is" } else { "losses are" };
            writeln!(out, "{} {are} acknowledged", losses.len())?;
        }
        Ok(())
    }
}
