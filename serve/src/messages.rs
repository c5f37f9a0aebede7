//! Messages made into a prompt and its images: the release's `plain` conversation (`conversation.py`), whose turns are stripped and put one
//! behind the other with nothing between them.
//!
//! A message's images stand before its text, a line each, as the release's prompts have them, unless the text says `<image>` itself.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use mlxport_ocr::IMAGE_TOKEN;
use serde_json::Value;

use crate::{
    error::{NAMED, Problem},
    options::shown,
};

/// Base64 with its padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The most messages of a conversation.
const MAX_MESSAGES: usize = 256;

/// A conversation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Conversation {
    /// With one `<image>` for each image.
    pub prompt: String,
    /// Image files' bytes, in the prompt's order, each with its place in the request.
    pub images: Vec<(String, Vec<u8>)>,
}

/// Reads `messages`, at most `max_images` images in all.
pub(crate) fn read(messages: Option<&Value>, max_images: usize, problems: &mut Vec<Problem>) -> Conversation {
    let mut conversation = Conversation::default();
    let wrong = |message: String| Problem { param: "messages".into(), message, code: None };
    let Some(messages) = messages.and_then(Value::as_array) else {
        problems.push(wrong("expected a list of messages".into()));
        return conversation;
    };
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        problems.push(wrong(format!("expected 1 to {MAX_MESSAGES} messages, found {}", messages.len())));
        return conversation;
    }
    for (at, message) in messages.iter().enumerate() {
        if problems.len() > NAMED {
            break;
        }
        let mut reader = Reader { path: format!("messages[{at}]"), problems, images: &mut conversation.images };
        if let Some(text) = reader.message(message) {
            conversation.prompt.push_str(text.trim());
        }
    }
    let found = conversation.images.len();
    if found > max_images {
        let message = format!("expected at most {max_images} images in a request, found {found}");
        problems.push(Problem { param: "messages".into(), message, code: Some("too_many_images") });
    } else if problems.is_empty() && conversation.prompt.is_empty() {
        problems.push(wrong("expected a text or an image, found neither".into()));
    }
    conversation
}

/// Reads one message.
struct Reader<'a> {
    path: String,
    problems: &'a mut Vec<Problem>,
    images: &'a mut Vec<(String, Vec<u8>)>,
}

impl Reader<'_> {
    fn wrong(&mut self, field: &str, message: String, code: Option<&'static str>) {
        self.problems.push(Problem { param: format!("{}{field}", self.path), message, code });
    }

    fn message(&mut self, message: &Value) -> Option<String> {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if !["system", "developer", "user", "assistant"].contains(&role) {
            let found = message.get("role").map_or("none".into(), shown);
            self.wrong(".role", format!("expected system, developer, user or assistant, found {found}"), None);
            return None;
        }
        for field in ["tool_calls", "function_call", "audio"] {
            let value = message.get(field).filter(|value| !value.is_null());
            if value.is_some_and(|value| !value.as_array().is_some_and(Vec::is_empty)) {
                self.wrong(&format!(".{field}"), "not supported: this model only reads text and images".into(), None);
            }
        }
        match message.get("content") {
            Some(Value::String(text)) => self.whole(0, &[text]),
            Some(Value::Array(parts)) => self.parts(parts, role),
            None | Some(Value::Null) if role == "assistant" => Some(String::new()),
            other => {
                let found = other.map_or("nothing".into(), shown);
                self.wrong(".content", format!("expected a text or a list of parts, found {found}"), None);
                None
            }
        }
    }

    fn parts(&mut self, parts: &[Value], role: &str) -> Option<String> {
        let (before, mut texts) = (self.images.len(), Vec::new());
        for (at, part) in parts.iter().enumerate() {
            if self.problems.len() > NAMED {
                break;
            }
            let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
            match kind {
                "text" => match part.get("text").and_then(Value::as_str) {
                    Some(text) => texts.push(text),
                    None => self.wrong(&format!(".content[{at}].text"), "expected a text".into(), None),
                },
                "image_url" if role == "user" => self.image(at, part),
                "image_url" => {
                    self.wrong(
                        &format!(".content[{at}]"),
                        format!("expected images of the user only, not of {role}"),
                        None,
                    );
                }
                _ => {
                    let found = part.get("type").map_or("none".into(), shown);
                    self.wrong(
                        &format!(".content[{at}].type"),
                        format!("expected text or image_url, found {found}"),
                        None,
                    );
                }
            }
        }
        let count = self.images.len() - before;
        self.whole(count, &texts)
    }

    /// A message's text with `count` images in it.
    fn whole(&mut self, count: usize, texts: &[impl AsRef<str>]) -> Option<String> {
        let text = texts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("\n");
        let placed = text.matches(IMAGE_TOKEN).count();
        let Some(missing) = count.checked_sub(placed) else {
            self.wrong(".content", format!("the text says {IMAGE_TOKEN} {placed} times, but has {count} images"), None);
            return None;
        };
        let mut lines = vec![IMAGE_TOKEN; missing];
        if !text.is_empty() {
            lines.push(&text);
        }
        Some(lines.join("\n"))
    }

    fn image(&mut self, at: usize, part: &Value) {
        let field = format!(".content[{at}].image_url.url");
        let url = part.get("image_url").and_then(|image| image.get("url")).and_then(Value::as_str);
        let Some(url) = url else {
            self.wrong(&field, "expected a data: URL".into(), None);
            // So that the text's placeholders are not said to be wrong, too.
            return self.images.push((String::new(), Vec::new()));
        };
        let bytes = data(url).unwrap_or_else(|(message, code)| {
            self.wrong(&field, message, Some(code));
            Vec::new()
        });
        self.images.push((format!("{}{field}", self.path), bytes));
    }
}

/// The bytes of a `data:` URL in base64.
fn data(url: &str) -> Result<Vec<u8>, (String, &'static str)> {
    const EXPECTED: &str = "expected a data: URL with an image in base64 (data:image/png;base64,…)";
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    match scheme.as_str() {
        "data" => {}
        "http" | "https" => {
            return Err((format!("{EXPECTED}; images at other addresses are not fetched"), "remote_url_refused"));
        }
        "file" => return Err((format!("{EXPECTED}; files of this machine are not read"), "file_url_refused")),
        _ => return Err((format!("{EXPECTED}, found {}", shown(&url.into())), "invalid_image_url")),
    }
    let invalid = |found: String| (format!("{EXPECTED}, found {found}"), "invalid_image_url");
    let (head, body) = url[5..].split_once(',').ok_or_else(|| invalid("no comma".into()))?;
    let mut head = head.split(';').map(str::trim);
    let media = head.next().unwrap_or_default().to_ascii_lowercase();
    let is_image = media.is_empty() || media.starts_with("image/") || media == "application/octet-stream";
    if !is_image {
        return Err(invalid(shown(&media.into())));
    }
    if !head.any(|word| word.eq_ignore_ascii_case("base64")) {
        return Err(invalid("another encoding".into()));
    }
    BASE64.decode(body).map_err(|error| (format!("expected base64: {error}"), "invalid_base64_image"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(messages: Value, max_images: usize) -> (Conversation, Vec<Problem>) {
        let mut problems = Vec::new();
        let conversation = read(Some(&messages), max_images, &mut problems);
        (conversation, problems)
    }

    fn image(data: &str) -> Value {
        json!({ "type": "image_url", "image_url": { "url": data, "detail": "high" } })
    }

    fn text(text: &str) -> Value {
        json!({ "type": "text", "text": text })
    }

    #[test]
    fn images_stand_before_their_text_unless_it_places_them() {
        let user = |parts: Value| json!([{ "role": "user", "content": parts }]);
        let prompt = |messages: Value| {
            let (conversation, problems) = parsed(messages, 2);
            assert_eq!(problems, []);
            (conversation.prompt, conversation.images.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>())
        };
        let one = image("data:image/png;base64,AQI=");
        assert_eq!(prompt(user(json!([text("Free OCR. "), one]))), ("<image>\nFree OCR.".into(), vec![vec![1, 2]]));
        let two = image("DATA:;base64,Aw");
        assert_eq!(
            prompt(user(json!([one, text("<image> and"), two, text("more")]))),
            ("<image>\n<image> and\nmore".into(), vec![vec![1, 2], vec![3]])
        );
        assert_eq!(prompt(user(json!([one]))).0, "<image>");
        let turns = json!([
            { "role": "system", "content": " a " }, { "role": "user", "content": [one, text("b")] },
            { "role": "assistant", "content": null, "tool_calls": [] }, { "role": "user", "content": "c" },
        ]);
        assert_eq!(prompt(turns).0, "a<image>\nbc");
    }

    #[test]
    fn what_is_wrong_a_thousand_times_is_not_named_as_often() {
        let parts = vec![json!({}); 100_000];
        let (_, problems) = parsed(json!([{ "role": "user", "content": parts }, { "role": "x" }]), 1);
        assert_eq!(problems.len(), NAMED + 1);
        assert!(crate::error::ApiError::problems(problems).message.ends_with("; and more"));
    }

    #[test]
    fn everything_wrong_is_named_with_its_place() {
        let png = "data:image/png;base64,AQI=";
        let messages = json!([
            { "role": "tool", "content": "x" },
            { "role": "user", "content": [
                image("https://example.com/a.png"), image("file:///etc/passwd"), image("data:text/html;base64,AQI="),
                image("data:image/png,abc"), image("data:image/png;base64,***"), image("a.png"), image("data:"),
                { "type": "image_url", "image_url": png }, { "type": "input_audio" }, { "type": "text", "text": 3 },
            ] },
            { "role": "assistant", "content": [image(png)] },
            { "role": "user", "content": "<image>" },
            { "role": "user" },
        ]);
        let (_, problems) = parsed(messages, 2);
        let found: Vec<(String, Option<&str>)> = problems.iter().map(|p| (p.param.clone(), p.code)).collect();
        let url = |at: usize| format!("messages[1].content[{at}].image_url.url");
        let expected = [
            ("messages[0].role".to_owned(), None),
            (url(0), Some("remote_url_refused")),
            (url(1), Some("file_url_refused")),
            (url(2), Some("invalid_image_url")),
            (url(3), Some("invalid_image_url")),
            (url(4), Some("invalid_base64_image")),
            (url(5), Some("invalid_image_url")),
            (url(6), Some("invalid_image_url")),
            (url(7), None),
            ("messages[1].content[8].type".to_owned(), None),
            ("messages[1].content[9].text".to_owned(), None),
            ("messages[2].content[0]".to_owned(), None),
            ("messages[3].content".to_owned(), None),
            ("messages[4].content".to_owned(), None),
            ("messages".to_owned(), Some("too_many_images")),
        ];
        assert_eq!(found, expected, "{problems:#?}");
        for none in [json!([]), json!({}), json!([{ "role": "user", "content": " " }])] {
            assert_eq!(parsed(none, 1).1.len(), 1);
        }
    }
}
