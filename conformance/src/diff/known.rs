//! Which differences of random runs are declared: the `random` sections of `differences.toml`. Called by [`super`].

use super::observe::Observation;
use crate::case::Broker;
use crate::differences::Random;
use crate::names::fits;

/// What one broker sent and the other did not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Lines that only the left one's observation has.
    pub left: Vec<String>,
    /// Lines that only the right one's has.
    pub right: Vec<String>,
}

impl Difference {
    /// Compares two observations; `None` if they are the same.
    pub fn between(left: &Observation, right: &Observation) -> Option<Self> {
        if (&left.lines, &left.counts) == (&right.lines, &right.counts) {
            return None;
        }
        let all = |side: &Observation| side.lines.iter().chain(&side.counts).cloned().collect::<Vec<_>>();
        let (all_left, all_right) = (all(left), all(right));
        let left = without(&all_left, &all_right);
        let right = without(&all_right, &all_left);
        if left.is_empty() && right.is_empty() {
            // The same lines in another order.
            return Some(Self { left: all_left, right: all_right });
        }
        Some(Self { left, right })
    }

    /// Whether this shows nothing but what `other` shows too: the same methods and codes.
    pub(crate) fn is_part_of(&self, other: &Self) -> bool {
        let all = |lines: &[String], of: &[String]| {
            let of: Vec<String> = of.iter().map(|line| kind(line)).collect();
            lines.iter().all(|line| of.contains(&kind(line)))
        };
        all(&self.left, &other.left) && all(&self.right, &other.right)
    }

    /// The declared difference that this is, if it is one. `done` are the lines of the script so far.
    pub(crate) fn declared<'d>(
        &self,
        brokers: [Option<Broker>; 2],
        done: &[String],
        declared: &'d [Random],
    ) -> Option<&'d Random> {
        let (version, rabbitmq, leveret) = match brokers {
            [Some(version), Some(Broker::Leveret)] if version.is_rabbitmq() => {
                (version, &self.left, &self.right)
            }
            [Some(Broker::Leveret), Some(version)] if version.is_rabbitmq() => {
                (version, &self.right, &self.left)
            }
            _ => return None,
        };
        let one_of =
            |globs: &[String], line: &String| globs.iter().any(|glob| fits(glob.as_bytes(), line.as_bytes()));
        declared.iter().filter(|random| random.is_for(version)).find(|random| {
            rabbitmq.iter().chain(leveret).any(|line| fits(random.sign.as_bytes(), line.as_bytes()))
                && rabbitmq.iter().all(|line| one_of(&random.rabbitmq, line))
                && leveret.iter().all(|line| one_of(&random.leveret, line))
                && random
                    .after
                    .iter()
                    .all(|glob| done.iter().any(|line| fits(glob.as_bytes(), line.as_bytes())))
        })
    }
}

/// What a line is about: the method, and the code if it is a close; counts of queues are all alike.
fn kind(line: &str) -> String {
    let (_, words) = line.split_once("< ").unwrap_or(("", "count"));
    let close = words.contains(".close ");
    words.split(' ').take(if close { 3 } else { 1 }).collect::<Vec<_>>().join(" ")
}

/// The lines of `from` that `other` has not, each as often as it has it more often.
fn without(from: &[String], other: &[String]) -> Vec<String> {
    let mut other: Vec<&String> = other.iter().collect();
    let stays = |line: &&String| match other.iter().position(|there| there == line) {
        Some(at) => {
            other.swap_remove(at);
            false
        }
        None => true,
    };
    from.iter().filter(stays).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_difference_is_declared_by_its_sign_and_nothing_beside_it() {
        let declared = Random {
            case: "a/case".into(),
            only: Some("rabbitmq3".into()),
            sign: "*< connection.close 503 *".into(),
            rabbitmq: texts(&["*< connection.close 503 *", "queue *"]),
            leveret: texts(&["*< channel.close 406 *", "queue *"]),
            after: texts(&["*> exchange.declare *"]),
            headers: Vec::new(),
        };
        let is_declared_for = |version: Broker, left: &[&str], right: &[&str], done: &str| {
            let difference = Difference { left: texts(left), right: texts(right) };
            let brokers = [Some(version), Some(Broker::Leveret)];
            difference.declared(brokers, &texts(&[done]), std::slice::from_ref(&declared)).is_some()
        };
        let is_declared =
            |left: &[&str], right: &[&str], done: &str| is_declared_for(Broker::RabbitMq3, left, right, done);
        let (closed, refused) = ("c< connection.close 503 40.10", "c1< channel.close 406 40.10");
        let done = "c1> exchange.declare exchange=x type=what";
        assert!(is_declared(&[closed, "queue q: 404"], &[refused, "queue q: 0 ready"], done));
        assert!(
            !is_declared(&["queue q: 404"], &["queue q: 0 ready"], done),
            "nothing shows that it is this one"
        );
        assert!(!is_declared(&[closed], &[refused, "b1< basic.deliver"], done), "a line that does not fit");
        assert!(!is_declared(&[closed], &[refused], "c1> queue.declare"), "nothing was done that brings it");
        assert!(
            !is_declared_for(Broker::RabbitMq4, &[closed], &[refused], done),
            "it is declared for the other version"
        );
    }
}
