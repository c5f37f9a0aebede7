//! Bodies and what is made of them.

use proptest::prelude::*;

use super::*;

pub(crate) fn settings() -> Settings {
    let limits = crate::Limits { max_tokens: 100, ..crate::Limits::default() };
    Settings { limits, ..Settings::new("m") }
}

/// As `--strict-fields` reads it.
fn strictly(body: Value) -> Result<ChatRequest, ApiError> {
    asked_with(body, &Settings { strict_fields: true, ..settings() })
}

fn asked(body: Value) -> Result<ChatRequest, ApiError> {
    asked_with(body, &settings())
}

fn asked_with(mut body: Value, settings: &Settings) -> Result<ChatRequest, ApiError> {
    let fields = body.as_object_mut().expect("an object");
    fields.entry("model").or_insert(json!("m"));
    fields.entry("messages").or_insert(json!([{ "role": "user", "content": "hello" }]));
    read(body.to_string().as_bytes(), settings)
}

#[test]
fn what_is_not_said_is_as_the_release_does_it() {
    let found = asked(json!({})).expect("fine");
    let rule = NoRepeat { size: 20, window: None, exempt: vec![] };
    assert_eq!((found.options.temperature, found.options.top_p, found.options.top_k), (0.0, 1.0, 0));
    assert_eq!((found.options.max_tokens, found.options.no_repeat), (100, Some(rule)));
    assert_eq!((found.stream, found.include_usage, found.markdown, found.mode), (false, false, false, Mode::Gundam));
    assert_eq!((found.conversation.prompt.as_str(), found.stops.len()), ("hello", 0));
}

#[test]
fn wishes_are_read() {
    let found = strictly(json!({
        "stream": true, "stream_options": { "include_usage": true }, "temperature": 0.5, "top_p": 0.9, "top_k": -1, "seed": -7,
        "max_completion_tokens": 5, "stop": ["a", "b"], "n": 1, "mode": "tiny", "format": "markdown", "no_repeat_ngram_size": 3,
        "no_repeat_ngram_window": 90, "no_repeat_ngram_exempt": [7], "user": "u", "tools": [], "presence_penalty": 0.0, "logprobs": null,
    }))
    .expect("fine");
    assert_eq!(found.options.no_repeat, Some(NoRepeat { size: 3, window: Some(90), exempt: vec![7] }));
    assert_eq!((found.options.seed, found.options.max_tokens), ((-7_i64).cast_unsigned(), 5));
    assert!(found.stream && found.include_usage && found.markdown);
    assert_eq!((found.mode, found.stops), (Mode::Tiny, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(asked(json!({ "no_repeat_ngram_size": 0, "stop": "x" })).expect("fine").options.no_repeat, None);
}

#[test]
fn the_releases_vllm_fields_are_read() {
    let xargs = json!({ "ngram_size": 30, "window_size": 90, "whitelist_token_ids": "[128821, 128822]" });
    let found = asked(json!({ "vllm_xargs": xargs, "skip_special_tokens": false })).expect("fine");
    let rule = NoRepeat { size: 30, window: Some(90), exempt: vec![128_821, 128_822] };
    assert_eq!(found.options.no_repeat, Some(rule));
    let error = strictly(json!({ "vllm_xargs": { "window": 3 }, "no_repeat_ngram_size": 3 })).expect_err("wrong");
    assert!(error.message.contains("found both") && error.message.contains("vllm_xargs.window"), "{}", error.message);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let wrong = json!({
        "n": 2, "temperature": 3, "top_p": "x", "top_k": -2, "seed": 1.5, "max_tokens": 1.5, "max_completion_tokens": 0, "stop": ["", "b"],
        "mode": "huge", "format": "html", "stream": "yes", "stream_options": { "include_usage": true }, "tools": [{}], "logprobs": true,
        "response_format": { "type": "json_object" }, "max_token": 5, "no_repeat_ngram_exempt": [-1], "messages": [{ "role": "user" }],
    });
    let names: Vec<String> = wrong.as_object().expect("an object").keys().cloned().collect();
    let error = strictly(wrong).expect_err("wrong");
    assert_eq!((error.status, error.kind), (400, "invalid_request_error"));
    for name in names {
        let said = error.message.split("; ").any(|part| part.starts_with(name.as_str()));
        assert!(said, "{name} in {}", error.message);
    }
    assert!(error.message.contains("max_tokens: expected a whole number from 1, found 1.5"), "{}", error.message);
    assert!(error.message.contains("max_token: no such field is known"), "{}", error.message);
    let both = strictly(json!({ "max_tokens": 3, "max_completion_tokens": 4 })).expect_err("both");
    assert_eq!(both.param.as_deref(), Some("max_tokens"));
}

#[test]
fn what_clients_send_by_the_way_is_ignored_and_named() {
    let found = asked(json!({
        "options": { "num_ctx": 4096 }, "tools": [{ "type": "function" }], "tool_choice": "auto", "presence_penalty": 0.3, "max_tokens": 3,
        "max_completion_tokens": 4, "stop": ["", "b"], "stream_options": { "include_usage": true, "chunk": 1 }, "é\"\r\n": 1, "chat_id": null,
        "messages": [
            { "role": "user", "content": "a", "id": 1 }, { "role": "assistant", "content": null, "tool_calls": [{ "id": "x" }] },
            { "role": "tool", "tool_call_id": "x", "content": "b", "id": 2 },
        ],
    }))
    .expect("fine");
    let names = [
        "stream_options.chunk",
        "stream_options",
        "max_tokens",
        "stop",
        "messages[].id",
        "messages[].tool_calls",
        "tools",
        "presence_penalty",
        "options",
        "????",
    ];
    let mut ignored: Vec<&str> = found.ignored.iter().map(String::as_str).collect();
    let mut names = names.to_vec();
    ignored.sort_unstable();
    names.sort_unstable();
    assert_eq!(ignored, names);
    assert_eq!(
        (found.options.max_tokens, found.stops, found.conversation.prompt.as_str()),
        (4, vec!["b".into()], "ab")
    );
    // What would be missing in the answer is refused all the same.
    for (name, value) in
        [("n", json!(2)), ("tool_choice", json!("required")), ("response_format", json!({ "type": "json_object" }))]
    {
        assert_eq!(asked(json!({ name: value })).expect_err("refused").param.as_deref(), Some(name));
    }
}

#[test]
fn more_tokens_than_fit_are_as_many_as_fit() {
    for most in [json!(101), json!(8192), json!(1e9), json!(u64::MAX), json!(-1), json!(null), json!(8192.0)] {
        for name in ["max_tokens", "max_completion_tokens"] {
            assert_eq!(asked(json!({ name: most })).expect("fine").options.max_tokens, 100, "{name}: {most}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_none_of_the_body() {
    let body = b"\xEF\xBB\xBF{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}";
    assert_eq!(read(body, &settings()).expect("fine").conversation.prompt, "x");
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

/// Any JSON, not deep.
fn any_json() -> impl Strategy<Value = Value> {
    let words =
        ["data:image/png;base64,AQI=", "data:,", "user", "text", "image_url", "<image>", "https://x", "[1]", "é", ""];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
    ];
    let names = [
        "role",
        "content",
        "type",
        "text",
        "image_url",
        "url",
        "include_usage",
        "ngram_size",
        "window_size",
        "tool_calls",
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let field = (prop::sample::select(names.to_vec()), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Value::from),
            prop::collection::vec(field, 0..5)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_makes_it_panic_and_what_is_taken_is_within_limits(
        values in prop::collection::vec((0..READ.len() + 3, any_json()), 0..8), messages in any_json(), real in any::<bool>(),
    ) {
        let names: Vec<&str> = READ.iter().chain(&["tools", "logprobs", "other"]).copied().collect();
        let mut body = json!({ "model": "m", "messages": messages });
        if real {
            body["messages"] = json!([{ "role": "user", "content": "x" }]);
        }
        for (at, value) in values {
            body[names[at]] = value;
        }
        match read(body.to_string().as_bytes(), &settings()) {
            Ok(asked) => {
                prop_assert!((1..=100).contains(&asked.options.max_tokens) && asked.stops.iter().all(|stop| !stop.is_empty()));
                prop_assert!((0.0..=2.0).contains(&asked.options.temperature) && (0.0..=1.0).contains(&asked.options.top_p));
                prop_assert!(!asked.conversation.prompt.is_empty() && asked.conversation.images.len() <= 1);
            }
            Err(error) => prop_assert!([400, 404].contains(&error.status) && error.message.len() < 20_000, "{}", error.message),
        }
    }
}
