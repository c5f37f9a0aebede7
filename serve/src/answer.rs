//! Answers in the shapes of OpenAI's API: completions, chunks of them, models.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::job::Done;

/// What all parts of one answer have in common.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub model: String,
    /// 0 until the prompt was made.
    pub prompt_tokens: usize,
    /// A chunk with the tokens' numbers is asked for.
    pub include_usage: bool,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn reason(done: Done) -> &'static str {
    if done.stopped { "stop" } else { "length" }
}

impl Shape {
    fn usage(&self, done: Done) -> Value {
        let (prompt, made) = (self.prompt_tokens, done.completion_tokens);
        json!({ "prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made })
    }

    /// A whole answer.
    pub fn completion(&self, text: &str, done: Done) -> Value {
        let message = json!({ "role": "assistant", "content": text, "refusal": null });
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": reason(done) }],
            "usage": self.usage(done),
        })
    }

    fn chunk(&self, choices: Value, usage: Value) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model, "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = usage;
        }
        chunk
    }

    fn choice(&self, delta: Value, finish: Value) -> Value {
        self.chunk(json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }]), Value::Null)
    }

    /// A streamed answer's first chunk.
    pub fn first(&self) -> Value {
        self.choice(json!({ "role": "assistant", "content": "", "refusal": null }), Value::Null)
    }

    /// More text.
    pub fn more(&self, text: &str) -> Value {
        self.choice(json!({ "content": text }), Value::Null)
    }

    /// The last chunks: why the text ended, and the tokens' numbers where they are asked for.
    pub fn last(&self, done: Done) -> Vec<Value> {
        let end = self.choice(json!({}), reason(done).into());
        if self.include_usage { vec![end, self.chunk(json!([]), self.usage(done))] } else { vec![end] }
    }
}

/// A model, as the list and its own address show it.
pub(crate) fn model(name: &str, created: u64) -> Value {
    json!({ "id": name, "object": "model", "created": created, "owned_by": "mlxport" })
}
