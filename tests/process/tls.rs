//! AMQP over TLS: good and bad certificates, EXTERNAL, and certificates that change under load. The certificates are made
//! here.

use leveret_conformance::Transport;
use leveret_test_support::amqp_client::tls::Tls;
use leveret_test_support::amqp_client::{Client, method, text};
use leveret_test_support::broker_process::{BrokerProcess, folder_of};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A certificate with its key, in PEM.
#[derive(Clone)]
struct Identity {
    certificate: String,
    key: String,
}

/// An authority that signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// A list of those that it has revoked, in PEM.
    fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 2),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 2),
            next_update: date_time_ymd(2024, 1, 3),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Shop");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn localhost() -> CertificateParams {
    let mut params = named("localhost");
    params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
    params
}

/// A client that trusts that authority, and shows that certificate.
fn client(
    authority: &Authority,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// The files of a broker.
struct Files {
    folder: PathBuf,
    authority: Authority,
}

impl Files {
    fn new(test: &str) -> Files {
        let files = Files { folder: folder_of(test), authority: Authority::new("Tests") };
        fs::write(files.path("ca.pem"), &files.authority.certificate).unwrap();
        files.put(&files.authority.sign(&localhost()));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Replaces certificate and key.
    fn put(&self, identity: &Identity) {
        for (name, text) in [("server.pem", &identity.certificate), ("server.key", &identity.key)] {
            let new = self.path("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, self.path(name)).unwrap();
        }
    }

    fn start(&self, more: &str) -> (BrokerProcess, String) {
        let config = self.path("leveret.toml");
        let (certificate, key, ca) = (self.path("server.pem"), self.path("server.key"), self.path("ca.pem"));
        let users = [
            ("guest", "guest"),
            ("CN=worker,O=Shop", "unused"),
            ("worker", "unused"),
            ("worker.example", "unused"),
        ];
        let users: String = users
            .map(|(name, password)| {
                format!(
                    "[[users]]\nname = {name:?}\npassword = {password:?}\n[[permissions]]\nuser = {name:?}\n\
                     configure = '.*'\nwrite = '.*'\nread = '.*'\n"
                )
            })
            .concat();
        let text = format!(
            "[tls]\ncertificate = {certificate:?}\nkey = {key:?}\nca_certificates = {ca:?}\n{more}\n[store]\n\
             engine = 'memory'\n{users}"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command.arg("--config").arg(config);
        let broker = BrokerProcess::start_command(command, &self.path("data"), &self.path("stderr.log"));
        let address = broker.address_of("amqps");
        (broker, address)
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

/// Publishes and fetches a message.
fn work(client: &mut Client, transport: &mut Tls) {
    client.open_channel(transport, 1).unwrap();
    client.call(transport, 1, &method("queue.declare", &[("queue", text("work"))])).unwrap();
    let mut bytes = Vec::new();
    client.put_publish(&mut bytes, 1, ("", "work"), &[], b"a body");
    client.send_bytes(transport, &bytes);
    client.call(transport, 1, &method("basic.get", &[("queue", text("work"))])).unwrap();
}

fn log_in(address: &str, config: &Arc<ClientConfig>, mechanism: &str) -> Result<(), String> {
    let mut transport = Tls::to(address, config.clone());
    let response = if mechanism == "PLAIN" { "\0guest\0guest" } else { "" };
    Client::log_in(&mut transport, mechanism, response).map(|_| ()).map_err(|gone| gone.0)
}

#[test]
fn both_versions_are_spoken_unless_one_is_left_out() {
    let files = Files::new("tls-versions");
    let (_broker, address) = files.start("");
    for versions in [&[&version::TLS12][..], &[&version::TLS13]] {
        let mut transport = Tls::to(&address, client(&files.authority, None, versions));
        let mut connection = Client::connect(&mut transport).unwrap();
        work(&mut connection, &mut transport);
    }
    let offered = log_in(&address, &client(&files.authority, None, BOTH), "EXTERNAL").unwrap_err();
    assert_eq!(offered, "only PLAIN AMQPLAIN is offered");
    let stranger = Authority::new("Strangers");
    let refused = log_in(&address, &client(&stranger, None, BOTH), "PLAIN").unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");

    let newest = Files::new("tls-newest");
    let (broker, address) = newest.start("versions = ['1.3']");
    log_in(&address, &client(&newest.authority, None, BOTH), "PLAIN").unwrap();
    let refused =
        log_in(&address, &client(&newest.authority, None, &[&version::TLS12]), "PLAIN").unwrap_err();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    broker.wait_for_log("reason=\"TLS: ");
}

#[test]
fn a_client_shows_a_good_certificate_or_has_no_connection() {
    let files = Files::new("tls-required");
    let (broker, address) = files.start("client_certificates = 'required'");
    let good = files.authority.sign(&named("worker"));
    log_in(&address, &client(&files.authority, Some(&good), BOTH), "PLAIN").unwrap();
    log_in(&address, &client(&files.authority, Some(&good), BOTH), "EXTERNAL").unwrap();

    let mut expired = named("worker");
    (expired.not_before, expired.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let expired = files.authority.sign(&expired);
    let foreign = Authority::new("Strangers").sign(&named("worker"));
    for (identity, alert) in
        [(None, "CertificateRequired"), (Some(&expired), "CertificateExpired"), (Some(&foreign), "UnknownCA")]
    {
        let refused = log_in(&address, &client(&files.authority, identity, &[&version::TLS12]), "PLAIN");
        let refused = refused.unwrap_err();
        // TLS 1.2 knows no alert for a missing one.
        assert!(refused.contains(alert) || refused.contains("HandshakeFailure"), "{alert}: {refused}");
        // In TLS 1.3 a client takes the handshake for done before it hears of it.
        log_in(&address, &client(&files.authority, identity, &[&version::TLS13]), "PLAIN").unwrap_err();
    }
    broker.wait_for_log("reason=\"TLS: peer sent no certificates");
    broker.wait_for_log("reason=\"TLS: invalid peer certificate: certificate expired");
    broker.wait_for_log("reason=\"TLS: invalid peer certificate: UnknownIssuer: none of those in tls.ca_certificates has signed");
}

#[test]
fn external_logs_in_whom_the_certificate_names() {
    let mut params = named("worker");
    params.subject_alt_names = vec![
        SanType::DnsName("other.example".try_into().unwrap()),
        SanType::DnsName("worker.example".try_into().unwrap()),
    ];
    for (test, login_from, user) in [
        ("dn", "", "CN=worker,O=Shop"),
        ("cn", "login_from = 'common_name'", "worker"),
        ("san", "login_from = 'subject_alternative_name'\nlogin_san_index = 1", "worker.example"),
    ] {
        let files = Files::new(&format!("tls-external-{test}"));
        let (broker, address) = files.start(&format!("client_certificates = 'optional'\n{login_from}"));
        let worker = files.authority.sign(&params);
        log_in(&address, &client(&files.authority, Some(&worker), BOTH), "EXTERNAL").unwrap();
        broker.wait_for_log(&format!("user={user:?}"));

        let nobody = files.authority.sign(&named("nobody"));
        let refused =
            log_in(&address, &client(&files.authority, Some(&nobody), BOTH), "EXTERNAL").unwrap_err();
        let expected = "403 ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. For details \
                        see the broker logfile.";
        assert_eq!(refused, expected);
        // A client that shows none can still log in by password, and is not offered EXTERNAL.
        let anybody = client(&files.authority, None, BOTH);
        log_in(&address, &anybody, "PLAIN").unwrap();
        assert_eq!(log_in(&address, &anybody, "EXTERNAL").unwrap_err(), "only PLAIN AMQPLAIN is offered");
    }
}

#[test]
fn a_peer_that_reads_slowly_gets_all_of_it() {
    const BODY_BYTES: usize = 1 << 20;
    const COUNT: usize = 24;
    let files = Files::new("tls-slow");
    let (_broker, address) = files.start("");
    let mut transport = Tls::to(&address, client(&files.authority, None, BOTH));
    let mut publisher = Client::connect(&mut transport).unwrap();
    publisher.open_channel(&mut transport, 1).unwrap();
    publisher.call(&mut transport, 1, &method("queue.declare", &[("queue", text("large"))])).unwrap();
    let mut consumer = Client::connect(&mut transport).unwrap();
    consumer.open_channel(&mut transport, 1).unwrap();
    let consume = [("queue", text("large")), ("no_ack", leveret_conformance::method::Wire::Bit(true))];
    consumer.call(&mut transport, 1, &method("basic.consume", &consume)).unwrap();
    for number in 0..COUNT {
        let mut bytes = Vec::new();
        publisher.put_publish(
            &mut bytes,
            1,
            ("", "large"),
            &[],
            &vec![u8::try_from(number).unwrap(); BODY_BYTES],
        );
        publisher.send_bytes(&mut transport, &bytes);
    }
    // All of it has been routed, and far more than the sockets' buffers hold waits for the consumer.
    publisher.call(&mut transport, 1, &method("queue.declare", &[("queue", text("large"))])).unwrap();
    let mut came = 0;
    while came < COUNT {
        for (_, _, content) in consumer.wait(&mut transport).unwrap() {
            let body = content.unwrap().body;
            assert!(body.len() == BODY_BYTES && body.iter().all(|byte| usize::from(*byte) == came));
            came += 1;
        }
    }
}

/// The certificate that a server shows.
fn shown(address: &str, config: &Arc<ClientConfig>) -> Result<Vec<u8>, String> {
    let mut transport = Tls::to(address, config.clone());
    let id = transport.open()?;
    Ok(transport.stream(id).conn.peer_certificates().unwrap()[0].to_vec())
}

fn der(identity: &Identity) -> Vec<u8> {
    CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap().to_vec()
}

#[test]
fn certificates_change_under_load_and_nobody_notices() {
    const CHANGES: usize = 5;
    let files = Files::new("tls-reload");
    let (broker, address) = files.start("watch_interval_s = 0");
    let config = client(&files.authority, None, BOTH);
    let mut transport = Tls::to(&address, config.clone());
    let mut lasting = Client::connect(&mut transport).unwrap();
    work(&mut lasting, &mut transport);

    let (done, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mut transport = Tls::to(&address, config.clone());
                    let mut connection = Client::connect(&mut transport).unwrap();
                    work(&mut connection, &mut transport);
                    connected.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for change in 1..=CHANGES {
            let identity = files.authority.sign(&localhost());
            files.put(&identity);
            broker.signal("HUP");
            while broker.log().matches("new connections get the certificate").count() < change {
                thread::yield_now();
            }
            assert_eq!(shown(&address, &config).unwrap(), der(&identity));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(connected.into_inner() > 0);
    lasting.call(&mut transport, 1, &method("queue.declare", &[("queue", text("lasting"))])).unwrap();
}

#[test]
fn files_that_change_are_noticed_and_bad_ones_are_not_used() {
    let files = Files::new("tls-watch");
    let (broker, address) = files.start("watch_interval_s = 1");
    let config = client(&files.authority, None, BOTH);
    let before = shown(&address, &config).unwrap();
    let (one, other) = (files.authority.sign(&localhost()), files.authority.sign(&localhost()));

    fs::write(files.path("server.pem"), "not a certificate").unwrap();
    broker.wait_for_log("the old certificate stays in use");
    broker.wait_for_log(
        "server.pem: it holds no certificate; tls.certificate needs one or more certificates in PEM",
    );
    files.put(&Identity { certificate: one.certificate.clone(), key: other.key.clone() });
    broker.wait_for_log("can't be used together");
    assert_eq!(shown(&address, &config).unwrap(), before);

    files.put(&one);
    broker.wait_for_log("new connections get the certificate");
    assert_eq!(shown(&address, &config).unwrap(), der(&one));
    assert!(!broker.log().contains("PRIVATE KEY"));
}

#[test]
fn how_long_a_certificate_is_good_is_told() {
    let files = Files::new("tls-end");
    let mut ended = localhost();
    ended.not_after = rcgen::date_time_ymd(2020, 1, 1);
    files.put(&files.authority.sign(&ended));
    let (broker, address) = files.start("watch_interval_s = 1");
    broker.wait_for_log("server.pem has ended; a new one there is used without a restart");
    assert!(left_s(&broker, &address) < 0.0);
    files.put(&files.authority.sign(&localhost()));
    broker.wait_for_log("new connections get the certificate");
    assert!(left_s(&broker, &address) > 1e9);
    assert_eq!(broker.log().matches("WARN").count(), 1, "{}", broker.log());
}

/// The seconds that are left, as the page for Prometheus says it of the listener at that address.
fn left_s(broker: &BrokerProcess, amqps: &str) -> f64 {
    let mut stream = TcpStream::connect(broker.address_of_metrics()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let port = amqps.rsplit(':').next().unwrap();
    let name = format!("leveret_certificate_expires_in_seconds{{protocol=\"amqp/ssl\",port=\"{port}\"}} ");
    let left = page.lines().find_map(|line| line.strip_prefix(&name));
    left.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[test]
fn a_broker_without_a_usable_certificate_does_not_start() {
    let files = Files::new("tls-unusable");
    for (name, text, expected) in [
        ("server.key", "", "server.key: it holds no private key; tls.key needs a private key in PEM"),
        (
            "server.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "server.key: the key is encrypted, and nobody is there to ask for its password",
        ),
        (
            "ca.pem",
            "",
            "ca.pem: it holds no certificate; tls.ca_certificates needs one or more certificates in PEM",
        ),
    ] {
        let path = files.path(name);
        let sound = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        assert!(refusal_to_start(&files).contains(expected), "{}", refusal_to_start(&files));
        fs::write(&path, sound).unwrap();
    }
    // What is wrong with them is reported without a start too, and a file without an end has one.
    let config = files.path("check.toml");
    let certificate = files.path("server.pem");
    for (key, expected) in
        [("/dev/zero", "/dev/zero: it is larger than 16 MiB"), ("ca.pem", "ca.pem: it holds no private key")]
    {
        let key = files.folder.join(key);
        fs::write(&config, format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n")).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_leveret"));
        let output = check.arg("check").arg(&config).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(expected), "{said}");
    }
    fs::remove_file(files.path("server.pem")).unwrap();
    let expected = "server.pem: cannot be read: No such file or directory (os error 2); name a file in \
                    tls.certificate that the broker may read";
    assert!(refusal_to_start(&files).contains(expected), "{}", refusal_to_start(&files));
}

fn refusal_to_start(files: &Files) -> String {
    let path = |name: &str| files.path(name).display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .envs([
            ("LEVERET__TLS__CERTIFICATE", path("server.pem")),
            ("LEVERET__TLS__KEY", path("server.key")),
            ("LEVERET__TLS__CA_CERTIFICATES", path("ca.pem")),
            ("LEVERET__TLS__CLIENT_CERTIFICATES", "optional".to_owned()),
            ("LEVERET__STORE__ENGINE", "memory".to_owned()),
            ("LEVERET__LISTENERS__AMQP__BIND", "127.0.0.1:0".to_owned()),
            ("LEVERET__LISTENERS__AMQPS__BIND", "127.0.0.1:0".to_owned()),
        ])
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn openssl_agrees() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        eprintln!(
            "WARNING: no openssl, so this test is skipped. On Debian or Ubuntu: apt-get install openssl"
        );
        return;
    }
    let files = Files::new("tls-openssl");
    let (_broker, address) = files.start("client_certificates = 'required'");
    let worker = files.authority.sign(&named("worker"));
    fs::write(files.path("worker.pem"), &worker.certificate).unwrap();
    fs::write(files.path("worker.key"), &worker.key).unwrap();
    for (version, shows) in [("-tls1_2", true), ("-tls1_3", true), ("-tls1_2", false), ("-tls1_1", true)] {
        let said = s_client(&files.folder, &address, version, shows);
        let is_verified = said.contains("Verify return code: 0 (ok)") && !said.contains("alert");
        assert_eq!(is_verified, shows && version != "-tls1_1", "{version} {shows}: {said}");
    }
}

fn s_client(folder: &Path, address: &str, version: &str, shows_certificate: bool) -> String {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(["s_client", "-connect", address, "-CAfile", "ca.pem", version]);
    if shows_certificate {
        command.args(["-cert", "worker.pem", "-key", "worker.key"]);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}

#[test]
fn the_load_tool_speaks_tls() {
    let files = Files::new("tls-perf");
    let shown = files.authority.sign(&named("worker"));
    for (name, text) in [("client.pem", &shown.certificate), ("client.key", &shown.key)] {
        fs::write(files.path(name), text).unwrap();
    }
    let (_broker, amqps) = files.start("client_certificates = 'required'");
    let port = amqps.rsplit_once(':').unwrap().1;
    let url = format!("amqps://guest:guest@localhost:{port}");
    let perf = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        let output = command.args(["perf", "--url", &url, "--json"]).args(options).output().unwrap();
        (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    let ca = files.path("ca.pem");
    let (certificate, key) = (files.path("client.pem"), files.path("client.key"));
    let shows = ["--certificate", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let trusting = [&["--ca-certificate", ca.to_str().unwrap()], &shows[..]].concat();
    let load = ["--count", "300", "--size", "0-70k", "--confirm", "50", "--producers", "2"];
    let (code, out, errors) = perf(&[&trusting[..], &load[..]].concat());
    assert_eq!(code, Some(0), "{errors}");
    let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&found["confirmed"], &found["received"]), (&600.into(), &600.into()), "{found:#}");
    let (code, _, errors) = perf(&["--ca-certificate", ca.to_str().unwrap(), "--count", "1"]);
    // Where the refusal is lost on the way, the connection just ends.
    let is_told = ["no TLS with what answers at localhost", "does not speak AMQP"]
        .iter()
        .any(|text| errors.contains(text));
    assert!(code == Some(3) && is_told, "{code:?} {errors}");
    let (code, _, errors) = perf(&load);
    assert!(code == Some(3) && errors.contains("--ca-certificate names one"), "{code:?} {errors}");
    let (code, _, errors) = perf(&["--ca-certificate", "/nonexistent.pem"]);
    assert!(code == Some(2) && errors.contains("/nonexistent.pem can't be used"), "{code:?} {errors}");
}

#[test]
fn commands_reach_a_broker_over_https() {
    let files = Files::new("commands");
    let admin = "[[users]]\nname = 'admin'\npassword = 'p'\ntags = ['administrator']";
    let (broker, _) = files.start(admin);
    let address = broker.address_of_https();
    let url = format!("https://admin:p@localhost:{}", address.rsplit(':').next().unwrap());
    let ping = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        let output = command.args(["ctl", "--url", &url, "ping"]).args(more).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let authority = files.path("ca.pem");
    assert_eq!(ping(&["--ca-certificate", authority.to_str().unwrap()]), (Some(0), String::new()));
    let (code, errors) = ping(&["--ca-certificate", files.path("none.pem").to_str().unwrap()]);
    assert!(code == Some(3) && errors.contains("none.pem can't be used"), "{code:?} {errors}");
    let other = files.path("other.pem");
    fs::write(&other, Authority::new("Others").certificate).unwrap();
    let (code, errors) = ping(&["--ca-certificate", other.to_str().unwrap()]);
    assert!(code == Some(3) && errors.contains("--ca-certificate names one"), "{code:?} {errors}");
}

#[test]
fn a_certificate_that_was_revoked_is_not_let_in() {
    let files = Files::new("tls-revoked");
    let numbered = |serial: u64| {
        let mut params = named("worker");
        params.serial_number = Some(SerialNumber::from(serial));
        client(&files.authority, Some(&files.authority.sign(&params)), BOTH)
    };
    let (good, bad) = (numbered(7), numbered(8));
    let lists = files.path("crl.pem");
    fs::write(&lists, files.authority.revoke(&[8])).unwrap();
    let (broker, address) = files.start(&format!(
        "client_certificates = 'required'\nlogin_from = 'common_name'\nrevocation_lists = {lists:?}"
    ));
    log_in(&address, &good, "EXTERNAL").unwrap();
    assert!(log_in(&address, &bad, "EXTERNAL").is_err());
    broker.wait_for_log("the client's certificate is in tls.revocation_lists");
    // It says itself that the next list was due in 2024.
    broker.wait_for_log("a list of revoked certificates in ");

    // A new list counts without a restart; one that can't be read changes nothing.
    fs::write(&lists, files.authority.revoke(&[7])).unwrap();
    broker.signal("HUP");
    broker.wait_for_log("TLS: new connections get the certificate");
    log_in(&address, &bad, "EXTERNAL").unwrap();
    assert!(log_in(&address, &good, "EXTERNAL").is_err());
    fs::write(&lists, "nothing").unwrap();
    broker.signal("HUP");
    broker.wait_for_log("it holds no list of revoked certificates");
    assert!(log_in(&address, &good, "EXTERNAL").is_err());

    // Without a list of the authority it is unknown.
    let stranger = Authority::new("Others");
    fs::write(&lists, stranger.revoke(&[])).unwrap();
    broker.signal("HUP");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while log_in(&address, &bad, "EXTERNAL").is_ok() {
        assert!(std::time::Instant::now() < deadline, "the list never counted");
    }
    broker.wait_for_log("has no list of the authority");
    drop(broker);

    // `leveret check` looks at them too.
    fs::write(&lists, "nothing").unwrap();
    let config = files.path("leveret.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_leveret")).arg("check").arg(config).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!output.status.success() && said.contains("tls.revocation_lists needs"), "{said}");
}

#[test]
fn stomp_goes_over_tls_and_a_certificate_logs_in() {
    let files = Files::new("tls-stomp");
    let (broker, _) = files.start(
        "client_certificates = 'optional'\nlogin_from = 'common_name'\n[listeners.stomps]\nbind = '127.0.0.1:0'",
    );
    let address = broker.address_of_protocol("stomp/ssl");
    let answer = |identity: Option<&Identity>, login: &str| {
        let mut transport = Tls::to(&address, client(&files.authority, identity, BOTH));
        let id = transport.open().unwrap();
        let connect = format!("CONNECT\naccept-version:1.2\n{login}\n\0DISCONNECT\nreceipt:1\n\n\0");
        transport.send(id, connect.as_bytes());
        let mut answer = String::new();
        transport.stream(id).read_to_string(&mut answer).unwrap();
        answer
    };
    let worker = files.authority.sign(&named("worker"));
    assert!(answer(None, "login:guest\npasscode:guest\n").starts_with("CONNECTED\n"));
    assert!(answer(Some(&worker), "").starts_with("CONNECTED\n"));
    broker.wait_for_log("user=\"worker\"");
    // Who says who it is is not taken for whom its certificate names.
    let refused = answer(Some(&worker), "login:guest\npasscode:wrong\n");
    assert!(refused.starts_with("ERROR\nmessage:Bad CONNECT\n"), "{refused}");
    let nobody = files.authority.sign(&named("nobody"));
    for refused in [answer(Some(&nobody), ""), answer(None, "")] {
        assert!(refused.starts_with("ERROR\nmessage:Bad CONNECT\n"), "{refused}");
    }
}

#[test]
fn the_stream_protocol_goes_over_tls_and_a_certificate_logs_in() {
    let files = Files::new("tls-stream");
    let (broker, _) = files.start(
        "client_certificates = 'optional'\nlogin_from = 'common_name'\n[listeners.stream_tls]\nbind = '127.0.0.1:0'\n\
         [stream]\nadvertised_port = 1\nadvertised_tls_port = 2",
    );
    let address = broker.address_of_protocol("stream/ssl");
    let worker = files.authority.sign(&named("worker"));
    let mut transport = Tls::to(&address, client(&files.authority, Some(&worker), BOTH));
    let id = transport.open().unwrap();
    let frame = |key: u16, fields: &[u8]| {
        let size = (fields.len() as u32 + 4).to_be_bytes();
        [&size[..], &key.to_be_bytes(), &[0, 1], fields].concat()
    };
    transport.send(id, &frame(0x12, &[0, 0, 0, 1]));
    transport.send(id, &frame(0x13, b"\0\0\0\x02\0\x08EXTERNAL\xff\xff\xff\xff"));
    transport.send(id, &frame(0x14, &[0; 8]));
    transport.send(id, &frame(0x15, b"\0\0\0\x03\0\x01/"));
    transport.send(id, &frame(0x16, b"\0\0\0\x04\0\x01\0\0"));
    let mut answer = Vec::new();
    transport.stream(id).read_to_end(&mut answer).unwrap();
    let says = |text: &[u8]| answer.windows(text.len()).any(|window| window == text);
    assert!(says(b"\0\x08EXTERNAL"), "the certificate counts as a login");
    assert!(says(&frame(0x8013, &[0, 0, 0, 2, 0, 1])) && says(b"advertised_port\0\x012"), "{answer:?}");
    broker.wait_for_log("user=\"worker\"");
}

#[test]
fn websocket_goes_over_tls() {
    let files = Files::new("tls-websocket");
    let (broker, _) = files.start("[listeners.websockets]\nbind = '127.0.0.1:0'");
    let address = broker.address_of("wss").trim_end_matches("/ws").to_owned();
    let mut transport = Tls::to(&address, client(&files.authority, None, BOTH));
    let id = transport.open().unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{address}/ws"), transport.stream(id)).unwrap();
    for ping in [&b"one"[..], b"two"] {
        socket.send(tungstenite::Message::Ping(ping.into())).unwrap();
        assert_eq!(socket.read().unwrap(), tungstenite::Message::Pong(ping.into()));
    }
    socket.send(tungstenite::Message::binary(&b"AMQP\0\0\x09\x01"[..])).unwrap();
    let start = socket.read().unwrap().into_data();
    assert_eq!(
        start[..11],
        [1, 0, 0, start[3], start[4], start[5], start[6], 0, 10, 0, 10],
        "connection.start"
    );
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    broker.wait_for_log("the peer is gone");
}
