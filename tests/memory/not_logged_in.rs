//! Clients that have not logged in: what the broker keeps for them, and what that costs others.

use leveret_test_support::amqp_client::Client;
use leveret_test_support::in_memory::InMemory;

/// A password that is as long as tokens are, and longer than a frame could be in the first versions of AMQP.
#[test]
fn a_long_token_logs_in() {
    let mut broker = InMemory::new();
    let token = "t".repeat(60_000);
    let (status, answer) =
        broker.call("PUT", "/api/users/token", &format!("{{\"password\":\"{token}\",\"tags\":\"\"}}"));
    assert_eq!(status, 201, "{answer}");
    let all = r#"{"configure":".*","write":".*","read":".*"}"#;
    assert_eq!(broker.call("PUT", "/api/permissions/%2F/token", all).0, 201);
    Client::log_in(&mut broker, "PLAIN", &format!("\0token\0{token}")).unwrap();
    let too_long = "t".repeat(70_000);
    let refused = Client::log_in(&mut broker, "PLAIN", &format!("\0token\0{too_long}"));
    assert!(refused.is_err_and(|gone| gone.0.contains("frame_too_large")));
}
