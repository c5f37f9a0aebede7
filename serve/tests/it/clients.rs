//! What clients really send: bodies in the shapes of chat UIs, agent frameworks and page readers (`data/clients.json`), each in several ways.

use std::io::Write;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use mlxport_serve::Log;
use serde_json::{Value, json};

use crate::support::{Reply, asking, data, limits, post, reply, serve, serve_with};

/// The bodies, with a page for their images.
fn bodies() -> Vec<Value> {
    let page = std::fs::read(data("pages/small.png")).expect("a page");
    let text = STANDARD.encode(&page);
    let lines: Vec<&str> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    let text = include_str!("../data/clients.json")
        .replace("IMAGE LINES", &format!("data:image/png;base64,{}\\n", lines.join("\\n")))
        .replace("IMAGE URL-SAFE", &format!("data:image/png;base64,{}", URL_SAFE_NO_PAD.encode(&page)))
        .replace("IMAGE", &format!("data:image/png;name=page.png;base64,{text}"));
    serde_json::from_str(&text).expect("JSON")
}

/// The text of a streamed answer, and its last chunk.
pub fn streamed(answer: &Reply) -> (String, Value) {
    let events = answer.events();
    let (end, chunks) = events.split_last().expect("events");
    assert_eq!(end, "[DONE]", "{answer:?}");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).expect("JSON")).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], json!("assistant"));
    let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    (pieces.collect(), chunks.last().expect("chunks").clone())
}

/// The text of a whole or streamed answer; the tokens' numbers come where they are asked for.
fn said(answer: &Reply, body: &Value) -> String {
    if body["stream"] != json!(true) {
        return answer.text();
    }
    let (text, last) = streamed(answer);
    let asked = body["stream_options"]["include_usage"] == json!(true);
    assert_eq!(last["usage"]["total_tokens"].is_u64(), asked, "{body}");
    text
}

#[test]
fn two_hundred_requests_of_real_clients_pass() {
    let served = serve(limits());
    let cases = bodies();
    let mut kept = 0;
    for round in 0..8 {
        for case in &cases {
            let mut body = case["body"].clone();
            body["model"] = json!("echo model");
            let fields = body.as_object_mut().expect("an object");
            match round {
                0 => {}
                1 => drop(fields.insert("stream".into(), json!(true))),
                2 => {
                    fields.retain(|name, _| name != "stream_options");
                    fields.insert("stream".into(), json!(false));
                }
                3 => drop(fields.insert("max_completion_tokens".into(), json!(8192))),
                4 => ["logprobs", "seed", "audio"]
                    .iter()
                    .for_each(|name| drop(fields.insert((*name).into(), Value::Null))),
                _ => drop(fields.insert("user".into(), json!(format!("u{round}")))),
            }
            let text = if round == 5 { format!("\u{FEFF}{body:#}\r\n") } else { body.to_string() };
            let kind = if round == 6 { "Application/JSON; charset=UTF-8" } else { "application/json" };
            let answer = served.post_bytes(kind, text.as_bytes());
            assert_eq!(answer.status, 200, "{}: {answer:?}", case["client"]);
            assert_eq!(
                json!(said(&answer, &body).trim()),
                json!(case["says"].as_str().expect("a text").trim()),
                "{case}"
            );
            let ignored = case["ignored"].as_array().expect("a list");
            let warning = answer.header("warning").unwrap_or_default();
            assert!(ignored.iter().all(|name| warning.contains(name.as_str().expect("a name"))), "{case}: {warning}");
            assert_eq!(ignored.is_empty() && round == 0, warning.is_empty() && round == 0, "{case}: {warning}");
            kept += 1;
        }
    }
    assert_eq!((kept, served.metric("mlxport_texts_finished_total")), (200, 200));
    assert_eq!(served.metric("mlxport_first_token_seconds_count"), 200);
}

#[test]
fn what_is_ignored_is_told_once_and_strictly_refused() {
    let served = serve(limits());
    let body = json!({ "model": "echo model", "messages": [{ "role": "user", "content": "hi", "id": 3 }], "top": 1, "x\r\ny: \"": 2 });
    let answer = served.post(&body);
    assert_eq!(answer.header("warning"), Some("299 mlxport \"ignored: messages[].id, top, x??y:??\""));
    let log = served.seen.log.lock().expect("whole");
    let lines: Vec<&Log> = log.iter().filter(|line| matches!(line, Log::Ignored { .. })).collect();
    let fields = ["messages[].id", "top", "x??y:??"].map(str::to_owned).to_vec();
    assert_eq!(lines, [&Log::Ignored { fields }]);
    let strict = serve_with(|settings| settings.strict_fields = true, limits());
    let message = strict.post(&body).message();
    assert!(message.contains("top: no such field") && message.contains("messages[0].id: no such field"), "{message}");
}

#[test]
fn many_requests_over_one_connection() {
    let served = serve(limits());
    let mut kept = served.connect();
    for at in 0..20 {
        let body = asking(&format!("request {at}")).to_string();
        let head = post("application/json", body.len());
        let head = if at < 19 { head.replace("Connection: close\r\n", "") } else { head };
        kept.write_all(format!("{head}{body}").as_bytes()).expect("sent");
    }
    let all = reply(&mut kept);
    let text = format!("{}{}", all.head, all.body);
    assert!((0..20).all(|at| text.contains(&format!("\"request {at}\""))), "{text}");
}
