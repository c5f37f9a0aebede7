//! The body of a request to `mlxport serve`. Input: the body.

use mlxport_ocr::{IMAGE_TOKEN, Mode};
use mlxport_serve::{Limits, Settings, check};

/// The most bytes of a body here.
const LONGEST: usize = 64 << 10;
/// How many problems an error names, each of at most a few hundred bytes.
const LONGEST_MESSAGE: usize = 64 << 10;

/// Reads a body: whatever it asks for is within the limits, or told in the shape that clients know.
pub fn run(data: &[u8]) {
    if data.len() > LONGEST {
        return;
    }
    let limits = Limits { images: 3, max_tokens: 100, ..Limits::default() };
    let settings = Settings { mode: Mode::Tiny, limits, ..Settings::new("m") };
    match check(data, &settings) {
        Ok(asked) => {
            // Two texts put together may make one more, which is refused when the prompt is encoded.
            assert!(asked.prompt.matches(IMAGE_TOKEN).count() >= asked.images.len(), "a place for each image");
            assert!(asked.images.len() <= 3 && asked.images.iter().map(Vec::len).sum::<usize>() <= data.len());
            let options = &asked.options;
            assert!((1..=100).contains(&options.max_tokens), "{options:?}");
            assert!((0.0..=2.0).contains(&options.temperature) && (0.0..=1.0).contains(&options.top_p), "{options:?}");
            if let Some(rule) = &options.no_repeat {
                assert!((1..=1024).contains(&rule.size) && rule.window != Some(0), "{rule:?}");
                assert!(rule.exempt.iter().all(|id| *id >= 0), "{rule:?}");
            }
            assert!(asked.stops.len() <= 16 && asked.stops.iter().all(|stop| !stop.is_empty()));
        }
        Err((status, object)) => {
            assert!([400, 404].contains(&status), "{status}");
            let error = object.get("error").and_then(|error| error.as_object()).expect("an error");
            assert!(["message", "type", "param", "code"].iter().all(|name| error.contains_key(*name)), "{object}");
            let message = error["message"].as_str().expect("a message");
            assert!(!message.is_empty() && message.len() <= LONGEST_MESSAGE, "{} bytes", message.len());
        }
    }
}
