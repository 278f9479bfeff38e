//! Which policy applies, and what becomes of arguments and policies together.

use super::*;
use crate::broker::queue::{Overflow, QueueDefinition, QueueSettings};
use crate::message::{QueueId, ShortStr};

fn table(fields: &[(&str, Value)]) -> FieldTable {
    fields.iter().cloned().collect()
}

fn number(number: i64) -> Value {
    Value::I64(number)
}

fn fields(pattern: &str, definition: &[(&str, Value)]) -> FieldTable {
    table(&[("pattern", Value::from(pattern)), ("definition", Value::Table(table(definition)))])
}

fn policy(name: &str, priority: i64, definition: &[(&str, Value)]) -> Arc<Policy> {
    let mut fields = fields("^q", definition);
    fields.insert("priority", number(priority));
    Arc::new(Policy::read(name, &fields).unwrap())
}

#[test]
fn a_policy_is_read_again_from_its_own_fields() {
    let mut fields = fields("^(?!amq\\.)", &[("z", number(1)), ("expires", number(5))]);
    let Some(Value::Table(definition)) = fields.field("definition").cloned() else { panic!() };
    let mut definition = definition;
    definition.remove("z");
    fields.insert("definition", Value::Table(definition));
    fields.insert("priority", Value::F64(1.5));
    fields.insert("apply-to", Value::from("quorum_queues"));
    let policy = Policy::read("p", &fields).unwrap();
    assert_eq!(Policy::read("p", &policy.fields()).unwrap(), policy);
    assert_eq!(policy.apply_to, ApplyTo::QuorumQueues);
}

#[test]
fn the_highest_priority_that_fits_applies_alone() {
    let mut policies = Policies::default();
    let ttl = [("message-ttl", number(1))];
    policies.set(PolicyKind::Policy, policy("low", -1, &ttl));
    policies.set(PolicyKind::Policy, policy("b", 1, &ttl));
    policies.set(PolicyKind::Policy, policy("a", 1, &ttl));
    policies.set(PolicyKind::Policy, policy("classic only", 5, &[("queue-mode", Value::from("lazy"))]));
    policies.set(PolicyKind::Policy, policy("quorum only", 6, &[("delivery-limit", number(1))]));
    let applied = |policies: &Policies, target| {
        policies
            .applied_to(target, &mut GivenUp::default())
            .policy
            .map(|policy| policy.name.to_string())
            .unwrap_or_default()
    };
    assert_eq!(applied(&policies, Target::Queue("q", QueueType::Classic)), "classic only");
    assert_eq!(applied(&policies, Target::Queue("q", QueueType::Quorum)), "quorum only");
    assert_eq!(applied(&policies, Target::Exchange("q")), "quorum only");
    assert_eq!(applied(&policies, Target::Queue("other", QueueType::Classic)), "");
    for (gone, next) in [("classic only", "a"), ("a", "b"), ("b", "low"), ("low", "")] {
        assert!(policies.remove(PolicyKind::Policy, gone).is_some());
        assert_eq!(applied(&policies, Target::Queue("q", QueueType::Classic)), next, "without {gone}");
    }
}

#[test]
fn apply_to_tells_queues_from_exchanges_and_types_of_queues() {
    let classic = Target::Queue("q", QueueType::Classic);
    let quorum = Target::Queue("q", QueueType::Quorum);
    let exchange = Target::Exchange("q");
    for (word, expected) in [
        ("all", [true, true, true]),
        ("queues", [true, true, false]),
        ("classic_queues", [true, false, false]),
        ("quorum_queues", [false, true, false]),
        ("streams", [false, false, false]),
        ("exchanges", [false, false, true]),
    ] {
        let found = ApplyTo::named(word).unwrap();
        assert_eq!([classic, quorum, exchange].map(|target| found.fits(target)), expected, "{word}");
        assert_eq!(found.name(), word);
    }
}

#[test]
fn policy_and_operator_policy_become_one() {
    let applied = |policy: &[(&str, Value)], operator: &[(&str, Value)]| {
        let applied = Applied {
            policy: Some(self::policy("p", 0, policy)),
            operator_policy: Some(self::policy("o", 0, operator)),
        };
        let definition = applied.definition();
        definition
            .iter()
            .map(|(key, value)| {
                let number = value.as_integer().map(|number| number.to_string());
                let value = number.or_else(|| value.as_str().map(str::to_owned)).unwrap();
                format!("{key}={value}")
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    let text = |text: &str| Value::from(text);
    assert_eq!(
        applied(
            &[("max-length", number(2)), ("expires", number(9))],
            &[("max-length", number(4)), ("expires", number(5)), ("message-ttl", number(3))]
        ),
        "expires=5 max-length=2 message-ttl=3"
    );
    assert_eq!(
        applied(
            &[("overflow", text("drop-head")), ("queue-version", number(1))],
            &[("overflow", text("reject-publish")), ("queue-version", number(2))]
        ),
        "overflow=reject-publish queue-version=2"
    );
    for (own, theirs, merged) in [(5, 3, 3), (3, 5, 3), (-1, 3, 3), (3, -1, 3), (-1, -1, -1)] {
        assert_eq!(
            applied(&[("delivery-limit", number(own))], &[("delivery-limit", number(theirs))]),
            format!("delivery-limit={merged}")
        );
    }
}

fn queue(queue_type: QueueType, arguments: &[(&str, Value)], declared: QueueSettings) -> QueueDefinition {
    QueueDefinition {
        id: QueueId(1),
        vhost: "/".into(),
        name: "q".into(),
        durable: true,
        auto_delete: false,
        exclusive_owner: None,
        arguments: table(arguments).into(),
        queue_type,
        max_priority: None,
        single_active_consumer: false,
        segment_bytes: None,
        declared,
    }
}

#[test]
fn arguments_and_policy_become_one() {
    let declared = QueueSettings {
        message_ttl_ms: Some(50),
        max_length: Some(5),
        overflow: Overflow::RejectPublish,
        dead_letter_exchange: Some("x".into()),
        consumer_timeout_ms: Some(7),
        ..QueueSettings::default()
    };
    let arguments = [("x-overflow", Value::from("reject-publish"))];
    let policy = table(&[
        ("message-ttl", number(60)),
        ("max-length", number(4)),
        ("expires", number(1000)),
        ("overflow", Value::from("drop-head")),
        ("dead-letter-exchange", Value::from("y")),
        ("dead-letter-routing-key", Value::from("k")),
        ("consumer-timeout", number(0)),
    ]);
    let expected = QueueSettings {
        message_ttl_ms: Some(50),
        max_length: Some(4),
        expires_ms: Some(1000),
        overflow: Overflow::RejectPublish,
        dead_letter_exchange: Some("x".into()),
        dead_letter_routing_key: Some(ShortStr::from("k")),
        consumer_timeout_ms: Some(7),
        ..QueueSettings::default()
    };
    let classic = queue(QueueType::Classic, &arguments, declared.clone());
    assert_eq!(settings(&classic, &policy), expected);
    let quorum = queue(QueueType::Quorum, &arguments, declared.clone());
    assert_eq!(settings(&quorum, &policy), QueueSettings { overflow: Overflow::DropHead, ..expected });
    assert_eq!(settings(&quorum, &FieldTable::default()), declared);
}

#[test]
fn an_exchanges_argument_counts_before_the_policy() {
    let policy = table(&[("alternate-exchange", Value::from("b"))]);
    assert_eq!(alternate_exchange(Some("a".into()), &policy).as_deref(), Some("a"));
    assert_eq!(alternate_exchange(None, &policy).as_deref(), Some("b"));
    assert_eq!(alternate_exchange(None, &FieldTable::default()), None);
}

#[test]
fn patterns_that_can_not_tell_are_noted_and_not_all_tried() {
    let mut policies = Policies::default();
    for (number, pattern) in ["^(a+)(a+)(a+)\\3\\2\\1[0-9]?$"; 6].into_iter().chain(["a"]).enumerate() {
        let mut fields = fields(pattern, &[("max-length", number_value(number))]);
        fields.insert("priority", self::number(9 - number as i64));
        let policy = Policy::read(&format!("p{number}"), &fields).unwrap();
        policies.set(PolicyKind::Policy, Arc::new(policy.clone()));
        if number == 6 {
            policies.set(PolicyKind::Operator, Arc::new(policy));
        }
    }
    let mut given_up = GivenUp::default();
    let names = ["b", "x", "y"].map(|end| "a".repeat(200) + end);
    let (_, steps) = crate::steps::of(|| {
        for name in &names {
            let applied = policies.applied_to(Target::Queue(name, QueueType::Classic), &mut given_up);
            assert!(applied.policy.is_none() && applied.operator_policy.is_some());
        }
    });
    assert!(steps < 3 * 4 * 100_000, "{steps} steps for three names");
    let (name, rest) =
        (&names[0], "in vhost 'v' is not applied where its pattern takes too many steps: to queue");
    assert_eq!(
        given_up.lines(&"v".into()),
        [
            format!(
                "too many patterns of vhost 'v' take too many steps, so each further policy is not applied to queue '{name}' and \
                 2 others; simplify the pattern"
            ),
            format!("policy 'p0' {rest} '{name}' and 2 others; simplify the pattern"),
            format!("policy 'p1' {rest} '{name}' and 2 others; simplify the pattern"),
        ]
    );
    // Another name is none of their business.
    let applied = policies.applied_to(Target::Exchange("a"), &mut given_up);
    assert_eq!(applied.policy.map(|policy| policy.name.to_string()).as_deref(), Some("p6"));
}

fn number_value(number: usize) -> Value {
    Value::I64(number as i64)
}
