//! Drives two brokers with the same random steps and compares all that can be seen of them. What differs is shrunk to a
//! short script. Used by the command `diff`, and by a broker's own tests on brokers in memory.
//!
//! `generate` makes steps up, lines in the language of cases, from a `plan`. A `side` does them on one broker and waits
//! until that is quiet; [`observe`] makes what came comparable, [`known`] tells what is declared, `shrink` makes it short.

mod generate;
pub mod known;
pub mod observe;
mod plan;
mod random;
mod script;
mod shrink;
mod side;

use crate::case::Broker;
use crate::differences::Random;
use crate::run::Options;
use crate::transport::Transport;
use generate::Generator;
use known::Difference;
use observe::{ComparedHeaders, Observation};
use side::Side;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One line or a few, done together: what they bring is compared when all is quiet again.
pub type Step = Vec<String>;

/// How to reach one of the brokers.
pub struct Target<'t> {
    /// Makes a transport that is used for one run.
    pub connect: Box<dyn Fn() -> Box<dyn Transport> + Sync + 't>,
    /// Whom to be.
    pub options: Options,
    /// Changes what this broker is seen to do: for tests of the comparison itself.
    pub alter: Option<fn(&mut Observation)>,
}

/// Two brokers, and what is declared of them.
pub struct Differ<'t> {
    /// One of the two.
    pub left: Target<'t>,
    /// The other.
    pub right: Target<'t>,
    /// How declared differences show.
    pub declared: Vec<Random>,
    /// How long to listen for more when a broker seems quiet; a difference must show with ten times that too.
    pub pause: Duration,
}

/// How a seed ended.
#[derive(Debug)]
pub enum End {
    /// Nothing differed in that many steps.
    Same(usize),
    /// What is declared for this case differed, after that many steps.
    Declared(usize, String),
    /// Something differed, but not again: time was too short for a broker.
    Unsteady(usize),
    /// Something differs.
    Different(Box<Finding>),
}

/// Something that differs, and how to see it.
#[derive(Debug)]
pub struct Finding {
    /// The shortest script found that shows it.
    pub script: Vec<Step>,
    /// What differs in its last step.
    pub difference: Difference,
    /// The script with what came, as a case.
    pub text: String,
}

/// How a script went.
struct Played {
    done: Vec<Step>,
    left: Vec<Observation>,
    difference: Option<Difference>,
    declared: Option<String>,
}

/// Makes every run's names unique.
static RUNS: AtomicUsize = AtomicUsize::new(0);

impl Differ<'_> {
    /// Plays a number of steps of a seed. An error if a broker can't be reached.
    /// Seeds in which every step lets time pass have a third of the steps.
    pub fn seed(&self, seed: u64, steps: usize) -> Result<End, String> {
        let mut generator = Generator::new(seed);
        let mut left = if generator.has_clock() { steps / 3 } else { steps };
        let played = self.play(self.pause, |last| {
            if let Some(observation) = last {
                generator.learn(observation);
            }
            left = left.checked_sub(1)?;
            Some(generator.next_step())
        })?;
        let done = played.done.len();
        match (played.difference, played.declared) {
            (None, _) => Ok(End::Same(done)),
            (_, Some(case)) => Ok(End::Declared(done, case)),
            _ => match self.confirmed(&played.done)? {
                None => Ok(End::Unsteady(done)),
                Some((script, difference)) => self.explain(&self.shrink(script, &difference)?),
            },
        }
    }

    /// The script up to where it differs, and how, if it does so whenever it is played patiently.
    fn confirmed(&self, script: &[Step]) -> Result<Option<(Vec<Step>, Difference)>, String> {
        let once = self.play(self.pause * 10, from(script))?;
        let twice = self.play(self.pause * 10, from(&once.done))?;
        let steady = once.difference.is_some() && once.declared.is_none() && twice.declared.is_none();
        Ok(twice.difference.filter(|_| steady).map(|difference| (twice.done, difference)))
    }

    fn explain(&self, script: &[Step]) -> Result<End, String> {
        let played = self.play(self.pause * 10, from(script))?;
        let Some(difference) = played.difference else { return Ok(End::Unsteady(script.len())) };
        let text = script::text(&played.done, &played.left, &difference, self.names()?);
        Ok(End::Different(Box::new(Finding { script: played.done, difference, text })))
    }

    /// What the brokers are called in a script.
    fn names(&self) -> Result<[&'static str; 2], String> {
        let kind = |target: &Target<'_>| -> Result<_, String> {
            let mut transport = (target.connect)();
            let mut side = Side::new(transport.as_mut(), &target.options, Duration::ZERO)?;
            let broker = side.broker();
            side.clean_up();
            Ok(broker)
        };
        Ok(match [kind(&self.left)?, kind(&self.right)?] {
            [Some(left), Some(right)] if left != right => [left.name(), right.name()],
            _ => ["left", "right"],
        })
    }

    /// Plays steps on new connections until they differ or there are no more; `next` is given what the left one did last.
    fn play(
        &self,
        pause: Duration,
        mut next: impl FnMut(Option<&Observation>) -> Option<Step>,
    ) -> Result<Played, String> {
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let options = |target: &Target<'_>, side: char| Options {
            run: format!("{}{side}{run:06}", std::process::id()),
            ..target.options.clone()
        };
        let (left_options, right_options) = (options(&self.left, 'l'), options(&self.right, 'r'));
        let (mut left_transport, mut right_transport) = ((self.left.connect)(), (self.right.connect)());
        let mut left = Side::new(left_transport.as_mut(), &left_options, pause)?;
        let mut right = Side::new(right_transport.as_mut(), &right_options, pause)?;
        let brokers = [left.broker(), right.broker()];
        if brokers[0] != brokers[1] {
            let headers = ComparedHeaders {
                ignored: self.declared.iter().flat_map(|random| random.headers.clone()).collect(),
                are_sorted: brokers.contains(&Some(Broker::RabbitMq4)),
            };
            left.compare_headers(&headers);
            right.compare_headers(&headers);
        }
        let mut played = Played { done: Vec::new(), left: Vec::new(), difference: None, declared: None };
        while let Some(step) = next(played.left.last()) {
            let mut observed = both(&mut left, &mut right, &step)?;
            for (observation, target) in observed.iter_mut().zip([&self.left, &self.right]) {
                if let Some(alter) = target.alter {
                    alter(observation);
                }
            }
            played.done.push(step);
            played.difference = Difference::between(&observed[0], &observed[1]);
            let [observation, _] = observed;
            played.left.push(observation);
            if let Some(difference) = &played.difference {
                let declared = difference.declared(brokers, &played.done.concat(), &self.declared);
                played.declared = declared.map(|random| random.case.clone());
                break;
            }
        }
        left.clean_up();
        right.clean_up();
        Ok(played)
    }
}

/// A step on both brokers at the same time.
fn both(left: &mut Side<'_>, right: &mut Side<'_>, step: &Step) -> Result<[Observation; 2], String> {
    std::thread::scope(|scope| {
        let left = scope.spawn(|| left.step(step));
        let right = right.step(step);
        Ok([left.join().map_err(|_| "a run panicked".to_string())?, right])
    })
}

/// The steps of a script, one after the other.
fn from(script: &[Step]) -> impl FnMut(Option<&Observation>) -> Option<Step> {
    let mut steps = script.iter();
    move |_| steps.next().cloned()
}
