//! What comes with the broker to run it: the image's health check, systemd's unit, the configurations in `docker/`.

use leveret::config::Config;
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a program of the system is there.
fn is_there(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("WARNING: no {program}, so a part of this test is skipped");
    }
    found
}

#[test]
fn a_health_check_fails_when_nobody_answers_and_needs_no_login() {
    let broker = BrokerProcess::start_with("packaging-health", &[], None);
    let url = format!("http://{}", broker.management());
    let health = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command
            .args(["ctl", "--url", &url, "--user", "nobody", "--password", "none", "health"])
            .output()
            .unwrap()
    };
    let ready = health();
    assert!(ready.status.success(), "{ready:?}");
    assert_eq!(String::from_utf8(ready.stdout).unwrap(), format!("{url} is ready\n"));
    broker.kill();
    assert!(!health().status.success());
}

#[test]
fn systemd_hears_when_clients_are_served_and_when_that_ends() {
    let folder = folder_of("packaging-notify");
    // A path to a socket has little room.
    let path = std::env::temp_dir().join(format!("leveret-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let heard = || {
        let mut state = [0; 64];
        let length = socket.recv(&mut state).unwrap();
        String::from_utf8(state[..length].to_vec()).unwrap()
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let broker = BrokerProcess::start_on(&folder.join("data"), &folder.join("log"), &variables);
    assert_eq!(heard(), "READY=1");
    drop(broker);
    assert_eq!(heard(), "STOPPING=1");
    fs::remove_file(path).unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    if !is_there("systemd-analyze") {
        return;
    }
    let unit = fs::read_to_string(root().join("systemd/leveret.service")).unwrap();
    // It looks whether the program is there.
    let unit = unit.replace("/usr/bin/leveret", env!("CARGO_BIN_EXE_leveret"));
    let folder = folder_of("packaging-unit");
    let file = folder.join("leveret.service");
    fs::write(&file, unit).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let of_ours: Vec<_> = said.lines().filter(|line| line.contains("leveret")).collect();
    assert!(output.status.success() && of_ours.is_empty(), "{said}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_configurations_for_containers_are_sound() {
    let none: [(&str, &str); 0] = [];
    let text = fs::read_to_string(root().join("docker/leveret.toml")).unwrap();
    Config::load_from(&text, "docker/leveret.toml", none).unwrap();
    // The image's variables are the broker's.
    let dockerfile = fs::read_to_string(root().join("docker/Dockerfile")).unwrap();
    let variables: Vec<(String, String)> = dockerfile
        .lines()
        .filter_map(|line| line[line.find("LEVERET__")?..].trim_end_matches([' ', '\\']).split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(variables.len(), 7);
    let config = Config::load_from("", "nothing", variables).unwrap();
    assert_eq!(config.listeners.prometheus.bind, "[::]:15692".parse().unwrap());
    if is_there("promtool") {
        let config = root().join("docker/prometheus.yml");
        let output = Command::new("promtool").args(["check", "config"]).arg(config).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn the_image_has_rabbitmqs_commands_by_name() {
    let image = fs::read_to_string(root().join("docker/Dockerfile")).unwrap();
    assert!(image.contains("COPY --from=build /links/ /usr/bin/"));
    for name in ["rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-plugins"] {
        assert!(image.contains(&format!("ln -s leveret /links/{name}")), "{name}");
    }
}
