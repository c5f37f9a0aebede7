//! The body of `POST /v1/chat/completions`: what is read of it, what is taken without effect, and what is refused.

use mlxport_ocr::Mode;
use serde_json::{Value, json};

use crate::{
    error::ApiError,
    messages::{self, Conversation},
    options::{Fields, shown},
    settings::Settings,
    text_options::{NoRepeat, TextOptions},
};

/// Fields that are read.
const READ: [&str; 19] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "n",
    "mode",
    "format",
    "no_repeat_ngram_size",
    "no_repeat_ngram_window",
    "no_repeat_ngram_exempt",
    "vllm_xargs",
    "skip_special_tokens",
];
/// Fields that say nothing about the text.
const IGNORED: [&str; 7] =
    ["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"];

/// What a client asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct ChatRequest {
    pub conversation: Conversation,
    pub mode: Mode,
    pub options: TextOptions,
    pub stops: Vec<String>,
    pub stream: bool,
    pub include_usage: bool,
    /// As Markdown, like `mlxport ocr`; else as the model writes.
    pub markdown: bool,
    /// Fields that are not followed.
    pub ignored: Vec<String>,
}

/// Reads a body; a byte order mark before it is none of it.
///
/// # Errors
/// 400 with all that is wrong; 404 for another model.
pub(crate) fn read(body: &[u8], settings: &Settings) -> Result<ChatRequest, ApiError> {
    let value: Value = serde_json::from_slice(body.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(body))
        .map_err(|error| ApiError::request(400, Some("invalid_json"), format!("the body: expected JSON: {error}")))?;
    let Value::Object(object) = &value else {
        let found = shown(&value);
        return Err(ApiError::request(
            400,
            Some("invalid_json"),
            format!("the body: expected an object, found {found}"),
        ));
    };
    let mut fields = Fields::new(object, "", settings.strict_fields);
    model(&mut fields, settings)?;
    let asked = ChatRequest {
        options: text_options(&mut fields, settings),
        mode: mode(&mut fields).unwrap_or(settings.mode),
        stops: fields.stops("stop"),
        stream: fields.boolean("stream").unwrap_or(false),
        include_usage: include_usage(&mut fields),
        markdown: markdown(&mut fields),
        conversation: messages::read(object.get("messages"), settings.limits.images, &mut fields),
        ignored: Vec::new(),
    };
    unsupported(&mut fields);
    let Fields { problems, ignored, .. } = fields;
    if problems.is_empty() { Ok(ChatRequest { ignored, ..asked }) } else { Err(ApiError::problems(problems)) }
}

/// What a body comes to, for those who only check bodies.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The prompt, with one `<image>` for each image.
    pub prompt: String,
    /// Image files' bytes, in order; not yet decoded.
    pub images: Vec<Vec<u8>>,
    /// How the text is made.
    pub options: TextOptions,
    /// What ends the text.
    pub stops: Vec<String>,
    /// How pages are cut and scaled.
    pub mode: Mode,
    /// Whether the text is streamed.
    pub stream: bool,
    /// Whether a streamed text ends with a count of tokens.
    pub include_usage: bool,
    /// Whether the text is turned into Markdown.
    pub markdown: bool,
    /// Fields that are not followed.
    pub ignored: Vec<String>,
}

/// Reads a body as the server does, without one.
///
/// # Errors
/// The status and the object that a client would get.
pub fn check(body: &[u8], settings: &Settings) -> Result<Checked, (u16, Value)> {
    let asked = read(body, settings).map_err(|error| (error.status, error.object()))?;
    let ChatRequest { conversation, mode, options, stops, stream, include_usage, markdown, ignored } = asked;
    let images = conversation.images.into_iter().map(|(_, bytes)| bytes).collect();
    Ok(Checked { prompt: conversation.prompt, images, options, stops, mode, stream, include_usage, markdown, ignored })
}

fn model(fields: &mut Fields, settings: &Settings) -> Result<(), ApiError> {
    match fields.string("model") {
        Some(model) if model != settings.model => Err(no_model(&model, settings)),
        None if fields.get("model").is_none() => {
            fields.wrong("model", format!("expected the model's name, {:?}", settings.model));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// 404 for a model that is not the one served.
pub(crate) fn no_model(asked: &str, settings: &Settings) -> ApiError {
    let message = format!("the model {} does not exist: this is {:?}", shown(&asked.into()), settings.model);
    ApiError::request(404, Some("model_not_found"), message).with_param("model")
}

fn text_options(fields: &mut Fields, settings: &Settings) -> TextOptions {
    let most = settings.limits.max_tokens;
    let (old, new) = (max_tokens(fields, "max_tokens"), max_tokens(fields, "max_completion_tokens"));
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        fields.ignore("max_tokens", format!("{old}, but max_completion_tokens is {new}: expected one of them"));
    }
    let sampled = fields.number("temperature", 0.0, 2.0).unwrap_or(0.0);
    TextOptions {
        // More than fits ends the text with `length`, as clients expect.
        max_tokens: new.or(old).unwrap_or(most).min(most),
        temperature: sampled,
        top_p: fields.number("top_p", 0.0, 1.0).unwrap_or(1.0),
        top_k: top_k(fields),
        seed: fields.seed("seed").unwrap_or_else(any_seed),
        no_repeat: no_repeat(fields, settings),
    }
}

/// −1 is llama.cpp's word for as many as fit.
fn max_tokens(fields: &mut Fields, name: &str) -> Option<usize> {
    if fields.get(name) == Some(&json!(-1)) { None } else { fields.count(name, 1, usize::MAX) }
}

/// −1 is vLLM's word for all.
fn top_k(fields: &mut Fields) -> usize {
    if fields.get("top_k") == Some(&json!(-1)) { 0 } else { fields.count("top_k", 0, 1 << 20).unwrap_or(0) }
}

/// A seed that differs from request to request.
fn any_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// The rule by its own fields, or by those of the release's vLLM processor.
fn no_repeat(fields: &mut Fields, settings: &Settings) -> Option<NoRepeat> {
    let (mut size, mut window, mut exempt) = (
        fields.count("no_repeat_ngram_size", 0, 1024),
        fields.count("no_repeat_ngram_window", 1, 1 << 20),
        fields.ids("no_repeat_ngram_exempt"),
    );
    if let Some(mut extra) = fields.inner("vllm_xargs") {
        if size.is_some() || window.is_some() || exempt.is_some() {
            fields.wrong("vllm_xargs", "expected either these or the no_repeat_ngram fields, found both");
        }
        extra.only(&["ngram_size", "window_size", "whitelist_token_ids"]);
        size = extra.count("ngram_size", 1, 1024);
        window = extra.count("window_size", 1, 1 << 20);
        exempt = extra.ids("whitelist_token_ids");
        if size.is_none() && extra.problems.is_empty() {
            extra.wrong("ngram_size", "expected a whole number from 1 to 1024, found none");
        }
        // As the release's processor has it.
        window = window.or(Some(100));
        fields.take_over(extra);
    }
    let size = size.unwrap_or(settings.no_repeat_ngram);
    (size > 0).then(|| NoRepeat { size, window, exempt: exempt.unwrap_or_default() })
}

fn mode(fields: &mut Fields) -> Option<Mode> {
    let name = fields.string("mode")?;
    let all = [Mode::Tiny, Mode::Small, Mode::Base, Mode::Large, Mode::Gundam];
    let found = all.into_iter().find(|mode| mode.name() == name);
    if found.is_none() {
        let found = shown(&name.into());
        fields.wrong("mode", format!("expected tiny, small, base, large or gundam, found {found}"));
    }
    found
}

fn markdown(fields: &mut Fields) -> bool {
    match fields.string("format").as_deref() {
        None | Some("text") => false,
        Some("markdown") => true,
        Some(other) => {
            fields.wrong("format", format!("expected text or markdown, found {}", shown(&other.into())));
            false
        }
    }
}

fn include_usage(fields: &mut Fields) -> bool {
    let Some(mut options) = fields.inner("stream_options") else { return false };
    if fields.get("stream") != Some(&Value::Bool(true)) {
        fields.ignore("stream_options", "expected only where stream is true");
    }
    options.only(&["include_usage", "include_obfuscation"]);
    options.neutral("include_obfuscation", false, &[json!(false)]);
    let include = options.boolean("include_usage").unwrap_or(false);
    fields.take_over(options);
    include
}

/// What is known, but cannot be done: refused where an answer would lack what was asked for, else ignored with a warning; and what is not
/// known.
fn unsupported(fields: &mut Fields) {
    let neutral = [
        ("n", true, vec![json!(1)]),
        ("logprobs", true, vec![json!(false)]),
        ("top_logprobs", true, vec![json!(0)]),
        ("response_format", true, vec![json!({ "type": "text" })]),
        ("modalities", true, vec![json!(["text"])]),
        ("tool_choice", true, vec![json!("none"), json!("auto")]),
        ("function_call", true, vec![json!("none"), json!("auto")]),
        // With these a model may answer with text, too.
        ("tools", false, vec![json!([])]),
        ("functions", false, vec![json!([])]),
        ("skip_special_tokens", false, vec![json!(false)]),
        ("frequency_penalty", false, vec![json!(0)]),
        ("presence_penalty", false, vec![json!(0)]),
        ("repetition_penalty", false, vec![json!(1)]),
        ("min_p", false, vec![json!(0)]),
        ("logit_bias", false, vec![json!({})]),
    ];
    let mut known: Vec<&str> = READ.iter().chain(&IGNORED).copied().collect();
    for (name, must, values) in &neutral {
        fields.neutral(name, *must, values);
        known.push(name);
    }
    fields.only(&known);
}

#[cfg(test)]
mod tests;
