//! Many clients at once, some of them slow or gone midway: none holds up another, and each hears its own text. `cargo xtask openai --load` does
//! so for minutes, with the binary and a model.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use mlxport_serve::Limits;
use serde_json::json;

use crate::support::{Served, asking, asking_with, limits, post, reply, serve, wait_for};

/// Sends a body's head and first bytes.
fn slow_body(served: &Served, sent: usize) -> TcpStream {
    let mut stream = served.connect();
    stream.write_all(post("application/json", 100_000).as_bytes()).expect("sent");
    stream.write_all(&vec![b' '; sent]).expect("sent");
    stream
}

#[test]
fn slow_bodies_hold_no_one_up() {
    let limits =
        Limits { body_byte_len: 200_000, bodies_byte_len: 200_000, wait_time: Duration::from_secs(1), ..limits() };
    let served = serve(limits);
    let slow: Vec<_> = (0..100).map(|_| slow_body(&served, 100)).collect();
    let begun = Instant::now();
    assert_eq!(served.post(&asking("hello")).text(), "hello");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // Bodies that fill the memory are waited for, not for long.
    let full: Vec<_> = (0..2).map(|_| slow_body(&served, 90_000)).collect();
    wait_for("an answer that says so", || {
        let busy = served.post(&asking(&"word ".repeat(4000)));
        assert!([400, 503].contains(&busy.status), "{busy:?}");
        if busy.status == 503 {
            assert_eq!(busy.error(), (503, "server_error".into(), "busy".into()));
            assert_eq!(busy.header("retry-after"), Some("5"));
        }
        busy.status == 503
    });
    drop((slow, full));
    wait_for("the memory is free again", || served.post(&asking(&"word ".repeat(4000))).status == 400);
}

#[test]
fn bodies_that_stall_and_drip_are_ended() {
    let time = Duration::from_millis(400);
    let served = serve(Limits { body_time: time, body_stall_time: time / 4, ..limits() });
    let begun = Instant::now();
    assert_eq!(reply(&mut slow_body(&served, 100)).error().0, 408, "it stalls");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let mut drips = slow_body(&served, 1);
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(20));
        if drips.write_all(b" ").is_err() {
            break;
        }
    }
    assert!(begun.elapsed() > time);
    assert!([0, 408].contains(&reply(&mut drips).status), "however it drips");
}

#[test]
fn who_finds_no_seat_is_told_to_come_back() {
    let served = serve(Limits { connections: 2, wait_time: Duration::from_millis(100), ..limits() });
    let idle: Vec<_> = (0..2).map(|_| served.connect()).collect();
    wait_for("503", || {
        let busy = served.get("/health");
        if busy.status == 503 {
            assert_eq!(busy.error(), (503, "server_error".into(), "busy".into()));
            assert_eq!(busy.header("retry-after"), Some("5"));
        }
        busy.status == 503
    });
    drop(idle);
    wait_for("a free seat", || served.get("/health").status == 200);
}

#[test]
fn a_stream_begins_at_once_and_is_never_silent() {
    let served = serve(Limits { batch: 1, ..limits() });
    let first = served.begin(&asking_with("endless words", json!({ "stream": true })));
    wait_for("a text", || served.get("/health").json()["running"] == json!(1));
    let begun = Instant::now();
    let mut queued = served.begin(&asking_with("hello", json!({ "stream": true })));
    let mut head = [0; 512];
    let read = queued.read(&mut head).expect("the head");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    // While it waits for the first one.
    let mut text = String::new();
    while !text.contains("\n: still at it\n\n") && !text.contains("\r\n: still at it\n\n") {
        let mut more = [0; 512];
        let read = queued.read(&mut more).expect("a comment");
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&more[..read]));
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // What is wrong with it now is an event.
    let mut wrong = served.begin(&asking_with("refuse this", json!({ "stream": true })));
    std::thread::sleep(Duration::from_millis(500));
    drop(first);
    let rest = reply(&mut queued).head;
    assert!(rest.contains("\"content\":\"llo\"") && rest.contains("data: [DONE]"), "{rest}");
    let wrong = reply(&mut wrong);
    assert_eq!(wrong.status, 200);
    assert!(wrong.body.contains("\"code\":\"unusable_prompt\"") && !wrong.body.contains("[DONE]"), "{wrong:?}");
}

/// What a client of the crowd does.
fn client(served: &Served, at: usize) {
    for request in 0..6 {
        let text = format!("client {at} asks {request} for its own text");
        let mut stream = served.begin(&asking_with(&text, json!({ "stream": at.is_multiple_of(2) })));
        match at {
            // Gone before an answer, or with some of it.
            0..3 => continue,
            3..6 => {
                let _ = stream.read(&mut [0; 40]);
                continue;
            }
            6..8 => std::thread::sleep(Duration::from_millis(300)),
            8..10 => {
                drop(slow_body(served, 2000));
                std::thread::sleep(Duration::from_millis(100));
            }
            _ => {}
        }
        let answer = reply(&mut stream);
        let said = if at.is_multiple_of(2) { crate::clients::streamed(&answer).0 } else { answer.text() };
        assert_eq!(said, text);
    }
}

#[test]
fn sixty_four_clients_each_hear_their_own_text() {
    let served = serve(Limits { queue: 400, ..limits() });
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..64)
            .map(|at| {
                scope.spawn({
                    let served = &served;
                    move || client(served, at)
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("its own texts"));
    });
    wait_for("the end of all", || {
        let health = served.get("/health").json();
        (&health["running"], &health["waiting"]) == (&json!(0), &json!(0))
    });
    let count = |name: &str| served.metric(&format!("mlxport_texts_{name}_total"));
    assert!(count("finished") >= 58 * 6 && count("failed") == 0, "{} {}", count("finished"), count("failed"));
}
