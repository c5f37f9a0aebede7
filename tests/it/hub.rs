//! A hub id in place of a directory: downloaded from a server on this machine, it converts to the very same files.
//!
//! A thread serves the files; a mock server such as `wiremock` would need an async runtime, which nothing else here does.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{code, fixture, mlxport, stderr};

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";
const FILES: [&str; 2] = ["config.json", "model.safetensors"];

/// Serves one repository, `someone/tiny`, out of a directory; returns the endpoint.
fn serve(directory: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let lines = BufReader::new(stream.try_clone().expect("cloned")).lines();
            let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let request = head.first().cloned().unwrap_or_default();
            let (status, etag, body) = answer(&directory, &request);
            let len = body.len();
            let body = if request.starts_with("HEAD") { Vec::new() } else { body };
            let head = format!(
                "HTTP/1.1 {status} X\r\nConnection: close\r\nETag: \"{etag}\"\r\nContent-Length: {len}\r\n\r\n"
            );
            // The client may have gone: nobody is left to tell.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    endpoint
}

fn answer(directory: &Path, request: &str) -> (u16, String, Vec<u8>) {
    if request.contains("/api/models/someone/tiny/revision/main") {
        let siblings = FILES.map(|name| serde_json::json!({ "rfilename": name }));
        let info = serde_json::json!({ "sha": COMMIT, "siblings": siblings });
        return (200, "info".into(), info.to_string().into_bytes());
    }
    let name = FILES.iter().find(|name| request.contains(&format!("/someone/tiny/resolve/{COMMIT}/{name}")));
    match name {
        Some(name) => (200, format!("etag-of-{name}"), fs::read(directory.join(name)).expect("readable")),
        None => (404, String::new(), Vec::new()),
    }
}

/// Runs the binary with a hub of its own and nothing of the caller's.
fn with_hub(endpoint: &str, cache: &Path, arguments: &[&OsStr]) -> Output {
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("mlxport"))
        .args(arguments)
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HUB_CACHE", cache)
        .env("HF_HOME", cache)
        .env_remove("HF_TOKEN")
        .env_remove("HF_HUB_OFFLINE")
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("it starts")
}

#[test]
fn a_hub_id_converts_to_what_its_directory_converts_to() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| home.path().join(name);
    let source = fixture("tiny-small").join("checkpoint");
    let endpoint = serve(source.clone());
    let convert = OsStr::new("convert");
    let output = with_hub(&endpoint, &at("cache"), &[convert, OsStr::new("someone/tiny"), at("hub").as_os_str()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(code(&mlxport([convert, source.as_os_str(), at("directory").as_os_str()])), 0);
    let mut names = 0;
    for entry in fs::read_dir(at("directory")).expect("listed").flatten() {
        let other = at("hub").join(entry.file_name());
        assert_eq!(fs::read(entry.path()).expect("read"), fs::read(&other).expect("read"), "{}", other.display());
        names += 1;
    }
    assert!(names >= 4);
    // The second time nothing is fetched; without a network it still works.
    let inspect = [OsStr::new("inspect"), OsStr::new("someone/tiny@main")];
    let output = with_hub(&endpoint, &at("cache"), &inspect);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("recipe deepseek-ocr: fits"));
}

#[test]
fn a_repository_that_is_not_there_is_an_input_error() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let endpoint = serve(fixture("tiny-small").join("checkpoint"));
    let target = home.path().join("out");
    let arguments = [OsStr::new("convert"), OsStr::new("someone/else"), target.as_os_str()];
    let output = with_hub(&endpoint, &home.path().join("cache"), &arguments);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("someone/else"), "{}", stderr(&output));
    assert!(!target.exists());
}
