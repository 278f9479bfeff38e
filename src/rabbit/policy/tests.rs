//! What is accepted and what is refused, in RabbitMQ's words.

use super::*;

fn table(fields: &[(&str, Value)]) -> FieldTable {
    fields.iter().cloned().collect()
}

fn number(number: i64) -> Value {
    Value::I64(number)
}

fn fields(pattern: &str, definition: &[(&str, Value)]) -> FieldTable {
    table(&[("pattern", Value::from(pattern)), ("definition", Value::Table(table(definition)))])
}

fn refusal(kind: PolicyKind, fields: &FieldTable) -> String {
    match parse(kind, "p", fields) {
        Ok(_) => "accepted".to_owned(),
        Err(BrokerError::ValidationFailed(text)) => text,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn every_key_takes_its_values_and_refuses_others_in_rabbitmqs_words() {
    let text = |text: &str| Value::from(text);
    let list = Value::Array(vec![number(1), number(2)]);
    let examples: &[(&str, Value, Value, &str)] = &[
        ("message-ttl", number(0), number(-1), "-1 is not a valid message TTL"),
        ("message-ttl", number(5), list, "[1,2] is not a valid message TTL"),
        ("message-ttl", number(5), Value::F64(1.5), "1.5 is not a valid message TTL"),
        ("message-ttl", number(5), Value::Void, "null is not a valid message TTL"),
        ("expires", number(1), number(0), "0 is not a valid queue expiry"),
        ("max-length", number(0), text("x"), "<<\"x\">> is not a valid maximum length"),
        ("max-length-bytes", number(0), number(-1), "-1 is not a valid maximum length in bytes"),
        ("max-in-memory-length", number(3), number(-3), "-3 is not a valid maximum memory in bytes"),
        ("overflow", text("reject-publish-dlx"), text("foo"), "<<\"foo\">> is not a valid overflow value"),
        ("dead-letter-exchange", text(""), number(5), "5 is not a valid dead letter exchange name"),
        ("dead-letter-routing-key", text("x"), number(5), "5 is not a valid dead letter routing key"),
        (
            "dead-letter-strategy",
            text("at-least-once"),
            text("x"),
            "<<\"x\">> is not a valid dead letter strategy",
        ),
        ("delivery-limit", number(5), text("x"), "<<\"x\">> is not a valid delivery limit"),
        ("consumer-timeout", number(0), text("x"), "<<\"x\">> is not a valid consumer timeout"),
        ("alternate-exchange", text("x"), number(5), "5 is not a valid alternate exchange name"),
        ("queue-mode", text("lazy"), text("foo"), "<<\"foo\">> is not a valid queue-mode value"),
        ("queue-version", number(2), number(3), "3 is not a valid queue-version value"),
        (
            "queue-master-locator",
            text("min-masters"),
            text("x"),
            "<<\"x\">> invalid queue-master-locator value",
        ),
        (
            "queue-leader-locator",
            text("balanced"),
            text("x"),
            "<<\"x\">> is not a valid queue leader locator value",
        ),
        ("max-age", text("5D"), text("1D2h"), "<<\"1D2h\">> is not a valid max age"),
        (
            "stream-max-segment-size-bytes",
            number(5),
            number(3_000_000_001),
            "3000000001 is not a valid segment size",
        ),
        ("initial-cluster-size", number(0), text("x"), "<<\"x\">> is not a valid cluster size"),
        ("federation-upstream", text("x"), number(5), "5 is not a valid federation upstream name"),
        ("ha-mode", text("all"), text("foo"), "<<\"foo\">> is not a valid ha-mode value"),
    ];
    for (key, good, bad, text) in examples {
        assert_eq!(refusal(PolicyKind::Policy, &fields("q", &[(key, good.clone())])), "accepted", "{key}");
        assert_eq!(refusal(PolicyKind::Policy, &fields("q", &[(key, bad.clone())])), *text);
    }
}

#[test]
fn keys_that_belong_together_are_checked_together() {
    let text = |text: &str| Value::from(text);
    let examples: &[(&[(&str, Value)], &str)] = &[
        (
            &[("ha-params", number(2))],
            "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown",
        ),
        (&[("ha-mode", text("exactly"))], "ha-mode=\"exactly\" takes an integer, none given"),
        (
            &[("ha-mode", text("exactly")), ("ha-params", text("x"))],
            "ha-mode=\"exactly\" takes an integer, <<\"x\">> given",
        ),
        (&[("ha-mode", text("all")), ("ha-params", number(2))], "ha-mode=\"all\" does not take parameters"),
        (&[("ha-mode", text("nodes")), ("ha-params", number(5))], "ha-mode=\"nodes\" takes a list, 5 given"),
        (
            &[("ha-mode", text("all")), ("ha-sync-mode", text("x"))],
            "ha-sync-mode must be \"manual\" or \"automatic\", got <<\"x\">>",
        ),
        (
            &[("ha-mode", text("all")), ("ha-sync-batch-size", number(-1))],
            "ha-sync-batch-size takes an integer greater than 0, -1 given",
        ),
        (&[("ha-mode", text("exactly")), ("ha-params", number(2))], "accepted"),
        (
            &[("federation-upstream", text("a")), ("federation-upstream-set", text("b"))],
            "cannot specify federation-upstream, federation-upstream-set or federation-upstream-pattern together",
        ),
        (&[], "no policy provided"),
        (
            &[("foo", number(1)), ("bar", number(2)), ("message-ttl", number(1))],
            "[{<<\"bar\">>,2},{<<\"foo\">>,1}] are not recognised policy settings",
        ),
    ];
    for (definition, text) in examples {
        assert_eq!(refusal(PolicyKind::Policy, &fields("q", definition)), *text);
    }
}

#[test]
fn operator_policies_set_limits_only() {
    let accepted =
        ["message-ttl", "expires", "max-length", "max-length-bytes", "delivery-limit", "queue-version"];
    for key in accepted {
        assert_eq!(refusal(PolicyKind::Operator, &fields("q", &[(key, number(1))])), "accepted", "{key}");
    }
    for key in ["dead-letter-exchange", "alternate-exchange", "queue-mode", "queue-master-locator"] {
        let expected = format!("[{{<<\"{key}\">>,<<\"all\">>}}] are not recognised policy settings");
        assert_eq!(refusal(PolicyKind::Operator, &fields("q", &[(key, Value::from("all"))])), expected);
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let faulty = table(&[
        ("pattern", number(5)),
        ("definition", Value::Table(table(&[("foo", number(1))]))),
        ("priority", Value::from("x")),
        ("apply-to", Value::from("u")),
    ]);
    assert_eq!(
        refusal(PolicyKind::Policy, &faulty),
        "[{<<\"foo\">>,1}] are not recognised policy settings\n\
         apply-to 'u' unrecognised; should be 'queues', 'classic_queues', 'quorum_queues', 'streams', 'exchanges' or \
         'all'\n\
         pattern should be a binary but was 5\n\
         priority should be a number, actually was <<\"x\">>"
    );
    let broken = refusal(PolicyKind::Policy, &fields("(", &[("expires", number(1))]));
    assert!(broken.starts_with("pattern should be regular expression but is invalid: "), "{broken}");
}
