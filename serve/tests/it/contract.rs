//! What OpenAI's clients count on: shapes, statuses, streams; and what is asked for reaches the generator.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mlxport_serve::NoRepeat;
use serde_json::{Value, json};

use crate::support::{asking, asking_with, data, limits, reply, serve, serve_with, wait_for};

fn page(name: &str) -> Value {
    let bytes = std::fs::read(data("pages").join(name)).expect("a page");
    json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{}", STANDARD.encode(bytes)) } })
}

fn with_images(images: &[Value], text: &str) -> Value {
    let mut parts = images.to_vec();
    parts.push(json!({ "type": "text", "text": text }));
    json!({ "model": "echo model", "messages": [{ "role": "user", "content": parts }] })
}

#[test]
fn a_whole_answer_has_its_shape() {
    let served = serve(limits());
    let answer = served.post(&asking("Convert the document to markdown."));
    assert_eq!(answer.text(), "Convert the document to markdown.");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let object = answer.json();
    assert_eq!((&object["object"], &object["model"]), (&json!("chat.completion"), &json!("echo model")));
    assert!(object["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")) && object["created"].is_u64());
    let choice = &object["choices"][0];
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("stop")));
    assert_eq!(choice["message"]["role"], json!("assistant"));
    let usage = |name: &str| object["usage"][name].as_u64().expect("a number");
    assert_eq!(usage("prompt_tokens"), usage("completion_tokens"), "all but the first, and the end");
    assert_eq!(usage("total_tokens"), usage("prompt_tokens") + usage("completion_tokens"));
    let short = served.post(&asking_with("Convert the document to markdown.", json!({ "max_tokens": 2 })));
    assert_eq!(short.json()["choices"][0]["finish_reason"], json!("length"));
    assert_eq!(short.json()["usage"]["completion_tokens"], json!(2));
}

#[test]
fn a_stream_is_the_whole_answer_in_pieces() {
    let served = serve(limits());
    let text = "Réception – 漢字 🦀🏳️‍🌈, naïve\nEND of it";
    let whole = served.post(&asking(text)).text();
    assert_eq!(whole, text);
    let wish = json!({ "stream": true, "stream_options": { "include_usage": true }, "stop": ["END of all", "it!"] });
    let events = served.post(&asking_with(text, wish)).events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).expect("JSON")).collect();
    let (last, others) = chunks.split_last().expect("chunks");
    assert_eq!(others[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "", "refusal": null }));
    let pieces: Vec<&str> = others.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(pieces.concat(), whole);
    assert!(pieces.len() > 5 && pieces.iter().all(|piece| !piece.contains('\u{FFFD}')), "{pieces:?}");
    assert_eq!(others.last().expect("chunks")["choices"][0]["finish_reason"], json!("stop"));
    assert!(chunks.iter().all(|c| c["id"] == chunks[0]["id"] && c["object"] == json!("chat.completion.chunk")));
    assert!(others.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &last["usage"]["prompt_tokens"]));
    let plain = served.post(&asking_with(text, json!({ "stream": true })));
    assert!(plain.events().iter().all(|event| !event.contains("usage")));
}

#[test]
fn stop_strings_end_a_text_and_are_not_shown() {
    let served = serve(limits());
    for stream in [false, true] {
        let wish = json!({ "stop": ["to mark"], "stream": stream });
        let answer = served.post(&asking_with("Convert the document to markdown.", wish));
        let text = if stream {
            let events = answer.events();
            let chunk = |event: &String| serde_json::from_str::<Value>(event).ok();
            let chunks: Vec<Value> = events.iter().filter_map(chunk).collect();
            assert_eq!(chunks.last().expect("chunks")["choices"][0]["finish_reason"], json!("stop"));
            chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect()
        } else {
            assert_eq!(answer.json()["choices"][0]["finish_reason"], json!("stop"));
            answer.text()
        };
        assert_eq!(text, "Convert the document ");
    }
    let endless = served.post(&asking_with("endless text", json!({ "stop": "text" })));
    assert_eq!(endless.text(), "endless ");
    wait_for("leaving", || served.seen.left.load(std::sync::atomic::Ordering::SeqCst) >= 1);
}

#[test]
fn images_and_wishes_reach_the_generator() {
    let served = serve(limits());
    let mut body = with_images(&[page("small.png"), page("gray.png")], "read");
    for (name, value) in
        [("seed", json!(9)), ("temperature", json!(0.5)), ("no_repeat_ngram_size", json!(4)), ("top_k", json!(3))]
    {
        body[name] = value;
    }
    assert_eq!(served.post(&body).text(), "\n\nread", "two placeholders, a line each");
    let joined = served.seen.joined.lock().expect("whole");
    let (ids, images, options) = joined.last().expect("joined");
    assert_eq!(*images, 2);
    // In mode tiny a page has 9 × 8 + 1 places.
    assert_eq!(ids.iter().filter(|id| **id == mlxport_ocr::IMAGE_TOKEN_ID).count(), 2 * 73);
    assert_eq!((options.seed, options.temperature, options.top_k), (9, 0.5, 3));
    assert_eq!(options.no_repeat, Some(NoRepeat { size: 4, window: None, exempt: vec![] }));
    // 5000 in all, as the context allows.
    assert_eq!(options.max_tokens, 4000);
}

#[test]
fn markdown_is_what_the_ocr_command_writes() {
    let served = serve(limits());
    let written =
        "<|ref|>title<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\n# A\n<|ref|>image<|/ref|><|det|>[[0, 0, 9, 9]]<|/det|>";
    let expected = mlxport_ocr::grounding::markdown(written).text;
    assert_eq!(served.post(&asking(written)).text(), written);
    assert_eq!(served.post(&asking_with(written, json!({ "format": "markdown" }))).text(), expected);
    let events = served.post(&asking_with(written, json!({ "format": "markdown", "stream": true }))).events();
    let chunk: Value = serde_json::from_str(&events[1]).expect("JSON");
    assert_eq!(chunk["choices"][0]["delta"]["content"].as_str(), Some(expected.as_str()));
}

#[test]
fn models_health_and_metrics_are_there() {
    let served = serve(limits());
    let list = served.get("/v1/models").json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("echo model")));
    assert_eq!(served.get("/v1/models/echo%20model").json()["id"], json!("echo model"));
    assert_eq!(served.get("/v1/models/other").error(), (404, "invalid_request_error".into(), "model_not_found".into()));
    assert_eq!(served.get("/health").json()["status"], json!("ok"));
    assert_eq!(served.post(&asking("one two")).status, 200);
    assert_eq!(served.metric("mlxport_texts_finished_total"), 1);
    assert_eq!(served.metric("mlxport_http_answers_total{status=\"404\"}"), 1);
    assert_eq!(served.metric("mlxport_completion_tokens_total"), served.metric("mlxport_prompt_tokens_total"));
}

#[test]
fn errors_have_their_status_and_shape() {
    let served = serve(limits());
    let invalid = |status: u16, code: &str| (status, "invalid_request_error".to_owned(), code.to_owned());
    assert_eq!(served.get("/v1/none").error(), invalid(404, "not_found"));
    let wrong = served.get("/v1/chat/completions");
    assert_eq!((wrong.error(), wrong.header("allow")), (invalid(405, "method_not_allowed"), Some("POST")));
    assert_eq!(served.post_bytes("text/plain", b"{}").error(), invalid(415, "unsupported_media_type"));
    assert_eq!(served.post_bytes("application/json", b"{").error(), invalid(400, "invalid_json"));
    assert_eq!(served.post(&asking_with("x", json!({ "model": "other" }))).error(), invalid(404, "model_not_found"));
    assert_eq!(served.post(&asking("refuse this")).error(), invalid(400, "unusable_prompt"));
    let url = |url: &str| json!({ "type": "image_url", "image_url": { "url": url } });
    let remote = served.post(&with_images(&[url("https://example.com/a.png")], "read"));
    assert_eq!(remote.error(), invalid(400, "remote_url_refused"));
    assert_eq!(remote.json()["error"]["param"], json!("messages[0].content[0].image_url.url"));
    assert_eq!(served.post(&with_images(&[url("file:///etc/passwd")], "")).error(), invalid(400, "file_url_refused"));
    let broken = served.post(&with_images(&[url("data:image/png;base64,aGVsbG8=")], "read"));
    assert_eq!(broken.error(), invalid(400, "invalid_image"));
    let many = vec![page("small.png"); 3];
    assert_eq!(served.post(&with_images(&many, "read")).error(), invalid(400, "too_many_images"));
    assert_eq!(served.post(&asking("<image>")).status, 400);
    let long = served.post(&asking(&"word ".repeat(6000)));
    assert_eq!(long.error(), invalid(400, "context_length_exceeded"));
    let failed = served.post(&asking("broken"));
    assert_eq!(failed.error(), (500, "server_error".into(), "model_failed".into()));
    assert_eq!(served.post(&asking("and on it goes")).text(), "and on it goes", "after a failure");
}

#[test]
fn a_key_is_asked_for_and_other_hosts_are_not_answered() {
    let open = serve(limits());
    let foreign = open.raw(b"GET /v1/models HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
    assert_eq!(foreign.error(), (403, "invalid_request_error".into(), "host_not_allowed".into()));
    let served = serve_with(|settings| settings.api_key = Some("secret".into()), limits());
    let with = |key: &str| {
        let text = format!("GET /v1/models HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n{key}\r\n");
        served.raw(text.as_bytes())
    };
    for wrong in ["", "Authorization: Bearer\r\n", "Authorization: Bearer secre\r\n", "Authorization: Basic secret\r\n"]
    {
        let answer = with(wrong);
        assert_eq!(answer.error(), (401, "invalid_request_error".into(), "invalid_api_key".into()), "{wrong}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(with("Authorization: Bearer secret\r\n").status, 200);
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn connections_are_kept_and_texts_are_made_side_by_side() {
    use std::io::Write;
    let served = serve(limits());
    let mut streams: Vec<_> =
        (0..3).map(|_| served.begin(&asking_with("endless x", json!({ "max_tokens": 60 })))).collect();
    for stream in &mut streams {
        assert_eq!(reply(stream).json()["usage"]["completion_tokens"], json!(60));
    }
    assert_eq!(served.seen.side_by_side.load(std::sync::atomic::Ordering::SeqCst), 3);
    let mut kept = served.connect();
    let get = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
    kept.write_all(format!("{get}\r\n{get}Connection: close\r\n\r\n").as_bytes()).expect("sent");
    assert_eq!(reply(&mut kept).body.matches("HTTP/1.1 200 OK").count(), 1, "the second answer behind the first");
}
