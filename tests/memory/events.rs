//! What is told on the event exchange, and that nothing is told where nobody hears it. Keys and headers are those that RabbitMQ 4.3.6
//! was seen to give.

use leveret::broker::BrokerLimits;
use leveret::broker::observe::events::EventSettings;
use leveret_conformance::{Broker as Kind, Case, Options, Outcome, run};
use leveret_test_support::in_memory::InMemory;

fn broker(waiting_max: usize) -> InMemory {
    let events = EventSettings { vhost: Some("/".into()), waiting_max };
    InMemory::with(BrokerLimits { events, ..BrokerLimits::default() })
}

fn play(text: &str, broker: &mut InMemory) {
    let case = Case::parse("events", text).unwrap();
    let options = Options { broker: Some(Kind::Leveret), ..Options::default() };
    if let Outcome::Failed(failure) = run(&case, broker, &options) {
        let line = case.lines.get(failure.line - 1).map_or("(end)", String::as_str);
        panic!("{line}\n{}\ngot: {:#?}", failure.reason, failure.got);
    }
}

const LISTEN: &str = "# Events are heard.

1> queue.declare queue=e
1< queue.declare-ok queue=e
1> queue.bind queue=e exchange=amq.rabbitmq.event key=#
1< queue.bind-ok
1> basic.get queue=e no_ack
1< get-ok delivery_tag=1 exchange=amq.rabbitmq.event key=binding.created {headers={arguments=[] destination_kind=queue destination_name=e routing_key=\"#\" source_kind=exchange source_name=amq.rabbitmq.event timestamp_in_ms=l:? user_who_performed_action=guest vhost=\"/\"} delivery_mode=2 timestamp=?} \"\"
";

/// Takes the next events, of which `expected` has key and headers.
fn next_events(expected: &[(&str, &str)]) -> String {
    let lines = expected.iter().enumerate().map(|(index, (key, headers))| {
        let left = expected.len() - index - 1;
        let count = if left > 0 { format!(" message_count={left}") } else { String::new() };
        format!(
            "1> basic.get queue=e no_ack\n1< get-ok delivery_tag=? exchange=amq.rabbitmq.event key={key}{count} \
             {{headers={{{headers} ...}} delivery_mode=2 timestamp=?}} \"\"\n"
        )
    });
    lines.collect()
}

fn conversation(steps: &[(&str, &[(&str, &str)])]) -> String {
    let steps = steps.iter().map(|(says, events)| format!("{says}\n{}", next_events(events)));
    format!("{LISTEN}{}", steps.collect::<String>())
}

#[test]
fn what_clients_do_is_told() {
    let text = conversation(&[
        (
            "connect b\nb1> queue.declare queue=q durable\nb1< queue.declare-ok queue=q",
            &[
                ("user.authentication.success", "auth_mechanism=PLAIN name=guest ssl=false"),
                ("connection.created", "user=guest vhost=\"/\" user_who_performed_action=guest"),
                ("channel.created", "number=l:1 user=guest vhost=\"/\""),
                (
                    "queue.created",
                    "auto_delete=false durable=true exclusive=false leader=? name=q owner_pid=\"\" type=rabbit_classic_queue",
                ),
            ],
        ),
        (
            "b1> exchange.declare exchange=x type=direct\nb1< exchange.declare-ok\n\
             b1> queue.bind queue=q exchange=x key=k\nb1< queue.bind-ok\n\
             b1> queue.bind queue=q exchange=x key=k\nb1< queue.bind-ok",
            &[
                ("exchange.created", "internal=false name=x policy=\"\" type=direct"),
                ("binding.created", "destination_name=q routing_key=k source_name=x"),
                ("binding.created", "destination_name=q routing_key=k source_name=x"),
            ],
        ),
        (
            "b1> basic.consume queue=q tag=c no_ack\nb1< basic.consume-ok consumer_tag=c\n\
             b1> basic.cancel tag=c\nb1< basic.cancel-ok consumer_tag=c",
            &[
                (
                    "consumer.created",
                    "ack_required=false consumer_tag=c exclusive=false prefetch_count=l:0 queue=q",
                ),
                ("consumer.deleted", "consumer_tag=c queue=q user_who_performed_action=guest"),
            ],
        ),
        (
            "b1> queue.delete queue=q\nb1< queue.delete-ok",
            &[
                ("binding.deleted", "destination_name=q user_who_performed_action=rmq-internal"),
                ("queue.deleted", "name=q type=rabbit_classic_queue user_who_performed_action=guest"),
            ],
        ),
        (
            "b1> exchange.delete exchange=x\nb1< exchange.delete-ok\nb1> channel.close\nb1< channel.close-ok",
            &[("exchange.deleted", "name=x user_who_performed_action=guest"), ("channel.closed", "pid=?")],
        ),
        ("drop b", &[("connection.closed", "name=?")]),
    ]);
    play(&text, &mut broker(10_000));
}

#[test]
fn what_operators_do_is_told() {
    let by_guest = "user_who_performed_action=guest";
    let text = conversation(&[
        (
            "PUT /api/policies/%2F/p {\"pattern\":\"^a\",\"definition\":{\"max-length\":5}}\nDELETE /api/policies/%2F/p",
            &[("policy.set", "apply-to=all name=p pattern=\"^a\""), ("policy.cleared", "name=p")],
        ),
        (
            // The same once more tells nothing; a queue tells which policy has changed for it.
            "PUT /api/queues/%2F/bq {\"durable\":true}\n\
             PUT /api/policies/%2F/p {\"pattern\":\"^b\",\"definition\":{\"max-length\":5}}\n\
             PUT /api/policies/%2F/p {\"pattern\":\"^b\",\"definition\":{\"max-length\":5}}\n\
             PUT /api/operator-policies/%2F/o {\"pattern\":\"^b\",\"definition\":{\"max-length\":3},\"apply-to\":\"queues\"}\n\
             DELETE /api/operator-policies/%2F/o\nDELETE /api/policies/%2F/p\nDELETE /api/queues/%2F/bq",
            &[
                ("queue.created", by_guest),
                (
                    "queue.policy.updated",
                    "apply-to=all definition={max-length=l:5} name=bq pattern=\"^b\" priority=l:0 type=rabbit_classic_queue",
                ),
                ("policy.set", "apply-to=all definition={max-length=l:5} name=p pattern=\"^b\" priority=l:0"),
                (
                    "queue.policy.updated",
                    "apply-to=queues definition={max-length=l:3} name=bq pattern=\"^b\"",
                ),
                ("policy.set", "apply-to=queues definition={max-length=l:3} name=o"),
                ("queue.policy.cleared", "name=bq type=rabbit_classic_queue user_who_performed_action=guest"),
                ("operator.policy.cleared", "name=o"),
                ("queue.policy.cleared", "name=bq"),
                ("policy.cleared", "name=p"),
                ("queue.deleted", by_guest),
            ],
        ),
        (
            "POST /api/definitions {\"policies\":[{\"vhost\":\"/\",\"name\":\"i\",\"pattern\":\"^i\",\"definition\":{\"max-length\":5}}]}",
            &[(
                "policy.set",
                "name=i pattern=\"^i\" priority=l:0 user_who_performed_action=guest vhost=\"/\"",
            )],
        ),
        (
            "POST /api/definitions {\"users\":[{\"name\":\"iu\",\"password_hash\":\"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR\",\"tags\":[\"monitoring\"],\"limits\":{\"max-channels\":7}}],\"vhosts\":[{\"name\":\"iv\"}],\"permissions\":[{\"user\":\"iu\",\"vhost\":\"iv\",\"configure\":\"a\",\"write\":\"b\",\"read\":\"c\"}],\"topic_permissions\":[{\"user\":\"iu\",\"vhost\":\"iv\",\"exchange\":\"amq.topic\",\"write\":\"w\",\"read\":\"r\"}],\"parameters\":[{\"vhost\":\"iv\",\"component\":\"vhost-limits\",\"name\":\"limits\",\"value\":{\"max-queues\":5}}],\"global_parameters\":[{\"name\":\"gp\",\"value\":1}]}",
            &[
                ("user.created", "name=iu user_who_performed_action=guest"),
                ("user.tags.set", "name=iu tags=[monitoring]"),
                (
                    "user.limits.set",
                    "max-channels=l:7 name=limits user_who_performed_action=guest username=iu",
                ),
                ("vhost.created", "description=\"\" name=iv"),
                ("vhost.limits.set", "max-queues=l:5 name=limits user_who_performed_action=guest vhost=iv"),
                ("permission.created", "configure=\".*\" read=\".*\" user=guest vhost=iv write=\".*\""),
                (
                    "permission.created",
                    "configure=a read=c user=iu user_who_performed_action=guest vhost=iv write=b",
                ),
                ("topic.permission.created", "exchange=amq.topic read=r user=iu vhost=iv write=w"),
                ("parameter.set", "component=global name=gp user_who_performed_action=guest value=l:1"),
            ],
        ),
        (
            // What is so already is not told again.
            "POST /api/definitions {\"users\":[{\"name\":\"iu\",\"password_hash\":\"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR\",\"tags\":[\"administrator\"],\"limits\":{\"max-channels\":7}}],\"vhosts\":[{\"name\":\"iv\",\"description\":\"d\"}],\"permissions\":[{\"user\":\"iu\",\"vhost\":\"iv\",\"configure\":\"a\",\"write\":\"b\",\"read\":\"c\"}],\"global_parameters\":[{\"name\":\"gp\",\"value\":2}]}\nDELETE /api/global-parameters/gp",
            &[
                ("user.tags.set", "name=iu tags=[administrator]"),
                ("vhost.updated", "description=d name=iv"),
                ("parameter.set", "component=global name=gp value=l:2"),
                ("parameter.cleared", "name=gp"),
            ],
        ),
        (
            "PUT /api/users/u {\"password\":\"p\",\"tags\":\"monitoring\"}",
            &[("user.created", by_guest), ("user.tags.set", "name=u tags=[monitoring]")],
        ),
        (
            "PUT /api/permissions/%2F/u {\"configure\":\"a\",\"write\":\"b\",\"read\":\"\"}\nDELETE /api/permissions/%2F/u",
            &[
                ("permission.created", "configure=a read=\"\" user=u vhost=\"/\" write=b"),
                ("permission.deleted", "user=u vhost=\"/\""),
            ],
        ),
        (
            "PUT /api/queues/%2F/q {\"durable\":true}\nDELETE /api/queues/%2F/q",
            &[("queue.created", by_guest), ("queue.deleted", by_guest)],
        ),
        ("PUT /api/global-parameters/g {\"value\":1}", &[("parameter.set", "component=global name=g")]),
        (
            "PUT /api/vhosts/v {\"description\":\"d\"}",
            &[
                ("vhost.created", "description=d name=v tracing=false"),
                ("permission.created", "user=guest vhost=v"),
            ],
        ),
    ]);
    play(&text, &mut broker(10_000));
}

#[test]
fn no_more_events_wait_than_may() {
    // A queue of a bound key, and all that goes with its connection: five queues, of which three can be told of.
    let mut broker = broker(3);
    let declared: String = (0..5)
        .map(|number| {
            format!("b1> queue.declare queue=q{number} exclusive\nb1< queue.declare-ok queue=q{number}\n")
        })
        .collect();
    let text = format!(
        "{}{declared}1> queue.purge queue=e\n1< queue.purge-ok message_count=8\ndrop b\n\
         1> queue.declare queue=e passive\n1< queue.declare-ok queue=e message_count=3\n",
        LISTEN.to_owned() + "connect b\nb1> basic.qos prefetch_count=1\nb1< basic.qos-ok\n"
    );
    play(&text, &mut broker);
}

#[test]
fn nobody_hears_of_what_is_told_without_a_binding() {
    let mut broker = broker(10_000);
    assert!(!broker.broker().events().are_heard());
    play(LISTEN, &mut broker);
    // The case has deleted its queue.
    assert!(!broker.broker().events().are_heard());
}
