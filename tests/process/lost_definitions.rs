//! Files of a broker are damaged or lost: what is defined is still there as long as one copy of it is, what is lost is told, and the
//! directory is taken for no new one, in which guest would log in as administrator.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// The status of what is answered.
fn ask(address: &str, login: &str, method: &str, path: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let (login, length) = (STANDARD.encode(login), body.len());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    write!(stream, "{head}Authorization: Basic {login}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn overwrite(path: &Path, bytes: usize, with: u8) {
    let mut content = fs::read(path).unwrap();
    let end = bytes.min(content.len());
    content[..end].fill(with);
    fs::write(path, content).unwrap();
}

fn each_segment(data: &Path, act: impl Fn(&Path)) {
    fs::read_dir(data.join("wal")).unwrap().for_each(|entry| act(&entry.unwrap().path()));
}

type Damage = fn(&Path);

/// What leaves one copy of the definitions.
const DAMAGES: [(&str, Damage); 11] = [
    ("the log's first bytes are others", |data| each_segment(data, |path| overwrite(path, 100, 0xa5))),
    ("the log's first page is zero", |data| each_segment(data, |path| overwrite(path, 4096, 0))),
    ("the log is emptied", |data| each_segment(data, |path| fs::write(path, b"").unwrap())),
    ("the log is removed", |data| fs::remove_dir_all(data.join("wal")).unwrap()),
    ("the database is other bytes", |data| overwrite(&data.join("db-1/db"), usize::MAX, 0xa5)),
    ("the database is removed", |data| fs::remove_dir_all(data.join("db-1")).unwrap()),
    ("log and database are removed", |data| {
        fs::remove_dir_all(data.join("wal")).unwrap();
        fs::remove_dir_all(data.join("db-1")).unwrap();
    }),
    ("the format file is removed", |data| fs::remove_file(data.join("format")).unwrap()),
    ("the format file is garbage", |data| fs::write(data.join("format"), b"\xff\0").unwrap()),
    ("the format file and its copy are removed", |data| {
        fs::remove_file(data.join("format")).unwrap();
        fs::remove_file(data.join("format.copy")).unwrap();
    }),
    ("the second copy of the definitions is garbage", |data| {
        overwrite(&data.join("definitions"), usize::MAX, 0xa5);
    }),
];

#[test]
fn who_was_defined_is_there_and_nobody_else_where_files_were_lost() {
    let folder = folder_of("lost-definitions");
    let (template, log) = (folder.join("template"), folder.join("template.log"));
    {
        let broker = BrokerProcess::start_on(&template, &log, &[]);
        let api = broker.management();
        let admin = r#"{"password":"long","tags":"administrator"}"#;
        assert_eq!(ask(&api, "guest:guest", "PUT", "/api/users/admin", admin), 201);
        assert_eq!(ask(&api, "admin:long", "DELETE", "/api/users/guest", ""), 204);
    }
    for (what, damage) in DAMAGES {
        let (data, log) = (folder.join("data"), folder.join("log"));
        copy(&template, &data);
        damage(&data);
        let broker = BrokerProcess::start_on(&data, &log, &[]);
        let api = broker.management();
        assert_eq!(ask(&api, "guest:guest", "GET", "/api/whoami", ""), 401, "{what}");
        assert_eq!(ask(&api, "admin:long", "GET", "/api/whoami", ""), 200, "{what}");
        drop(broker);
        fs::remove_dir_all(&data).unwrap();
        fs::remove_file(&log).unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
