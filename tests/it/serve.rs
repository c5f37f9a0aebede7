//! `mlxport serve`, end to end: a small random model with the release's vocabulary says over HTTP what `mlxport ocr` writes, and the server
//! ends as told.
#![cfg(unix)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{
    code, mlxport, schemas, stderr,
    vocabulary::{data, model},
};

/// A server under test; killed when dropped.
struct Served {
    child: Child,
    address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(model: &Path, more: &[&str]) -> Served {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("mlxport"));
    command.args(["serve", "--json", "--mode", "tiny", "--model"]).arg(model);
    command.arg("--tokenizer").arg(data("tokenizer.json")).args(more);
    if !more.contains(&"--port") {
        command.args(["--port", "0"]);
    }
    // As good as unset.
    command.env("MLXPORT_API_KEY", "");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("it says where it is");
    let object: Value = serde_json::from_str(&line).expect("one object");
    schemas::conforms("serve", &object);
    assert_eq!((&object["ok"], &object["model"]), (&json!(true), &json!("model")), "{object}");
    Served { child, address: object["address"].as_str().expect("an address").to_owned() }
}

impl Served {
    /// Sends a request; the answer is in the stream.
    fn begin(&self, body: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let body = body.to_string();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json";
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("sent");
        stream
    }

    fn whole(&self, body: &Value) -> Value {
        let text = answer(self.begin(body));
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        serde_json::from_str(body).expect("JSON")
    }

    /// Tells it to stop and returns its exit code.
    fn stop(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("runs").success());
        self.child.wait().expect("ended").code()
    }
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

fn reading(page: &str, more: Value) -> Value {
    reading_all(&[page], more)
}

/// All pages in one prompt.
fn reading_all(pages: &[&str], more: Value) -> Value {
    let image = |page: &&str| {
        let url = STANDARD.encode(std::fs::read(data("pages").join(page)).expect("a page"));
        json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{url}") } })
    };
    let text = json!({ "type": "text", "text": "Free OCR. " });
    let parts: Vec<Value> = pages.iter().map(image).chain([text]).collect();
    let mut body = json!({ "model": "model", "messages": [{ "role": "user", "content": parts }], "max_tokens": 24 });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

/// What `mlxport ocr` says of these pages in one prompt.
fn written(model: &Path, pages: &[&str]) -> Value {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let prompt = format!("{}Free OCR. ", "<image>\n".repeat(pages.len()));
    let mut args: Vec<String> = pages.iter().map(|page| text(&data("pages").join(page))).collect();
    args.extend(["--model".to_owned(), text(model), "--tokenizer".to_owned(), text(&data("tokenizer.json"))]);
    args.extend(
        ["--mode", "tiny", "--together", "--prompt", &prompt, "--max-tokens", "24", "--json"].map(str::to_owned),
    );
    let output = mlxport(std::iter::once("ocr".to_owned()).chain(args));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let object: Value = serde_json::from_slice(&output.stdout).expect("one object");
    object["pages"][0].clone()
}

#[test]
fn the_server_says_what_ocr_writes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let model = model(dir.path());
    let (one, two) = (written(&model, &["small.png"]), written(&model, &["small.png", "gray.png"]));
    let (text, tokens) = (&one["text"], one["tokens"].as_array().expect("tokens").len());
    assert!(text.as_str().is_some_and(|text| text.len() > 20) && tokens > 1, "{one}");

    let mut served = serve(&model, &[]);
    let markdown = served.whole(&reading("small.png", json!({ "format": "markdown" })));
    assert_eq!(&markdown["choices"][0]["message"]["content"], text);
    assert_eq!(markdown["usage"]["completion_tokens"], json!(tokens));
    let both = served.whole(&reading_all(&["small.png", "gray.png"], json!({ "format": "markdown" })));
    assert_ne!(two["text"], *text, "two images are another page");
    assert_eq!(both["choices"][0]["message"]["content"], two["text"], "two images in one prompt");
    let read = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().expect("a number");
    // The second one's 8 rows of 8 tokens, their ends, its separator, and the line feed behind it.
    assert_eq!(read(&both) - read(&markdown), 8 * 9 + 1 + 1);
    let turned = served.whole(&reading_all(&["gray.png", "small.png"], json!({ "format": "markdown" })));
    assert_ne!(turned["choices"][0]["message"]["content"], two["text"], "the order counts");
    let plain = served.whole(&reading("small.png", json!({})));
    let plain = plain["choices"][0]["message"]["content"].as_str().expect("a text");
    assert_eq!(mlxport_ocr::grounding::markdown(plain).text, text.as_str().expect("a text"));
    let streamed = answer(served.begin(&reading("small.png", json!({ "stream": true }))));
    let chunks =
        streamed.split("data: ").filter_map(|event| serde_json::from_str::<Value>(event.split("\n\n").next()?).ok());
    let pieces: Vec<String> =
        chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
    assert!(pieces.len() > 2, "{streamed}");
    assert_eq!(pieces.concat(), plain);
    // Drawn by a seed, beside another text.
    let drawn = json!({ "temperature": 1.5, "seed": 5 });
    let beside = served.begin(&reading("gray.png", json!({})));
    let draw = || served.whole(&reading("small.png", drawn.clone()))["choices"][0]["message"]["content"].clone();
    let first = draw();
    assert!(answer(beside).starts_with("HTTP/1.1 200"));
    assert_ne!(first, json!(plain));
    assert_eq!(draw(), draw());
    let without = json!({ "model": "model", "messages": [{ "role": "user", "content": "a" }], "max_tokens": 2 });
    assert_eq!(served.whole(&without)["usage"]["completion_tokens"], json!(2));

    let long = json!({ "max_tokens": 150, "no_repeat_ngram_size": 0, "stream": true });
    let mut under_way = served.begin(&reading("gray.png", long));
    under_way.read_exact(&mut [0; 64]).expect("it has begun");
    assert_eq!(served.stop(), Some(0), "a clean end");
    assert!(answer(under_way).contains("data: [DONE]"), "what was under way is finished");

    // The same prompt read piece by piece, beside another text; in bfloat16 its tokens may be others.
    let mut served = serve(&model, &["--prompt-chunk", "16", "--host", "localhost"]);
    let beside = served.begin(&reading("gray.png", json!({})));
    let pieces = served.whole(&reading_all(&["small.png", "gray.png"], json!({ "max_tokens": 2 })));
    assert_eq!((read(&pieces), &pieces["usage"]["completion_tokens"]), (read(&both), &json!(2)));
    assert!(answer(beside).starts_with("HTTP/1.1 200"));

    // Killed in the middle, it is back at once at the same port, and a client that asks again gets what it asked for.
    let mut under_way = served.begin(&reading("small.png", json!({ "max_tokens": 8192, "stream": true })));
    under_way.read_exact(&mut [0; 64]).expect("it has begun");
    served.child.kill().expect("killed");
    served.child.wait().expect("ended");
    let port = served.address.rsplit(':').next().expect("a port").to_owned();
    let mut served = serve(&model, &["--port", &port]);
    assert_eq!(served.whole(&reading("small.png", json!({})))["choices"][0]["message"]["content"], json!(plain));
    let most = served.whole(&reading("small.png", json!({ "max_tokens": 8192, "no_repeat_ngram_size": 0 })));
    assert_eq!(most["choices"][0]["finish_reason"], json!("length"), "as many as the model's context allows");
    assert_eq!(served.stop(), Some(0));
}

#[test]
fn what_cannot_be_served_is_exit_code_2() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let missing = dir.path().join("none").to_string_lossy().into_owned();
    let tokenizer = data("tokenizer.json").to_string_lossy().into_owned();
    for args in [
        vec!["serve", "--model", &missing],
        vec!["serve", "--model", &missing, "--tokenizer", &tokenizer],
        vec!["serve", "--model", &missing, "--host", "example.com"],
        vec!["serve", "--model", &missing, "--max-body", "1 potato"],
        vec!["serve", "--model", &missing, "--batch", "0"],
        vec!["serve", "--model", &missing, "--cors", "localhost:3000"],
        vec!["serve", "--model", &missing, "--allow-host", "http://a"],
    ] {
        let output = mlxport(&args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
    }
    let output = mlxport(["serve", "--model", &missing, "--json"]);
    assert_eq!(code(&output), 2);
    schemas::conforms("serve", &serde_json::from_slice(&output.stdout).expect("one object"));
}
