//! Clients that want too much, are slow, or go away; and the server's end.

use std::{
    io::{Read, Write},
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use mlxport_serve::{Limits, Log, Server};
use serde_json::json;

use crate::support::{Seen, asking, asking_with, data, limits, post, prompter, reply, serve, settings, wait_for};

fn endless() -> serde_json::Value {
    asking_with("endless words", json!({ "stream": true }))
}

#[test]
fn bodies_and_headers_that_are_too_long_are_refused() {
    let served = serve(Limits { body_byte_len: 10_000, ..limits() });
    let large = format!("{{\"model\": \"{}\"}}", "x".repeat(30_000));
    let refused = served.post_bytes("application/json", large.as_bytes());
    assert_eq!(refused.error(), (413, "invalid_request_error".into(), "request_too_large".into()));
    assert_eq!(refused.header("connection"), Some("close"));
    // A claim alone is enough, and none is needed.
    let claim = served
        .raw(post("application/json", 1 << 40).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").as_bytes());
    assert_eq!(claim.status, 413, "{claim:?}");
    let head = post("application/json", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let chunked = format!("{head}{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    assert_eq!(served.raw(chunked.as_bytes()).status, 413);
    let long = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(100_000));
    assert!([0, 431].contains(&served.raw(long.as_bytes()).status));
    let many = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Many: x\r\n".repeat(500));
    assert!([0, 431].contains(&served.raw(many.as_bytes()).status));
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ] {
        assert!([0, 400, 505].contains(&served.raw(nonsense).status), "{nonsense:?}");
    }
    assert_eq!(served.post(&asking("still here")).text(), "still here");
}

#[test]
fn slow_clients_are_not_waited_for() {
    let time = Duration::from_millis(300);
    let served = serve(Limits { header_time: time, body_time: time, connections: 4, ..limits() });
    // More than there are seats for: they are let go, and others get theirs.
    let mut slow: Vec<_> = (0..6).map(|_| served.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /health HTT").expect("sent");
    }
    assert_eq!(served.get("/health").status, 200);
    for stream in &mut slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    let mut half = served.connect();
    half.write_all(post("application/json", 100).as_bytes()).expect("sent");
    half.write_all(b"{\"model\"").expect("sent");
    assert_eq!(reply(&mut half).error().0, 408);
}

#[test]
fn images_with_too_many_pixels_are_refused_before_they_are_decoded() {
    let served = serve(Limits { image_pixels: 1000, ..limits() });
    let bytes = std::fs::read(data("pages/small.png")).expect("a page");
    let url =
        format!("data:image/png;base64,{}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes));
    let parts = json!([{ "type": "image_url", "image_url": { "url": url } }]);
    let refused = served.post(&json!({ "model": "echo model", "messages": [{ "role": "user", "content": parts }] }));
    assert_eq!(refused.error(), (400, "invalid_request_error".into(), "image_too_large".into()));
    assert!(refused.message().contains("at most 1000 pixels"), "{}", refused.message());
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let served = serve(Limits { batch: 1, queue: 1, ..limits() });
    let (first, second) = (served.begin(&endless()), served.begin(&endless()));
    wait_for("one running, one waiting", || {
        let health = served.get("/health").json();
        health["running"] == json!(1) && health["waiting"] == json!(1)
    });
    let refused = served.post(&asking("hello"));
    assert_eq!(refused.error(), (429, "rate_limit_error".into(), "queue_full".into()));
    assert_eq!(refused.header("retry-after"), Some("5"));
    // One that waits goes away: its place is free at once. Then the one that runs.
    drop(second);
    wait_for("a free place", || served.get("/health").json()["waiting"] == json!(0));
    drop(first);
    assert_eq!(served.post(&asking("hello")).text(), "hello");
    assert_eq!(served.seen.side_by_side.load(SeqCst), 1);
}

#[test]
fn who_goes_away_ends_its_text() {
    let served = serve(limits());
    for (at, body) in [endless(), asking("endless words")].iter().enumerate() {
        let stream = served.begin(body);
        wait_for("joining", || served.seen.joined.lock().expect("whole").len() == at + 1);
        drop(stream);
        wait_for("leaving", || served.seen.left.load(SeqCst) == at + 1);
    }
    assert_eq!(served.metric("mlxport_texts_cancelled_total"), 2);
    assert_eq!(served.metric("mlxport_requests_running"), 0);
    assert!(
        served.seen.log.lock().expect("whole").iter().any(|log| matches!(log, Log::Made { finish: "cancelled", .. }))
    );
}

#[test]
fn a_long_prompt_holds_up_neither_texts_nor_goodbyes_nor_the_end() {
    let mut served = serve(Limits { grace: Duration::from_millis(200), ..limits() });
    let mut under_way = served.begin(&endless());
    wait_for("a text", || served.seen.side_by_side.load(SeqCst) == 1);
    let begun = |count: usize| served.seen.begun.load(SeqCst) == count;
    // As many pieces as tokens, of some milliseconds each.
    let long = asking(&"word ".repeat(600));
    let leaves = served.begin(&long);
    wait_for("a prompt being read", || begun(2));
    let made = served.metric("mlxport_completion_tokens_total");
    wait_for("more tokens meanwhile", || served.metric("mlxport_completion_tokens_total") > made + 10);
    drop(leaves);
    wait_for("its client's going away being seen", || served.seen.left.load(SeqCst) == 1);
    let mut stays = served.begin(&long);
    wait_for("the next prompt being read", || begun(3));
    served.stopper.stop();
    served.end().expect("a clean end");
    assert_eq!(served.seen.side_by_side.load(SeqCst), 1, "no long prompt was read to its end");
    assert_eq!(reply(&mut stays).error(), (503, "server_error".into(), "shutting_down".into()));
    assert!(reply(&mut under_way).body.contains("\"code\":\"shutting_down\""));
}

#[test]
fn told_to_stop_it_finishes_what_is_under_way() {
    let mut served = serve(limits());
    let mut under_way = served.begin(&asking_with("endless words", json!({ "max_tokens": 100 })));
    let mut idle = served.connect();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    wait_for("joining", || served.seen.joined.lock().expect("whole").len() == 1);
    served.stopper.stop();
    assert_eq!(reply(&mut under_way).json()["usage"]["completion_tokens"], json!(100));
    assert!(reply(&mut idle).body.contains("\"ok\""), "kept connections are closed");
    served.end().expect("a clean end");
    assert!(std::net::TcpStream::connect(served.address).is_err());
}

#[test]
fn what_takes_too_long_is_cut_off_and_told() {
    let mut served = serve(Limits { batch: 1, grace: Duration::from_millis(200), ..limits() });
    let mut streams = [served.begin(&endless()), served.begin(&asking("endless words")), served.begin(&endless())];
    wait_for("all to come", || {
        let health = served.get("/health").json();
        health["running"] == json!(1) && health["waiting"] == json!(2)
    });
    served.stopper.stop();
    served.end().expect("a clean end");
    let mut told = 0;
    for stream in &mut streams {
        let answer = reply(stream);
        told += usize::from(answer.body.contains("\"code\":\"shutting_down\""));
        assert!(!answer.body.contains("[DONE]"));
    }
    assert_eq!(told, 3);
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let served = serve(limits());
    let seen = std::sync::Arc::new(Seen::default());
    let mut taken = settings(limits(), &seen);
    taken.address = served.address;
    let error = Server::bind(taken, prompter()).err().expect("taken").to_string();
    assert!(error.starts_with(&served.address.to_string()), "{error}");
}
