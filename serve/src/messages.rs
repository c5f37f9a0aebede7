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
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::{
    error::NAMED,
    options::{Fields, shown},
};

/// Base64 with its padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
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

/// What a message may have besides its role and content; of no effect here.
const KNOWN: [&str; 9] =
    ["role", "content", "name", "tool_call_id", "refusal", "annotations", "tool_calls", "function_call", "audio"];

/// Reads `messages`, at most `max_images` images in all.
pub(crate) fn read<'a>(messages: Option<&'a Value>, max_images: usize, request: &mut Fields<'a>) -> Conversation {
    let mut conversation = Conversation::default();
    let Some(messages) = messages.and_then(Value::as_array) else {
        request.wrong("messages", "expected a list of messages");
        return conversation;
    };
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        request.wrong("messages", format!("expected 1 to {MAX_MESSAGES} messages, found {}", messages.len()));
        return conversation;
    }
    let before = request.problems.len();
    for (at, value) in messages.iter().enumerate() {
        let place = format!("messages[{at}]");
        let Some(fields) = request.at(&place, value) else {
            request.wrong(&place, format!("expected an object, found {}", shown(value)));
            continue;
        };
        let mut message = Message { fields, images: &mut conversation.images };
        if let Some(text) = message.read() {
            conversation.prompt.push_str(text.trim());
        }
        let Message { fields, .. } = message;
        request.take_over(fields);
        if request.problems.len() > NAMED {
            break;
        }
    }
    let found = conversation.images.len();
    if found > max_images {
        let message = format!("expected at most {max_images} images in a request, found {found}");
        request.wrong_as("messages", message, Some("too_many_images"));
    } else if request.problems.len() == before && conversation.prompt.is_empty() {
        request.wrong("messages", "expected a text or an image, found neither");
    }
    conversation
}

/// Reads one message.
struct Message<'a, 'i> {
    fields: Fields<'a>,
    images: &'i mut Vec<(String, Vec<u8>)>,
}

impl<'a> Message<'a, '_> {
    fn read(&mut self) -> Option<String> {
        let role = self.fields.get("role").and_then(Value::as_str).unwrap_or_default();
        if !["system", "developer", "user", "assistant", "tool", "function"].contains(&role) {
            let found = self.fields.get("role").map_or("none".into(), shown);
            let expected = "expected system, developer, user, assistant or tool";
            self.fields.wrong("role", format!("{expected}, found {found}"));
            return None;
        }
        self.fields.neutral("tool_calls", false, &[Value::Array(Vec::new())]);
        for field in ["function_call", "audio"] {
            self.fields.neutral(field, false, &[]);
        }
        self.fields.only(&KNOWN);
        match self.fields.get("content") {
            Some(Value::String(text)) => self.whole(0, &[text]),
            Some(Value::Array(parts)) => self.parts(parts, role),
            None if role == "assistant" => Some(String::new()),
            other => {
                let found = other.map_or("nothing".into(), shown);
                self.fields.wrong("content", format!("expected a text or a list of parts, found {found}"));
                None
            }
        }
    }

    fn parts(&mut self, parts: &'a [Value], role: &str) -> Option<String> {
        let (before, mut texts) = (self.images.len(), Vec::new());
        for (at, value) in parts.iter().enumerate() {
            if self.fields.problems.len() > NAMED {
                break;
            }
            let place = format!("content[{at}]");
            if let Some(text) = value.as_str() {
                texts.push(text);
            } else if let Some(mut part) = self.fields.at(&place, value) {
                texts.extend(self.part(&mut part, role));
                self.fields.take_over(part);
            } else {
                self.fields.wrong(&place, format!("expected a text or an object, found {}", shown(value)));
            }
        }
        let count = self.images.len() - before;
        self.whole(count, &texts)
    }

    /// A part: its text, or an image. `input_text` and `input_image` are their names in OpenAI's newer API.
    fn part(&mut self, part: &mut Fields<'a>, role: &str) -> Option<&'a str> {
        part.only(&["type", "text", "image_url", "detail"]);
        match part.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text" | "input_text" => {
                let text = part.get("text").and_then(Value::as_str);
                if text.is_none() {
                    part.wrong("text", "expected a text");
                }
                return text;
            }
            "image_url" | "input_image" if role == "user" => self.image(part),
            "image_url" | "input_image" => {
                part.wrong("type", format!("expected images of the user only, not of {role}"));
            }
            _ => {
                let found = part.get("type").map_or("none".into(), shown);
                part.wrong("type", format!("expected text or image_url, found {found}"));
            }
        }
        None
    }

    /// A message's text with `count` images in it.
    fn whole(&mut self, count: usize, texts: &[impl AsRef<str>]) -> Option<String> {
        let text = texts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("\n");
        let placed = text.matches(IMAGE_TOKEN).count();
        let Some(missing) = count.checked_sub(placed) else {
            let message = format!("the text says {IMAGE_TOKEN} {placed} times, but has {count} images");
            self.fields.wrong("content", message);
            return None;
        };
        let mut lines = vec![IMAGE_TOKEN; missing];
        if !text.is_empty() {
            lines.push(&text);
        }
        Some(lines.join("\n"))
    }

    /// An image, whose URL is in an object, or is the field itself.
    fn image(&mut self, part: &mut Fields) {
        let field = "image_url.url";
        let image = part.get("image_url");
        let url = image.and_then(|image| image.as_str().or_else(|| image.get("url")?.as_str()));
        let bytes = match url.map(|url| data(url.trim())) {
            Some(Ok(bytes)) => bytes,
            Some(Err((message, code))) => {
                part.wrong_as(field, message, Some(code));
                // So that the text's placeholders are not said to be wrong, too.
                Vec::new()
            }
            None => {
                part.wrong(field, "expected a data: URL");
                Vec::new()
            }
        };
        self.images.push((part.place(field), bytes));
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
    // As people's libraries write it: percent-encoded, with line breaks, in the alphabet for URLs.
    let body = percent_decode_str(body).filter(|byte| !byte.is_ascii_whitespace()).map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    });
    let body: Vec<u8> = body.collect();
    BASE64.decode(body).map_err(|error| (format!("expected base64: {error}"), "invalid_base64_image"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Problem;
    use serde_json::json;

    fn parsed(messages: Value, max_images: usize) -> (Conversation, Vec<Problem>) {
        let request = serde_json::Map::new();
        let mut fields = Fields::new(&request, "", false);
        let conversation = read(Some(&messages), max_images, &mut fields);
        (conversation, fields.problems)
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
    fn images_are_read_as_people_write_them() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = BASE64.encode(&bytes);
        let lines = text.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>();
        let encoded = text.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
        for url in [
            format!("data:image/png;base64,{}\n", lines.join("\n")),
            format!("data:image/png;base64,\r\n{}\r\n ", lines.join("\r\n\t")),
            format!(" data:image/png;base64,{}", text.replace('+', "-").replace('/', "_").trim_end_matches('=')),
            format!("data:image/png;name=a.png;charset=utf-8;base64, {text}"),
            format!("DATA:image/png;BASE64,{encoded}"),
        ] {
            let string = json!({ "type": "image_url", "image_url": url });
            let input = json!({ "type": "input_image", "image_url": url, "detail": "auto" });
            for part in [image(&url), string, input] {
                let (found, problems) = parsed(json!([{ "role": "user", "content": [part, "read"] }]), 1);
                assert_eq!(problems, []);
                assert_eq!(
                    (found.images[0].1.as_slice(), found.prompt.as_str()),
                    (&bytes[..], "<image>\nread"),
                    "{url}"
                );
            }
        }
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
            { "role": "robot", "content": "x" },
            { "role": "user", "content": [
                image("https://example.com/a.png"), image("file:///etc/passwd"), image("data:text/html;base64,AQI="),
                image("data:image/png,abc"), image("data:image/png;base64,***"), image("a.png"), image("data:"),
                { "type": "image_url", "image_url": 3 }, { "type": "input_audio" }, { "type": "text", "text": 3 },
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
            ("messages[2].content[0].type".to_owned(), None),
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
