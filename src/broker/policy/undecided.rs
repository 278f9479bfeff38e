//! Policies whose patterns took too many steps to decide on a name: logged once for many names.

use super::{PolicyKind, Target};
use crate::broker::error::ResourceKind;
use crate::message::Name;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The names that could not be decided while policies were matched.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// By kind and policy; without a name those that were not tried any more.
    by_policy: BTreeMap<(PolicyKind, Option<Name>), Names>,
}

/// The names it was about.
#[derive(Debug)]
struct Names {
    first: (ResourceKind, String),
    others: usize,
}

impl GivenUp {
    /// A policy's pattern was given up for that object.
    pub(super) fn note(&mut self, kind: PolicyKind, policy: &Name, target: Target<'_>) {
        self.add((kind, Some(policy.clone())), target);
    }

    /// Too many were: those behind them were not tried.
    pub(super) fn note_rest(&mut self, kind: PolicyKind, target: Target<'_>) {
        self.add((kind, None), target);
    }

    fn add(&mut self, key: (PolicyKind, Option<Name>), target: Target<'_>) {
        let first = || Names { first: (target.kind(), target.name().to_owned()), others: 0 };
        self.by_policy.entry(key).and_modify(|names| names.others += 1).or_insert_with(first);
    }

    /// A line for each policy.
    pub(super) fn lines(&self, vhost: &Name) -> Vec<String> {
        let line = |((kind, policy), names): (&(PolicyKind, Option<Name>), &Names)| {
            let kind = match kind {
                PolicyKind::Policy => "policy",
                PolicyKind::Operator => "operator policy",
            };
            let mut line = match policy {
                Some(policy) => format!(
                    "{kind} '{policy}' in vhost '{vhost}' is not applied where its pattern takes too many steps: to"
                ),
                None => format!(
                    "too many patterns of vhost '{vhost}' take too many steps, so each further {kind} is not applied to"
                ),
            };
            let (what, name) = &names.first;
            let _ = write!(line, " {what} '{name}'");
            match names.others {
                0 => {}
                others => _ = write!(line, " and {others} others"),
            }
            line + "; simplify the pattern"
        };
        self.by_policy.iter().map(line).collect()
    }

    /// Logs what could not be decided.
    pub(super) fn tell(&self, vhost: &Name) {
        self.lines(vhost).iter().for_each(|line| tracing::warn!("{line}"));
    }
}
