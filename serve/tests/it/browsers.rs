//! Pages in browsers, and clients that call the server by another name.

use crate::support::{Reply, Served, asking, limits, post, serve, serve_with};

const ORIGIN: &str = "http://localhost:3000";

fn ask(served: &Served, method: &str, headers: &str) -> Reply {
    served.raw(format!("{method} /v1/chat/completions HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").as_bytes())
}

fn preflight(served: &Served, origin: &str) -> Reply {
    let more =
        "Access-Control-Request-Headers: authorization,x-stainless-os\r\nAccess-Control-Request-Private-Network: true";
    ask(
        served,
        "OPTIONS",
        &format!("Host: 127.0.0.1\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n{more}\r\n"),
    )
}

#[test]
fn pages_of_allowed_origins_may_ask() {
    for key in [None, Some("secret".to_owned())] {
        let has_key = key.is_some();
        let served =
            serve_with(|settings| (settings.cors_origins, settings.api_key) = (vec![ORIGIN.into()], key), limits());
        let answer = preflight(&served, ORIGIN);
        assert_eq!(answer.status, 200, "without a key, which browsers do not send here");
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
        assert!(answer.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
        assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,x-stainless-os"));
        assert_eq!(answer.header("access-control-allow-private-network"), Some("true"));
        let body = asking("hello").to_string();
        let sent = post("application/json", body.len()).replace("Host:", &format!("Origin: {ORIGIN}\r\nHost:"));
        let answer = served.raw(format!("{sent}{body}").as_bytes());
        // An error is told to the page, too.
        assert_eq!(answer.status, if has_key { 401 } else { 200 });
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
        let other = preflight(&served, "https://example.com");
        assert_eq!(other.error(), (403, "invalid_request_error".into(), "origin_not_allowed".into()));
        assert_eq!(other.header("access-control-allow-origin"), None);
    }
    let all = serve_with(|settings| settings.cors_origins = vec!["*".into()], limits());
    assert_eq!(preflight(&all, "https://example.com").header("access-control-allow-origin"), Some("*"));
}

#[test]
fn pages_of_others_may_not_and_are_told_the_flag() {
    let served = serve(limits());
    let answer = preflight(&served, ORIGIN);
    assert_eq!(answer.error(), (403, "invalid_request_error".into(), "origin_not_allowed".into()));
    assert!(answer.message().contains("--cors http://localhost:3000"), "{}", answer.message());
    assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
    assert_eq!(ask(&served, "OPTIONS", "Host: localhost\r\n").status, 405, "no preflight");
}

#[test]
fn other_names_are_answered_where_they_are_allowed() {
    let get = |served: &Served, host: &str| {
        served.raw(format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
    };
    let closed = serve(limits());
    let refused = get(&closed, "host.docker.internal:8000");
    assert_eq!(refused.error(), (403, "invalid_request_error".into(), "host_not_allowed".into()));
    let message = refused.message();
    assert!(message.contains("--allow-host host.docker.internal") && message.contains("--api-key-file"), "{message}");
    let open =
        serve_with(|settings| settings.allowed_hosts = vec!["host.docker.internal".into(), "box".into()], limits());
    for host in ["host.docker.internal:8000", "Host.Docker.Internal", "box.:80", "localhost", "127.0.0.1:1"] {
        assert_eq!(get(&open, host).status, 200, "{host}");
    }
    for host in ["host.docker.internal.example.com", "docker.internal", "a box"] {
        assert_eq!(get(&open, host).status, 403, "{host}");
    }
}
