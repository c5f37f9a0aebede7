//! A streamed answer: server-sent events, `data: {…}` with a blank line behind each, `data: [DONE]` at the end.

use std::{convert::Infallible, future::Future, time::Duration};

use axum::{
    http::{HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event as Message, KeepAlive, Sse},
    },
};
use mlxport_ocr::grounding;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

use crate::{
    answer::Shape,
    error::ApiError,
    job::{Begun, Event},
};

/// After so long without an event a comment is sent: clients skip it, proxies keep the connection, and a client that is gone is noticed.
const COMMENT_TIME: Duration = Duration::from_secs(3);

/// The answer, whose head can be sent at once; its text comes when `begun` has it. Markdown is made of the whole text, at the end.
pub(crate) fn response(
    shape: Shape,
    begun: impl Future<Output = Result<Begun, ApiError>> + Send + 'static,
    markdown: bool,
) -> Response {
    let (messages, body) = unbounded_channel();
    tokio::spawn(async move {
        let out = Out(messages.clone());
        tokio::select! {
            // The client went away: with `begun`, its text's events are dropped, and the worker ends it.
            () = messages.closed() => {}
            outcome = send_events(&out, shape, begun, markdown) => match outcome {
                Ok(()) => out.text("[DONE]"),
                Err(error) => out.send(&error.object()),
            },
        }
    });
    let messages = UnboundedReceiverStream::new(body).map(Ok::<_, Infallible>);
    let keep_alive = KeepAlive::new().interval(COMMENT_TIME).text("still at it");
    let mut response = Sse::new(messages).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Where messages go; a client that went away does not get them.
struct Out(UnboundedSender<Message>);

impl Out {
    fn send(&self, value: &Value) {
        self.text(&value.to_string());
    }

    fn text(&self, text: &str) {
        let _ = self.0.send(Message::default().data(text));
    }
}

/// Sends a text, all but the last message.
async fn send_events(
    out: &Out,
    mut shape: Shape,
    begun: impl Future<Output = Result<Begun, ApiError>>,
    markdown: bool,
) -> Result<(), ApiError> {
    out.send(&shape.first());
    let mut begun = begun.await?;
    shape.prompt_tokens = begun.prompt_tokens;
    let mut whole = markdown.then(String::new);
    while let Some(event) = begun.events.recv().await {
        match event {
            Event::Begun => {}
            Event::Text(text) => match &mut whole {
                Some(whole) => whole.push_str(&text),
                None => out.send(&shape.more(&text)),
            },
            Event::Done(done) => {
                if let Some(whole) = whole {
                    out.send(&shape.more(&grounding::markdown(&whole).text));
                }
                shape.last(done).iter().for_each(|chunk| out.send(chunk));
                return Ok(());
            }
            Event::Failed(error) => return Err(error),
        }
    }
    Err(ApiError::stopping())
}
