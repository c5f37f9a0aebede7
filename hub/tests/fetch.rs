//! Whole downloads from a local server: resumed, checked, and with the token kept from strangers.
//!
//! The server writes its answers as bytes, for some of them no HTTP library sends: a body that ends before its `Content-Length`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mlxport_hub::{HubId, Settings, Silent, fetch};

const COMMIT: &str = "0123456789012345678901234567890123456789";
/// SHA-256 of `abc`, the weights' content.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// What the server does wrong.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    evil: bool,
    cut: bool,
    wrong_bytes: bool,
    status: Option<u16>,
    fail_first: bool,
}

/// Serves one repository from two origins; returns the endpoint and every request's head.
fn serve(faults: Faults) -> (String, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let cdn = TcpListener::bind("127.0.0.1:0").expect("bound");
    let hub = TcpListener::bind("127.0.0.1:0").expect("bound");
    let cdn_at = format!("http://{}", cdn.local_addr().expect("address"));
    let endpoint = format!("http://{}", hub.local_addr().expect("address"));
    for (listener, who) in [(hub, "hub"), (cdn, "cdn")] {
        let (seen, cdn_at) = (Arc::clone(&seen), cdn_at.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let head: Vec<String> = BufReader::new(stream.try_clone().expect("cloned"))
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let head = head.join("\n");
                let count = {
                    let mut seen = seen.lock().expect("lock");
                    seen.push(format!("{who} {head}"));
                    seen.len()
                };
                stream.write_all(&answer(faults, who, &head, count, &cdn_at)).expect("written");
            }
        });
    }
    (endpoint, seen)
}

fn answer(faults: Faults, who: &str, head: &str, count: usize, cdn_at: &str) -> Vec<u8> {
    let reply = |status: u16, more: &str, body: &str| {
        let len =
            if more.contains("Content-Length") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let body = if head.starts_with("HEAD") { "" } else { body };
        format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{len}{more}\r\n{body}").into_bytes()
    };
    if let Some(status) = faults.status {
        return reply(status, "", "");
    }
    if faults.fail_first && count == 1 {
        return reply(500, "", "");
    }
    if who == "cdn" {
        let body = if faults.wrong_bytes { "abd" } else { "abc" };
        return match head.to_ascii_lowercase().contains("range: bytes=2-") {
            true => reply(206, "Content-Range: bytes 2-2/3\r\n", &body[2..]),
            false if faults.cut => reply(200, "Content-Length: 3\r\n", &body[..2]),
            false => reply(200, "", body),
        };
    }
    if head.contains("/api/models/a/b/revision/main") {
        let evil = if faults.evil { r#"{"rfilename":"../evil"},"# } else { "" };
        let names = r#"{"rfilename":"config.json"},{"rfilename":"x.py"},{"rfilename":"model.safetensors"}"#;
        return reply(200, "", &format!(r#"{{"sha":"{COMMIT}","siblings":[{evil}{names}]}}"#));
    }
    if head.contains("config.json") {
        return reply(200, "ETag: \"c0\"\r\n", "{}");
    }
    if head.contains("model.safetensors") {
        let more = format!("X-Linked-Etag: \"{ABC}\"\r\nX-Linked-Size: 3\r\nLocation: {cdn_at}/blob?sig=1\r\n");
        return reply(302, &more, "");
    }
    reply(404, "", "")
}

fn settings(endpoint: &str, cache: &Path) -> Settings {
    Settings {
        endpoint: endpoint.to_owned(),
        cache: cache.to_owned(),
        token: Some("hf_secret".to_owned()),
        offline: false,
        silence: Duration::from_secs(5),
        retries: 1,
        pause: Duration::from_millis(1),
    }
}

fn id() -> HubId {
    HubId { repo: "a/b".into(), revision: "main".into() }
}

#[test]
fn whole_then_nothing_then_offline_and_the_token_stays_home() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (endpoint, seen) = serve(Faults { fail_first: true, ..Faults::default() });
    let mut settings = settings(&endpoint, dir.path());
    let snapshot = fetch(&id(), &settings, &Silent).expect("fetched");
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).expect("read"), b"abc");
    assert!(!snapshot.join("x.py").exists(), "code stays where it is");
    let first = seen.lock().expect("lock").clone();
    for request in &first {
        assert_eq!(request.contains("hf_secret"), request.starts_with("hub"), "{request}");
    }
    assert!(first.iter().any(|request| request.starts_with("cdn")));
    fetch(&id(), &settings, &Silent).expect("again");
    assert_eq!(seen.lock().expect("lock").len(), first.len() + 1, "only the repository's description is asked for");
    settings.offline = true;
    settings.endpoint = "http://127.0.0.1:1".into();
    assert_eq!(fetch(&id(), &settings, &Silent).expect("from the cache"), snapshot);
    std::fs::remove_file(snapshot.join("config.json")).expect("removed");
    assert!(fetch(&id(), &settings, &Silent).expect_err("incomplete").to_string().contains("config.json"));
}

#[test]
fn a_cut_transfer_is_resumed_where_it_stopped() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (endpoint, seen) = serve(Faults { cut: true, ..Faults::default() });
    let mut settings = settings(&endpoint, dir.path());
    settings.retries = 0;
    fetch(&id(), &settings, &Silent).expect_err("cut");
    let snapshot = fetch(&id(), &settings, &Silent).expect("resumed");
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).expect("read"), b"abc");
    let seen = seen.lock().expect("lock").join("\n").to_ascii_lowercase();
    assert!(seen.contains("range: bytes=2-"), "{seen}");
}

#[test]
fn faults_are_named_and_leave_no_file() {
    for (faults, expected) in [
        (Faults { evil: true, ..Faults::default() }, "../evil"),
        (Faults { wrong_bytes: true, ..Faults::default() }, ABC),
        (Faults { status: Some(401), ..Faults::default() }, "HF_TOKEN"),
        (Faults { status: Some(404), ..Faults::default() }, "not found"),
        (Faults { status: Some(429), ..Faults::default() }, "too many requests"),
        (Faults { status: Some(503), ..Faults::default() }, "503"),
    ] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (endpoint, _) = serve(faults);
        let text = fetch(&id(), &settings(&endpoint, dir.path()), &Silent).expect_err("refused").to_string();
        assert!(text.contains(expected), "{faults:?}: {text}");
        let snapshot = dir.path().join("models--a--b/snapshots").join(COMMIT);
        assert!(!snapshot.join("model.safetensors").exists(), "{faults:?}");
    }
}

#[test]
fn an_endpoint_that_is_down_is_an_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let endpoint = format!("http://{}", listener.local_addr().expect("address"));
    drop(listener);
    let text = fetch(&id(), &settings(&endpoint, dir.path()), &Silent).expect_err("down").to_string();
    assert!(text.contains(&endpoint) && text.contains("HF_ENDPOINT"), "{text}");
}
