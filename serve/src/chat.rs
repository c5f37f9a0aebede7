//! `POST /v1/chat/completions`, from a body to an answer: read, admitted, prepared, queued, answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use mlxport_ocr::{Inputs, OcrError, Prompter, grounding, page, prepare};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    time::timeout,
};

use crate::{
    answer::{Shape, now},
    body,
    error::{ApiError, NAMED, RETRY_AFTER},
    job::{Begun, Done, Event, Job},
    request::{self, ChatRequest},
    settings::Log,
    sse,
    state::State,
};

/// A stream's status waits so long for the prompt, which may turn out to be unusable; then it is 200, and an error an event.
const STATUS_TIME: Duration = Duration::from_millis(250);

/// Answers chat requests: with settings and permits, a tokenizer, and the queue to the worker.
pub(crate) struct ChatHandler {
    pub state: Arc<State>,
    pub prompter: Arc<Prompter>,
    pub jobs: UnboundedSender<Job>,
}

impl ChatHandler {
    /// Answers a request.
    ///
    /// # Errors
    /// Whatever is wrong with it, or with us.
    pub async fn chat(self: &Arc<Self>, headers: &HeaderMap, body: &mut Body) -> Result<Response, ApiError> {
        let whole = body::read(headers, body, &self.state).await?;
        let request = request::read(&whole.bytes, &self.state.settings)?;
        drop(whole);
        let slot = self.queue_slot()?;
        let ignored = warning(&request.ignored);
        if !request.ignored.is_empty() {
            (self.state.settings.log)(&Log::Ignored { fields: request.ignored.clone() });
        }
        let (stream, markdown, shape) = (request.stream, request.markdown, self.shape(request.include_usage));
        let mut begun = Box::pin(self.clone().begin(request, slot));
        let mut response = if stream {
            let early = timeout(STATUS_TIME, &mut begun).await.ok().transpose()?;
            let begun = async move {
                match early {
                    Some(begun) => Ok(begun),
                    None => begun.await,
                }
            };
            sse::response(shape, begun, markdown)
        } else {
            let Begun { prompt_tokens, mut events } = begun.await?;
            let (text, done) = whole_text(&mut events).await?;
            let text = if markdown { grounding::markdown(&text).text } else { text };
            Json(Shape { prompt_tokens, ..shape }.completion(&text, done)).into_response()
        };
        response.headers_mut().extend(ignored);
        Ok(response)
    }

    /// A slot in the queue.
    fn queue_slot(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.state.is_stopping() {
            return Err(ApiError::stopping());
        }
        self.state.queue_slots.clone().try_acquire_owned().map_err(|_| {
            let limits = &self.state.settings.limits;
            let message =
                format!("{} requests are worked on and {} wait: no more are taken", limits.batch, limits.queue);
            ApiError::new(429, "rate_limit_error", Some("queue_full"), message).with_header("retry-after", RETRY_AFTER)
        })
    }

    /// Makes a request's inputs, gives them to the worker, and waits until the prompt is read.
    async fn begin(self: Arc<Self>, request: ChatRequest, slot: OwnedSemaphorePermit) -> Result<Begun, ApiError> {
        let since = Instant::now();
        let prepared = self.state.prepared.clone().acquire_owned().await.map_err(|_| ApiError::stopping())?;
        let (prompter, pixels) = (self.prompter.clone(), self.state.settings.limits.image_pixels);
        // Off the threads that speak HTTP. The permits come along: this goes on where the client goes away.
        let made = tokio::task::spawn_blocking(move || {
            let inputs = inputs(&prompter, &request, pixels);
            (inputs, request, slot, prepared)
        });
        let (inputs, request, slot, prepared) =
            made.await.map_err(|error| ApiError::server(500, None, error.to_string()))?;
        let (inputs, ChatRequest { mut options, stops, .. }) = (inputs?, request);
        let prompt_tokens = inputs.input_ids.len();
        options.max_tokens = options.max_tokens.min(self.left(prompt_tokens)?);
        let (sender, mut events) = unbounded_channel();
        let job = Job { inputs, options, stops, events: sender, asked: since, slot, prepared };
        self.jobs.send(job).map_err(|_| ApiError::stopping())?;
        match events.recv().await {
            Some(Event::Failed(error)) => Err(error),
            None => Err(ApiError::stopping()),
            Some(_) => Ok(Begun { prompt_tokens, events }),
        }
    }

    /// How many tokens the model's context has left for the text, at least 1.
    fn left(&self, prompt_tokens: usize) -> Result<usize, ApiError> {
        let most = self.state.settings.limits.context_tokens;
        match most.saturating_sub(prompt_tokens) {
            0 => {
                let message =
                    format!("the prompt has {prompt_tokens} tokens: expected fewer than {most}, the model's context");
                Err(ApiError::request(400, Some("context_length_exceeded"), message).with_param("messages"))
            }
            left => Ok(left),
        }
    }

    fn shape(&self, include_usage: bool) -> Shape {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (created, model) = (now(), self.state.settings.model.clone());
        let id = format!("chatcmpl-{created:x}-{:x}", NEXT.fetch_add(1, Relaxed));
        Shape { id, created, model, prompt_tokens: 0, include_usage }
    }
}

/// The header that says what was ignored.
fn warning(ignored: &[String]) -> Option<(HeaderName, HeaderValue)> {
    let names: Vec<&str> = ignored.iter().take(NAMED).map(String::as_str).collect();
    let value = HeaderValue::try_from(format!("299 mlxport \"ignored: {}\"", names.join(", ")));
    value.ok().filter(|_| !ignored.is_empty()).map(|value| (header::WARNING, value))
}

/// The whole text.
async fn whole_text(events: &mut UnboundedReceiver<Event>) -> Result<(String, Done), ApiError> {
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
fn inputs(prompter: &Prompter, request: &ChatRequest, pixels: u64) -> Result<Inputs, ApiError> {
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
    for (origin, bytes) in &request.conversation.images {
        let page =
            page::read_within(origin, bytes, left).map_err(|error| unusable(&error).with_param(origin.clone()))?;
        left -= (page.width() * page.height()) as u64;
        pages.push(page);
    }
    let prompt = &request.conversation.prompt;
    if pages.is_empty() {
        let (input_ids, images_seq_mask) = prompter.encode(prompt, &[]).map_err(|error| unusable(&error))?;
        return Ok(text_only(input_ids, images_seq_mask, request.mode.side()));
    }
    prepare(prompter, prompt, &pages, request.mode).map_err(|error| unusable(&error))
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
        tile: mlxport_ocr::TILE,
        tile_count: 0,
        token_counts: Vec::new(),
    }
}
