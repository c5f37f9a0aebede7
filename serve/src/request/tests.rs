//! Bodies and what is made of them.

use super::*;

pub(crate) fn settings() -> Settings {
    Settings {
        address: ([127, 0, 0, 1], 0).into(),
        model: "m".into(),
        api_key: None,
        mode: Mode::Gundam,
        no_repeat_ngram: 20,
        end_ids: vec![1],
        limits: crate::Limits { max_tokens: 100, ..crate::Limits::default() },
        log: std::sync::Arc::new(|_| ()),
    }
}

fn asked(mut body: Value) -> Result<Asked, ApiError> {
    let fields = body.as_object_mut().expect("an object");
    fields.entry("model").or_insert(json!("m"));
    fields.entry("messages").or_insert(json!([{ "role": "user", "content": "hello" }]));
    read(body.to_string().as_bytes(), &settings())
}

#[test]
fn what_is_not_said_is_as_the_release_does_it() {
    let found = asked(json!({})).expect("fine");
    let rule = NoRepeat { size: 20, window: None, exempt: vec![] };
    assert_eq!((found.making.temperature, found.making.top_p, found.making.top_k), (0.0, 1.0, 0));
    assert_eq!((found.making.max_tokens, found.wants_tokens, found.making.no_repeat), (100, false, Some(rule)));
    assert_eq!((found.stream, found.include_usage, found.markdown, found.mode), (false, false, false, Mode::Gundam));
    assert_eq!((found.conversation.prompt.as_str(), found.stops.len()), ("hello", 0));
}

#[test]
fn wishes_are_read() {
    let found = asked(json!({
        "stream": true, "stream_options": { "include_usage": true }, "temperature": 0.5, "top_p": 0.9, "top_k": -1, "seed": -7,
        "max_completion_tokens": 5, "stop": ["a", "b"], "n": 1, "mode": "tiny", "format": "markdown", "no_repeat_ngram_size": 3,
        "no_repeat_ngram_window": 90, "no_repeat_ngram_exempt": [7], "user": "u", "tools": [], "presence_penalty": 0.0, "logprobs": null,
    }))
    .expect("fine");
    assert_eq!(found.making.no_repeat, Some(NoRepeat { size: 3, window: Some(90), exempt: vec![7] }));
    assert_eq!((found.making.seed, found.making.max_tokens, found.wants_tokens), ((-7_i64).cast_unsigned(), 5, true));
    assert!(found.stream && found.include_usage && found.markdown);
    assert_eq!((found.mode, found.stops), (Mode::Tiny, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(asked(json!({ "no_repeat_ngram_size": 0, "stop": "x" })).expect("fine").making.no_repeat, None);
}

#[test]
fn the_releases_vllm_fields_are_read() {
    let xargs = json!({ "ngram_size": 30, "window_size": 90, "whitelist_token_ids": "[128821, 128822]" });
    let found = asked(json!({ "vllm_xargs": xargs, "skip_special_tokens": false })).expect("fine");
    let rule = NoRepeat { size: 30, window: Some(90), exempt: vec![128_821, 128_822] };
    assert_eq!(found.making.no_repeat, Some(rule));
    let error = asked(json!({ "vllm_xargs": { "window": 3 }, "no_repeat_ngram_size": 3 })).expect_err("wrong");
    assert!(error.message.contains("found both") && error.message.contains("vllm_xargs.window"), "{}", error.message);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let wrong = json!({
        "n": 2, "temperature": 3, "top_p": "x", "top_k": -2, "seed": 1.5, "max_tokens": 101, "max_completion_tokens": 0, "stop": ["", "b"],
        "mode": "huge", "format": "html", "stream": "yes", "stream_options": { "include_usage": true }, "tools": [{}], "logprobs": true,
        "response_format": { "type": "json_object" }, "max_token": 5, "no_repeat_ngram_exempt": [-1], "messages": [{ "role": "user" }],
    });
    let names: Vec<String> = wrong.as_object().expect("an object").keys().cloned().collect();
    let error = asked(wrong).expect_err("wrong");
    assert_eq!((error.status, error.kind), (400, "invalid_request_error"));
    for name in names {
        let said = error.message.split("; ").any(|part| part.starts_with(name.as_str()));
        assert!(said, "{name} in {}", error.message);
    }
    assert!(
        error.message.contains("max_tokens: expected a whole number from 1 to 100, found 101"),
        "{}",
        error.message
    );
    assert!(error.message.contains("max_token: no such field is known"), "{}", error.message);
    let both = asked(json!({ "max_tokens": 3, "max_completion_tokens": 4 })).expect_err("both");
    assert_eq!(both.param.as_deref(), Some("max_tokens"));
}

#[test]
fn bodies_that_are_no_objects_and_other_models_are_refused() {
    for body in ["", "{", "[]", "3", "\"x\"", &"[".repeat(100_000)] {
        let error = read(body.as_bytes(), &settings()).expect_err("wrong");
        assert_eq!((error.status, error.code), (400, Some("invalid_json")), "{}", error.message);
    }
    let error = asked(json!({ "model": "gpt-4o" })).expect_err("another");
    assert_eq!((error.status, error.code, error.param.as_deref()), (404, Some("model_not_found"), Some("model")));
    let none = read(br#"{"messages": [{"role": "user", "content": "x"}]}"#, &settings()).expect_err("none");
    assert_eq!((none.status, none.param.as_deref()), (400, Some("model")));
}
