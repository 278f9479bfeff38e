//! `topic`: binding keys are patterns of words between dots, where `*` stands for one word and `#` for any number of them.
//!
//! The patterns form a trie, a word for each edge. A key walks down it a word at a time, at all places at once where it can be:
//! each place is held at most once for each word, so that many `#` cost no more than their number. Bindings whose words
//! differ from the key's are never seen.

use super::binding::Binding;
use super::binding_set::BindingSet;
use super::key_hash::KeyMap;
use super::types::{Envelope, ExchangeType, Matches};
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

/// The index of a topic exchange.
#[derive(Debug)]
pub struct Topic {
    nodes: Vec<Node>,
    /// Nodes that hold nothing and may be used again.
    free: Vec<NodeId>,
}

/// A node's place in [`Topic::nodes`].
type NodeId = u32;

/// The beginning of every pattern.
const ROOT: NodeId = 0;

/// The place in the trie that some words of a pattern lead to.
#[derive(Debug, Default)]
struct Node {
    words: KeyMap<Box<[u8]>, NodeId>,
    star: Option<NodeId>,
    hash: Option<NodeId>,
    /// Whether `#` is among the words that lead here. Only then can the walk come to this node at several words.
    behind_hash: bool,
    /// Those whose pattern ends here.
    bindings: BindingSet,
}

impl Node {
    fn is_unused(&self) -> bool {
        self.bindings.is_empty() && self.words.is_empty() && self.star.is_none() && self.hash.is_none()
    }

    fn child(&self, word: &[u8]) -> Option<NodeId> {
        match word {
            b"*" => self.star,
            b"#" => self.hash,
            word => self.words.get(word).copied(),
        }
    }
}

/// Where the walk of one key is. Kept for the next key, for its memory.
#[derive(Debug, Default)]
struct Walk {
    /// Nodes that the words so far lead to.
    at: Vec<NodeId>,
    /// What `at` was one word ago.
    before: Vec<NodeId>,
    /// Nodes behind a `#` that the words so far lead to. They stay until the end, since `#` takes every further word.
    open: Vec<NodeId>,
    /// The part of `open` that can be reached again.
    reopened: HashSet<NodeId>,
}

thread_local! {
    static WALK: RefCell<Walk> = RefCell::default();
}

impl Default for Topic {
    fn default() -> Topic {
        Topic { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl Topic {
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// The node behind `word`, made if it is not there yet.
    fn grow(&mut self, parent: NodeId, word: &[u8]) -> NodeId {
        if let Some(child) = self.node(parent).child(word) {
            return child;
        }
        let behind_hash = word == b"#" || self.node(parent).behind_hash;
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            NodeId::try_from(self.nodes.len() - 1).expect("memory ends before four billion nodes")
        });
        self.node_mut(child).behind_hash = behind_hash;
        let parent = self.node_mut(parent);
        match word {
            b"*" => parent.star = Some(child),
            b"#" => parent.hash = Some(child),
            word => _ = parent.words.insert(word.into(), child),
        }
        child
    }

    /// Takes out a node that holds nothing.
    fn prune(&mut self, parent: NodeId, word: &[u8], child: NodeId) {
        let parent = self.node_mut(parent);
        match word {
            b"*" => parent.star = None,
            b"#" => parent.hash = None,
            word => _ = parent.words.remove(word),
        }
        *self.node_mut(child) = Node::default();
        self.free.push(child);
    }

    /// Comes to a node, and past every `#` behind it that takes no word.
    fn enter(&self, id: NodeId, walk: &mut Walk) {
        walk.at.push(id);
        let mut node = self.node(id);
        while let Some(hash) = node.hash {
            if node.behind_hash && !walk.reopened.insert(hash) {
                break;
            }
            walk.open.push(hash);
            node = self.node(hash);
        }
    }

    /// Goes on by a word, and says at how many nodes it looked.
    fn step(&self, word: &[u8], walk: &mut Walk) -> usize {
        std::mem::swap(&mut walk.at, &mut walk.before);
        walk.at.clear();
        let open_before = walk.open.len();
        let places = open_before + walk.before.len();
        for place in 0..places {
            let id = if place < open_before { walk.open[place] } else { walk.before[place - open_before] };
            let node = self.node(id);
            if let Some(child) = node.words.get(word) {
                self.enter(*child, walk);
            }
            if let Some(star) = node.star {
                self.enter(star, walk);
            }
        }
        places
    }
}

/// The words of a key or pattern. The empty one has none, as in RabbitMQ: `*` doesn't match it.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let count = if key.is_empty() { 0 } else { usize::MAX };
    key.split(|byte| *byte == b'.').take(count)
}

/// The words of a pattern. Where wildcards stand side by side, `*` comes first and `#` once, which means the same: so patterns
/// that do not differ lie at the same node, and a key is at few of them.
fn pattern(key: &[u8]) -> Vec<&[u8]> {
    let mut normal: Vec<&[u8]> = Vec::new();
    for word in words(key) {
        match (normal.last(), word) {
            (Some(&b"#"), b"#") => {}
            (Some(&b"#"), b"*") => normal.insert(normal.len() - 1, word),
            _ => normal.push(word),
        }
    }
    normal
}

impl ExchangeType for Topic {
    fn bind(&mut self, binding: &Arc<Binding>) {
        let pattern = pattern(binding.routing_key.as_bytes());
        let end = pattern.into_iter().fold(ROOT, |node, word| self.grow(node, word));
        self.node_mut(end).bindings.insert(binding, ());
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        let mut path = Vec::new();
        let mut end = ROOT;
        for word in pattern(binding.routing_key.as_bytes()) {
            let Some(child) = self.node(end).child(word) else { return };
            path.push((end, word, child));
            end = child;
        }
        self.node_mut(end).bindings.remove(binding);
        for (parent, word, child) in path.into_iter().rev() {
            if !self.node(child).is_unused() {
                break;
            }
            self.prune(parent, word, child);
        }
        if self.node(ROOT).is_unused() {
            *self = Topic::default();
        }
    }

    fn route<'a>(&'a self, envelope: &Envelope<'_>, matches: &mut Matches<'a>) {
        WALK.with_borrow_mut(|walk| {
            walk.at.clear();
            walk.open.clear();
            walk.reopened.clear();
            self.enter(ROOT, walk);
            let mut work = 0;
            for word in words(envelope.routing_key) {
                work += self.step(word, walk);
                if walk.at.is_empty() && walk.open.is_empty() {
                    break;
                }
            }
            matches.count_work(work);
            for id in walk.open.iter().chain(&walk.at) {
                matches.push_all(&self.node(*id).bindings);
            }
        });
    }

    fn routes_by_key_alone(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Numbers, binding, binding_with, queue, routed};
    use super::*;
    use crate::message::Value;

    /// An exchange where each pattern is bound to a queue of the same name.
    fn bound(patterns: &[&str]) -> Topic {
        let mut exchange = Topic::default();
        patterns.iter().for_each(|pattern| exchange.bind(&binding(pattern, pattern)));
        exchange
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_any_number() {
        let patterns = ["stock.usd.nyse", "stock.*.nyse", "stock.#", "*.usd.*", "#.nyse", "*", "stock"];
        let exchange = bound(&patterns);
        let examples: &[(&str, &[&str])] = &[
            ("stock.usd.nyse", &["#.nyse", "*.usd.*", "stock.#", "stock.*.nyse", "stock.usd.nyse"]),
            ("stock.eur.nyse", &["#.nyse", "stock.#", "stock.*.nyse"]),
            ("stock.usd", &["stock.#"]),
            ("stock", &["*", "stock", "stock.#"]),
            ("nyse", &["#.nyse", "*"]),
            ("bond.usd.db", &["*.usd.*"]),
            ("bond.usd", &[]),
            ("Stock", &["*"]),
        ];
        for (key, queues) in examples {
            assert_eq!(routed(&exchange, key), *queues, "{key}");
        }
    }

    /// What RabbitMQ 3.10.8 was seen to do.
    #[test]
    fn empty_words_are_words_but_an_empty_key_has_none() {
        let patterns = ["#", "*", "", ".", "*.*", "#.#", "*.#", "a.#", "#.a", "a.*", "a", ".a", "*.a", ".."];
        let exchange = bound(&patterns);
        let examples: &[(&str, &[&str])] = &[
            ("", &["#", "", "#.#"]),
            (".", &["#", ".", "*.*", "#.#", "*.#"]),
            ("a", &["#", "*", "#.#", "*.#", "a.#", "#.a", "a"]),
            ("a.", &["#", "*.*", "#.#", "*.#", "a.#", "a.*"]),
            (".a", &["#", "*.*", "#.#", "*.#", "#.a", ".a", "*.a"]),
            ("a.a", &["#", "*.*", "#.#", "*.#", "a.#", "#.a", "a.*", "*.a"]),
            ("..", &["#", "#.#", "*.#", ".."]),
        ];
        for (key, queues) in examples {
            let mut queues = queues.to_vec();
            queues.sort();
            assert_eq!(routed(&exchange, key), queues, "{key:?}");
        }
    }

    #[test]
    fn keys_are_bytes_and_may_hold_wildcards() {
        let exchange = bound(&["*.b", "#", "a*.#b"]);
        assert_eq!(routed(&exchange, b"\xff\xfe.b"), ["#", "*.b"]);
        assert_eq!(routed(&exchange, "*.b"), ["#", "*.b"]);
        assert_eq!(routed(&exchange, "#"), ["#"]);
        assert_eq!(routed(&exchange, "a*.#b"), ["#", "a*.#b"]);
        assert_eq!(routed(&exchange, "ax.yb"), ["#"]);
    }

    /// The rules in their plainest form.
    fn naive(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
        match (pattern, key) {
            ([], _) => key.is_empty(),
            ([b"#", rest @ ..], _) => (0..=key.len()).any(|taken| naive(rest, &key[taken..])),
            ([word, rest @ ..], [first, after @ ..]) => {
                (*word == b"*" || word == first) && naive(rest, after)
            }
            (_, []) => false,
        }
    }

    fn generated(numbers: &mut Numbers, alphabet: &[&str], words_max: usize) -> String {
        let count = numbers.below(words_max + 1);
        (0..count).map(|_| alphabet[numbers.below(alphabet.len())]).collect::<Vec<_>>().join(".")
    }

    #[test]
    fn routes_as_the_plain_rules_say_while_bindings_come_and_go() {
        for seed in 0..40 {
            let mut numbers = Numbers(seed);
            let mut exchange = Topic::default();
            let mut bound: Vec<Arc<Binding>> = Vec::new();
            for step in 0..150 {
                if numbers.below(3) == 0 && !bound.is_empty() {
                    let gone = bound.swap_remove(numbers.below(bound.len()));
                    exchange.unbind(&gone);
                } else {
                    let pattern = generated(&mut numbers, &["a", "b", "", "*", "#", "#"], 6);
                    let new = binding(&format!("q{step}"), &pattern);
                    exchange.bind(&new);
                    bound.push(new);
                }
                let key = generated(&mut numbers, &["a", "b", "", "c"], 7);
                let key_words: Vec<_> = words(key.as_bytes()).collect();
                let is_match = |binding: &&Arc<Binding>| {
                    naive(&words(binding.routing_key.as_bytes()).collect::<Vec<_>>(), &key_words)
                };
                let mut expected: Vec<_> = bound.iter().filter(is_match).map(queue).collect();
                expected.sort();
                assert_eq!(routed(&exchange, &key), expected, "seed {seed}, key {key:?}");
            }
            bound.iter().for_each(|binding| exchange.unbind(binding));
            assert_eq!((exchange.nodes.len(), exchange.free.len()), (1, 0));
            assert!(exchange.node(ROOT).is_unused());
        }
    }

    #[test]
    fn many_hashes_cost_no_more_than_their_number() {
        let pattern = "#.a.".repeat(60) + "#.b";
        let exchange = bound(&[&pattern]);
        let key = "a.".repeat(120) + "c";
        assert!(routed(&exchange, &key).is_empty());
        assert_eq!(routed(&exchange, "a.".repeat(120) + "b"), [pattern]);
    }

    #[test]
    fn unbinding_takes_out_that_binding_alone_and_its_nodes() {
        let mut exchange = bound(&["a.b"]);
        let first = binding("a.b.c", "a.b.c");
        exchange.bind(&first);
        let same = [
            binding("q", "a.b.c"),
            binding_with("q", "a.b.c", &[("n", Value::I32(1))]),
            binding("q", "a.#.*"),
        ];
        same.iter().for_each(|binding| exchange.bind(binding));
        let used = |exchange: &Topic| exchange.nodes.len() - exchange.free.len();
        assert_eq!((routed(&exchange, "a.b.c").len(), used(&exchange)), (4, 6));
        exchange.unbind(&same[1]);
        exchange.unbind(&same[2]);
        exchange.unbind(&same[2]);
        exchange.unbind(&binding("q", "a.b.c.d"));
        assert_eq!((routed(&exchange, "a.b.c"), used(&exchange)), (vec!["a.b.c".into(), "q".into()], 4));
        exchange.unbind(&first);
        exchange.unbind(&same[0]);
        assert_eq!((routed(&exchange, "a.b"), used(&exchange)), (vec!["a.b".into()], 3));
    }

    #[test]
    fn wildcards_side_by_side_are_one_pattern() {
        let exchange = bound(&["#.#.#", "#.*", "*.#.#", "a.#.*.#.b", "a.*.#.b"]);
        assert_eq!(exchange.nodes.len(), 1 + 1 + 2 + 4);
        assert_eq!(routed(&exchange, "a.b"), ["#.#.#", "#.*", "*.#.#"]);
        assert_eq!(routed(&exchange, "a.x.b").len(), 5);
        // All patterns of twelve wildcards are thirteen by the number of stars, or come to a few more nodes.
        let patterns: Vec<String> = (0..4096u32)
            .map(|n| {
                (0..12).map(|bit| if n >> bit & 1 == 0 { "*" } else { "#" }).collect::<Vec<_>>().join(".")
            })
            .collect();
        let exchange = bound(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
        let (routed, steps) = crate::steps::of(|| routed(&exchange, "a.".repeat(100) + "a"));
        assert_eq!(routed.len(), 4095);
        assert!(steps < 4000, "{steps} steps for a key of 101 words");
    }
}
