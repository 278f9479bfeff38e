//! The configuration as an operator meets it: what a file and variables come to, and the exact text of each complaint.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use leveret::config::{
    Argument, Config, Credentials, DestinationType, Durability, Engine, Limits, LogFormat, MemoryLimit,
    QueueType, Store, settings_page,
};

const EXAMPLE: &str = include_str!("../../examples/leveret.toml");

const COMPLAINTS: &str = include_str!("config.txt");

const SETTINGS_PAGE: &str = include_str!("../../docs/settings.md");

const NO_VARIABLES: [(&str, &str); 0] = [];

fn load(text: &str) -> Config {
    Config::load_from(text, "leveret.toml", NO_VARIABLES).expect("the snippet is sound")
}

fn complaints(text: &str, variables: &[(&str, &str)]) -> String {
    match Config::load_from(text, "leveret.toml", variables.iter().copied()) {
        Ok(_) => "nothing to complain about".to_owned(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn nothing_set_gives_a_broker_for_one_machine() {
    let config = Config::default();
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(config.data_dir, Path::new("./leveret-data"));
    assert_eq!(config.node_name, "leveret@localhost");
    assert_eq!(config.default_queue_type, QueueType::Classic);
    assert_eq!(config.listeners.amqp.bind, address("127.0.0.1:5672"));
    assert_eq!(config.listeners.http.bind, address("127.0.0.1:15672"));
    assert_eq!(config.listeners.prometheus.bind, address("127.0.0.1:15692"));
    assert_eq!((config.server.product.as_str(), config.server.version.as_str()), ("RabbitMQ", "3.13.7"));
    assert_eq!(config.server.cluster_name, "leveret@localhost");
    assert_eq!(config.limits, Limits::default());
    assert_eq!((config.store.engine, config.store.durability), (Engine::Sled, Durability::Fsync));
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Text, "info"));
    assert_eq!(config.vhosts.iter().map(|vhost| vhost.name.as_str()).collect::<Vec<_>>(), ["/"]);
    assert_eq!(config.users.len(), 1);
    assert_eq!(config.users[0].name, "guest");
    assert_eq!(config.users[0].credentials, Credentials::Password("guest".to_owned()));
    assert_eq!(config.users[0].tags, ["administrator"]);
    assert_eq!(config.users[0].declared_at, None);
    assert_eq!(config.permissions.len(), 1);
    assert_eq!(config.permissions[0].write, ".*");
    assert!(config.exchanges.is_empty() && config.queues.is_empty() && config.bindings.is_empty());
}

#[test]
fn settings_of_the_file_replace_defaults() {
    let config = load(
        r#"
        data_dir = "/var/lib/leveret"
        node_name = "leveret@one"
        default_queue_type = "quorum"
        [listeners]
        amqp.bind = "[::]:0"
        http.bind = "[::]:0"
        [limits]
        channel_max = 0
        frame_max_bytes = 4096
        memory_high_watermark = 500_000_000
        disk_free_bytes = 0
        [store]
        engine = "memory"
        durability = "none"
        [log]
        format = "json"
        level = "warn,leveret::amqp=debug"
        "#,
    );
    assert_eq!(config.data_dir, Path::new("/var/lib/leveret"));
    assert_eq!(config.server.cluster_name, "leveret@one");
    assert_eq!(config.default_queue_type, QueueType::Quorum);
    assert_eq!(config.listeners.amqp.bind, "[::]:0".parse().unwrap());
    assert_eq!(config.listeners.http.bind, config.listeners.amqp.bind);
    let expected = Limits {
        channel_max: 0,
        frame_max_bytes: 4096,
        memory_high_watermark: MemoryLimit::Bytes(500_000_000),
        disk_free_bytes: Some(0),
        ..Limits::default()
    };
    assert_eq!(config.limits, expected);
    assert_eq!((config.store.engine, config.store.durability), (Engine::Memory, Durability::None));
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Json, "warn,leveret::amqp=debug"));
}

#[test]
fn arguments_keep_their_types_order_and_spelling() {
    let config = load(
        r#"
        [[queues]]
        name = "orders"
        [queues.arguments]
        x-message-ttl = 30_000
        Factor = 1.5
        a = [true, "b", { deep = -1 }]
        "#,
    );
    let deep = Argument::Table(vec![("deep".to_owned(), Argument::Integer(-1))]);
    let array = Argument::Array(vec![Argument::Boolean(true), Argument::String("b".to_owned()), deep]);
    let expected = vec![
        ("x-message-ttl".to_owned(), Argument::Integer(30_000)),
        ("Factor".to_owned(), Argument::Float(1.5)),
        ("a".to_owned(), array),
    ];
    assert_eq!(config.queues[0].arguments, expected);
    let declared_at = config.queues[0].declared_at.clone().unwrap();
    assert_eq!(declared_at.to_string(), "leveret.toml:2: queues[0]");
}

#[test]
fn variables_win_over_the_file_and_are_read_by_the_type_of_the_setting() {
    let text = "data_dir = \"a\"\n[limits]\nheartbeat_s = 10\nchannel_max = 5\n";
    let variables = [
        ("LEVERET__DATA_DIR", "b"),
        ("LEVERET__LISTENERS__AMQP__BIND", "0.0.0.0:5673"),
        ("LEVERET__LIMITS__HEARTBEAT_S", "20"),
        ("LEVERET__LIMITS__MEMORY_HIGH_WATERMARK", "0.25"),
        ("LEVERET__NODE_NAME", "12345"),
        ("LEVERET__STORE__ENGINE", "memory"),
        ("LEVERET_SERVICE_PORT", "an orchestrator's own"),
        ("PATH", "/bin"),
    ];
    let config = Config::load_from(text, "leveret.toml", variables).unwrap();
    assert_eq!(config.data_dir, Path::new("b"));
    assert_eq!(config.listeners.amqp.bind, "0.0.0.0:5673".parse().unwrap());
    assert_eq!((config.limits.heartbeat_s, config.limits.channel_max), (20, 5));
    assert_eq!(config.limits.memory_high_watermark, MemoryLimit::Fraction(0.25));
    assert_eq!(config.node_name, "12345");
    assert_eq!(config.store.engine, Engine::Memory);
}

#[test]
fn guest_may_do_everything_only_where_nothing_else_is_said() {
    let config = load(
        r#"
        vhosts = [{ name = "/" }, { name = "staging" }]
        [[permissions]]
        user = "guest"
        configure = ""
        write = ""
        read = "^logs$"
        "#,
    );
    let read: Vec<_> = config.permissions.iter().map(|p| (p.vhost.as_str(), p.read.as_str())).collect();
    assert_eq!(read, [("/", "^logs$"), ("staging", ".*")]);
    let config = load("users = [{ name = \"ann\", password = \"secret\" }]");
    assert!(config.permissions.is_empty());
}

#[test]
fn a_password_is_not_shown() {
    let config = load("users = [{ name = \"ann\", password = \"hunter2\" }]");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_command_line_wins_over_file_and_variables() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/leveret.toml");
    let config = Config::load(Some(&file), Some(Path::new("/elsewhere"))).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("/elsewhere"));
    assert!(config.bindings.iter().any(|binding| binding.destination_type == DestinationType::Exchange));
}

#[test]
fn a_file_that_is_no_configuration_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let latin = folder.path().join("latin.toml");
    std::fs::write(&latin, b"node_name = 'a'\nnode_name = 'K\xe4se'\n").unwrap();
    let of = |file: &std::path::Path| Config::load(Some(file), None).unwrap_err().to_string();
    assert!(
        of(&latin).ends_with("latin.toml: is not UTF-8 in line 2; save it in that encoding"),
        "{}",
        of(&latin)
    );
    let endless = of(std::path::Path::new("/dev/zero"));
    assert_eq!(endless, "/dev/zero: is larger than 64 MiB; no configuration is");
    assert!(of(folder.path()).ends_with("; name the file in it"), "{}", of(folder.path()));
}

#[test]
fn a_missing_file_is_named() {
    let errors = Config::load(Some(Path::new("no/such.toml")), None).unwrap_err().to_string();
    let expected = "no/such.toml: cannot be read: No such file or directory (os error 2); name a file that exists, \
                    or none to use the defaults";
    assert_eq!(errors, expected);
}

/// All cases that differ are shown at once.
#[test]
fn every_fault_is_told_as_config_txt_says() {
    let cases: Vec<_> = COMPLAINTS.split("\n=== ").skip(1).collect();
    let mut differing = Vec::new();
    for case in &cases {
        let case = case.replace("{256}", &"q".repeat(256));
        let (title, body) = case.split_once('\n').expect("a case has lines below its title");
        let (mut text, mut variables, mut expected) = (String::new(), Vec::new(), Vec::new());
        for line in body.lines() {
            if let Some(variable) = line.strip_prefix("$ ") {
                variables.push(variable.split_once('=').expect("a variable has a value"));
            } else if let Some(complaint) = line.strip_prefix("> ") {
                expected.push(complaint);
            } else {
                text += &format!("{line}\n");
            }
        }
        if expected.is_empty() {
            expected.push("nothing to complain about");
        }
        let (expected, found) = (expected.join("\n"), complaints(&text, &variables));
        if found != expected {
            differing.push(format!("{title}\n  expected: {expected}\n  found:    {found}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
    assert!(cases.len() > 80, "config.txt was cut into {} cases only", cases.len());
}

#[test]
fn every_problem_is_reported_in_the_order_of_the_file() {
    let text = "[limits]\nheartbeat_s = -1\nchannel_max = \"many\"\n[[queues]]\nnme = 1\ndurable = \"yes\"\n";
    let expected = "\
leveret.toml:2: limits.heartbeat_s: expected a whole number from 0 to 65535, found -1
leveret.toml:3: limits.channel_max: expected a whole number from 0 to 65535, found \"many\"
leveret.toml:4: queues[0].name: missing; expected a name of 1 to 255 bytes
leveret.toml:5: queues[0].nme: unknown key; did you mean name?
leveret.toml:6: queues[0].durable: expected true or false, found \"yes\"
LEVERET__LOG__FORMAT: expected one of \"text\", \"json\", found \"xml\"";
    assert_eq!(complaints(text, &[("LEVERET__LOG__FORMAT", "xml")]), expected);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text() {
    use std::os::unix::ffi::OsStringExt;
    let value = std::ffi::OsString::from_vec(vec![0xff]);
    let errors = Config::load_from("", "", [("LEVERET__DATA_DIR", value)]).unwrap_err();
    assert_eq!(errors.to_string(), "LEVERET__DATA_DIR: expected text in UTF-8");
}

/// `leveret settings > docs/settings.md` makes it anew.
#[test]
fn the_page_of_settings_is_made_of_them() {
    assert_eq!(SETTINGS_PAGE, settings_page());
    let heartbeat = Limits::settings().into_iter().find(|setting| setting.key == "heartbeat_s").unwrap();
    assert_eq!((heartbeat.default.as_str(), heartbeat.bounds.as_str()), ("60", "0 to 65535"));
    let engine = Store::settings().into_iter().find(|setting| setting.key == "engine").unwrap();
    assert_eq!((engine.default.as_str(), engine.bounds.as_str()), ("\"sled\"", "`\"sled\"`, `\"memory\"`"));
}

/// The example with the keys live that it shows as comments.
fn example_with_every_key() -> String {
    let uncomment = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(|line| uncomment(line) + "\n").collect()
}

#[test]
fn the_example_shows_defaults() {
    let (example, default) = (load(EXAMPLE), Config::default());
    let settings = |config: Config| {
        let Config {
            data_dir,
            node_name,
            default_queue_type,
            listeners,
            websocket,
            server,
            limits,
            access,
            store,
            events,
            log,
            ..
        } = config;
        let about_clients = (listeners, websocket, server);
        (data_dir, node_name, default_queue_type, about_clients, limits, access, store, (events, log))
    };
    assert_eq!(settings(example), settings(default));
}

#[test]
fn the_example_shows_every_key() {
    let example = example_with_every_key();
    load(&example);
    // An unknown key is answered with the known ones, which is how this test learns of a key added later.
    let sections: [(&str, &str); 22] = [
        ("", ""),
        ("listeners", "[listeners]\n"),
        ("listeners.amqp", "[listeners.amqp]\n"),
        ("listeners.websocket", "[listeners.websocket]\n"),
        ("listeners.websockets", "[listeners.websockets]\n"),
        ("websocket", "[websocket]\n"),
        ("server", "[server]\n"),
        ("limits", "[limits]\n"),
        ("access", "[access]\n"),
        ("store", "[store]\n"),
        ("events", "[events]\n"),
        ("log", "[log]\n"),
        ("tls", "[tls]\n"),
        ("vhosts", "[[vhosts]]\n"),
        ("users", "[[users]]\n"),
        ("permissions", "[[permissions]]\n"),
        ("topic_permissions", "[[topic_permissions]]\n"),
        ("policies", "[[policies]]\n"),
        ("operator_policies", "[[operator_policies]]\n"),
        ("exchanges", "[[exchanges]]\n"),
        ("queues", "[[queues]]\n"),
        ("bindings", "[[bindings]]\n"),
    ];
    for (section, header) in sections {
        let complaints = complaints(&format!("{header}zzzzzz = 1\n"), &[]);
        let known = complaints.lines().find_map(|line| line.split_once("unknown key; known here: "));
        for key in known.expect("an unknown key is answered with the known ones").1.split(", ") {
            let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            assert!(example_sets(&example, &path), "examples/leveret.toml shows no {path}");
        }
    }
}

/// Whether the example has `path`, as a key under a header or as a header.
fn example_sets(example: &str, path: &str) -> bool {
    let mut section = "";
    example.lines().any(|line| {
        if line.starts_with('[') {
            section = line.split(" #").next().unwrap_or_default().trim_matches(['[', ']']);
            return section == path || section.starts_with(&format!("{path}."));
        }
        let key = line.split(" = ").next().unwrap_or_default();
        let found = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        found == path
    })
}

#[test]
fn a_user_who_can_not_do_anything_is_warned_of() {
    let config = load(
        r#"
        users = [
            { name = "app", password = "p" },
            { name = "left-out", password = "p" },
            { name = "watcher", password = "p", tags = ["monitoring"] },
        ]
        permissions = [{ user = "app", configure = "", write = ".*", read = ".*" }]
        "#,
    );
    let warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            r#"leveret.toml:4: users[1]: user "left-out" may not open any vhost; give it an entry under [[permissions]]"#
        ]
    );
    assert_eq!(Config::default().warnings(), []);
    let warnings: Vec<String> =
        load("[events]\nvhost = \"nowhere\"").warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            r#"leveret.toml:1: events.vhost: vhost "nowhere" is not declared under [[vhosts]]; unless it is there already, there are no events"#
        ]
    );
    assert_eq!(load("[events]\nvhost = \"/\"").warnings(), []);
}

#[test]
fn what_a_long_file_costs_grows_with_its_length() {
    let queue = |n| format!("[[queues]]\nname = \"q{n}\"\narguments = {{ x-max-length = 10 }}\n");
    let text: String = (0..5000).map(queue).collect();
    let (config, steps) = leveret::steps::of(|| load(&text));
    assert_eq!(config.queues.len(), 5000);
    assert!(steps < 5000 * 100, "{steps} steps to find the lines");
    // What leads nowhere is looked for among what there is, a bounded number of times.
    let binding = |n| format!("[[bindings]]\nsource = \"amq.topic\"\ndestination = \"q{n}x\"\n");
    let wrong = text + &(0..2000).map(binding).collect::<String>();
    let (said, steps) = leveret::steps::of(|| complaints(&wrong, &NO_VARIABLES));
    assert_eq!(said.lines().count(), 2000);
    let [first, last] = [said.lines().next(), said.lines().last()].map(Option::unwrap_or_default);
    assert!(first.contains("did you mean"), "{first}");
    assert!(last.contains("declare it under [[queues]]"), "{last}");
    assert!(steps < 2_500_000, "{steps} steps to look for names");
}
