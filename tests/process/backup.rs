//! `leveret backup` and `leveret restore` on real processes: the copy of a broker that is published to meanwhile has all that was
//! confirmed before, and a broker starts on it.

use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use leveret_test_support::broker_process::BrokerProcess;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tokio::sync::watch;

/// Messages confirmed before the backup begins, and how many of them are acknowledged by then.
const BEFORE: u64 = 3000;
const ACKNOWLEDGED: u64 = 500;

/// Where the broker of a test keeps its data.
fn data_dir(test: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id())).join("data")
}

fn leveret(arguments: &[&str], data_dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(arguments).arg("--data-dir").arg(data_dir).output().unwrap()
}

/// The standard output of a command that has to succeed.
fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The complaint of a command that has to fail.
fn fail(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn connect(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Publishes numbers, in order, until it is stopped; says how many are confirmed, and at the end how many were sent.
async fn publish(channel: Channel, confirmed: watch::Sender<u64>, stop: watch::Receiver<bool>) -> u64 {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut sent = 0u64;
    while !*stop.borrow() {
        let mut confirms = Vec::new();
        for _ in 0..100 {
            let persistent = BasicProperties::default().with_delivery_mode(2);
            let (options, body) = (BasicPublishOptions::default(), sent.to_string());
            let publish =
                channel.basic_publish("".into(), "q".into(), options, body.as_bytes(), persistent).await;
            confirms.push(publish.unwrap());
            sent += 1;
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
        confirmed.send_replace(sent);
    }
    sent
}

/// Consumes as many messages as there are, and returns their numbers.
async fn numbers(url: &str) -> Vec<u64> {
    let (_connection, channel) = connect(url).await;
    let declare = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let ready =
        channel.queue_declare("q".into(), declare, FieldTable::default()).await.unwrap().message_count();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut deliveries =
        channel.basic_consume("q".into(), "".into(), options, FieldTable::default()).await.unwrap();
    let mut numbers = Vec::new();
    for _ in 0..ready {
        let delivery = deliveries.next().await.unwrap().unwrap();
        numbers.push(String::from_utf8(delivery.data).unwrap().parse().unwrap());
    }
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_all_that_was_confirmed_before() {
    let broker = BrokerProcess::start_with("backup-source", &[], None);
    let source = data_dir("backup-source");
    let folder = tempfile::tempdir().unwrap();
    let (backup, stopped) = (folder.path().join("backup"), folder.path().join("stopped"));
    let (_connection, channel) = connect(&broker.url).await;
    channel.queue_declare("q".into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let (confirmed, mut confirming) = watch::channel(0);
    let (stop, stopping) = watch::channel(false);
    let publishing = tokio::spawn(publish(channel, confirmed, stopping));
    confirming.wait_for(|confirmed| *confirmed >= BEFORE).await.unwrap();
    let (_getting, getting) = connect(&broker.url).await;
    for _ in 0..ACKNOWLEDGED {
        let got = getting.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
        got.acker.ack(BasicAckOptions::default()).await.unwrap();
    }

    let before = *confirming.borrow();
    let told = succeed(&leveret(&["backup", backup.to_str().unwrap()], &source));
    assert!(told.starts_with("backed up to "), "{told}");
    stop.send_replace(true);
    let sent = publishing.await.unwrap();
    let again = fail(&leveret(&["backup", backup.to_str().unwrap()], &source));
    assert!(again.contains("is not empty"), "{again}");
    let in_use = fail(&leveret(&["restore", backup.to_str().unwrap()], &source));
    assert!(in_use.contains("is in use by a running broker"), "{in_use}");

    let target = data_dir("backup-target");
    let told = succeed(&leveret(&["restore", backup.to_str().unwrap()], &target));
    assert!(told.contains(" messages in 1 queues"), "{told}");
    let not_empty = fail(&leveret(&["restore", backup.to_str().unwrap()], &target));
    assert!(not_empty.contains("is not empty"), "{not_empty}");
    let restored = BrokerProcess::start_with("backup-target", &[], None);
    let there = numbers(&restored.url).await;
    let (first, last) = (there[0], *there.last().unwrap());
    // Acknowledgements are written without being waited for, so some of them may come after the moment of the backup.
    assert!(
        first <= ACKNOWLEDGED && last + 1 >= before && last < sent,
        "{first} to {last} of {before} to {sent}"
    );
    assert_eq!(there, (first..=last).collect::<Vec<_>>(), "in order, whole, once");
    drop(restored);

    // What has stopped is backed up all the same, and all of it.
    drop((_connection, _getting));
    let kept = folder.path().join("kept");
    succeed(&leveret(&["backup", kept.to_str().unwrap()], &source));
    drop(broker);
    succeed(&leveret(&["restore", kept.to_str().unwrap()], &stopped));
    let copy = folder.path().join("copy");
    succeed(&leveret(&["backup", copy.to_str().unwrap()], &stopped));
    let target = data_dir("backup-copy");
    succeed(&leveret(&["restore", copy.to_str().unwrap()], &target));
    let restored = BrokerProcess::start_with("backup-copy", &[], None);
    assert_eq!(numbers(&restored.url).await, (ACKNOWLEDGED..sent).collect::<Vec<_>>());
}

#[test]
fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let nowhere = fail(&leveret(&["backup", at("backup").to_str().unwrap()], &at("nothing")));
    assert!(nowhere.contains("holds no store"), "{nowhere}");
    assert!(!at("nothing").exists() && !at("backup").exists());
    let no_backup = fail(&leveret(&["restore", folder.path().to_str().unwrap()], &at("new")));
    assert!(no_backup.contains("holds no finished backup"), "{no_backup}");
}
