//! `POST /v1/chat/completions`, from a body to an answer: read, admitted, prepared, queued, told.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use http_body_util::BodyExt;
use hyper::{Response, body::Bytes, header};
use mlxport_ocr::{Inputs, OcrError, Prompter, grounding, page, prepare};
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use crate::{
    answer::{Shape, now},
    error::ApiError,
    http::{Answer, json},
    request::{self, Asked},
    server::House,
    sse::Events,
    worker::{Done, Event, Job},
};

/// How long a client should wait when the queue is full, in seconds.
const RETRY_AFTER: &str = "5";

/// Where requests meet what they need.
pub(crate) struct Desk {
    pub house: Arc<House>,
    pub prompter: Arc<Prompter>,
    pub jobs: UnboundedSender<Job>,
}

impl Desk {
    /// Answers a request.
    ///
    /// # Errors
    /// Whatever is wrong with it, or with us.
    pub async fn chat(&self, body: Bytes) -> Result<Response<Answer>, ApiError> {
        let asked = request::read(&body, &self.house.settings)?;
        drop(body);
        let place = self.place()?;
        let (stream, markdown, include_usage) = (asked.stream, asked.markdown, asked.include_usage);
        let (prompt_tokens, mut events) = self.send(asked, place).await?;
        let shape = self.shape(prompt_tokens, include_usage);
        // The status goes out first: it must be known whether the prompt can be used.
        match events.recv().await {
            Some(Event::Failed(error)) => return Err(error),
            None => return Err(ApiError::stopping()),
            Some(_) => {}
        }
        if stream {
            let response = Response::builder()
                .header(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")
                .header(header::CACHE_CONTROL, "no-cache")
                .header("x-accel-buffering", "no");
            let body = Events::new(events, shape, markdown).boxed_unsync();
            return response.body(body).map_err(|error| ApiError::server(500, None, error.to_string()));
        }
        let (text, done) = whole(&mut events).await?;
        let text = if markdown { grounding::markdown(&text).text } else { text };
        Ok(json(200, &shape.completion(&text, done)))
    }

    /// A place in the queue.
    fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.house.is_stopping() {
            return Err(ApiError::stopping());
        }
        self.house.places.clone().try_acquire_owned().map_err(|_| {
            let limits = &self.house.settings.limits;
            let message =
                format!("{} requests are worked on and {} wait: no more are taken", limits.batch, limits.queue);
            ApiError::new(429, "rate_limit_error", Some("queue_full"), message).with_header("retry-after", RETRY_AFTER)
        })
    }

    /// Prepares a request's inputs, off the threads that speak HTTP, and gives it to the worker.
    async fn send(
        &self,
        asked: Asked,
        place: OwnedSemaphorePermit,
    ) -> Result<(usize, UnboundedReceiver<Event>), ApiError> {
        let room = self.house.rooms.clone().acquire_owned().await.map_err(|_| ApiError::stopping())?;
        let (prompter, pixels) = (self.prompter.clone(), self.house.settings.limits.image_pixels);
        let prepared = tokio::task::spawn_blocking(move || {
            // The permits come along: this goes on where the client goes away.
            let inputs = inputs(&prompter, &asked, pixels);
            (inputs, asked, place, room)
        });
        let (inputs, mut asked, place, room) =
            prepared.await.map_err(|error| ApiError::server(500, None, error.to_string()))?;
        let inputs = inputs?;
        let prompt_tokens = inputs.input_ids.len();
        self.fit(&mut asked, prompt_tokens)?;
        let (sender, events) = unbounded_channel();
        let job = Job { inputs, making: asked.making, stops: asked.stops, events: sender, place, room };
        self.jobs.send(job).map_err(|_| ApiError::stopping())?;
        Ok((prompt_tokens, events))
    }

    /// Prompt and text must have room in the model's context.
    fn fit(&self, asked: &mut Asked, prompt_tokens: usize) -> Result<(), ApiError> {
        let most = self.house.settings.limits.context_tokens;
        let left = most.saturating_sub(prompt_tokens);
        let wished = asked.making.max_tokens;
        if left == 0 || (asked.wants_tokens && wished > left) {
            let wished = if asked.wants_tokens { wished } else { 1 };
            let message = format!(
                "the prompt has {prompt_tokens} tokens and {wished} are asked for: expected at most {most} together"
            );
            return Err(ApiError::request(400, Some("context_length_exceeded"), message).with_param("messages"));
        }
        asked.making.max_tokens = wished.min(left);
        Ok(())
    }

    fn shape(&self, prompt_tokens: usize, include_usage: bool) -> Shape {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (created, model) = (now(), self.house.settings.model.clone());
        let id = format!("chatcmpl-{created:x}-{:x}", NEXT.fetch_add(1, Relaxed));
        Shape { id, created, model, prompt_tokens, include_usage }
    }
}

/// The whole text.
async fn whole(events: &mut UnboundedReceiver<Event>) -> Result<(String, Done), ApiError> {
    let mut text = String::new();
    loop {
        match events.recv().await {
            Some(Event::Begun) => {}
            Some(Event::Text(more)) => text.push_str(&more),
            Some(Event::Done(done)) => return Ok((text, done)),
            Some(Event::Failed(error)) => return Err(error),
            None => return Err(ApiError::stopping()),
        }
    }
}

/// What the model is given.
fn inputs(prompter: &Prompter, asked: &Asked, pixels: u64) -> Result<Inputs, ApiError> {
    let unusable = |error: &OcrError| {
        let code = match error {
            OcrError::TooManyPixels { .. } => "image_too_large",
            OcrError::NotAnImage { .. } | OcrError::TooThin { .. } => "invalid_image",
            OcrError::Tokenizer { .. } => return ApiError::server(500, None, error.to_string()),
            _ => "unusable_prompt",
        };
        ApiError::request(400, Some(code), error.to_string())
    };
    let (mut pages, mut left) = (Vec::new(), pixels);
    for (origin, bytes) in &asked.conversation.images {
        let page =
            page::read_within(origin, bytes, left).map_err(|error| unusable(&error).with_param(origin.clone()))?;
        left -= (page.width() * page.height()) as u64;
        pages.push(page);
    }
    let prompt = &asked.conversation.prompt;
    if pages.is_empty() {
        let (input_ids, images_seq_mask) = prompter.encode(prompt, &[]).map_err(|error| unusable(&error))?;
        return Ok(text_only(input_ids, images_seq_mask, asked.mode.side()));
    }
    prepare(prompter, prompt, &pages, asked.mode).map_err(|error| unusable(&error))
}

/// Inputs without an image.
fn text_only(input_ids: Vec<i64>, images_seq_mask: Vec<bool>, side: usize) -> Inputs {
    Inputs {
        input_ids,
        images_seq_mask,
        images_spatial_crop: Vec::new(),
        images_ori: Vec::new(),
        images_crop: Vec::new(),
        side,
        tile_count: 0,
        token_counts: Vec::new(),
    }
}
