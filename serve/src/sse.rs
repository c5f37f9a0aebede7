//! A streamed answer's body: server-sent events, `data: {…}` with a blank line behind each, `data: [DONE]` at the end.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame};
use mlxport_ocr::grounding;
use serde_json::Value;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, Sleep, sleep},
};

use crate::{answer::Shape, error::ApiError, worker::Event};

/// After so long without text a comment is sent: clients skip it, and one that is gone is noticed.
const PING_TIME: Duration = Duration::from_secs(10);

/// The body.
pub(crate) struct Events {
    events: UnboundedReceiver<Event>,
    shape: Shape,
    /// The text so far, where it becomes Markdown, which can be made of the whole only.
    gathered: Option<String>,
    ready: VecDeque<Bytes>,
    is_over: bool,
    ping: Pin<Box<Sleep>>,
}

impl Events {
    pub fn new(events: UnboundedReceiver<Event>, shape: Shape, markdown: bool) -> Self {
        let ready = VecDeque::from([data(&shape.first())]);
        let gathered = markdown.then(String::new);
        Self { events, shape, gathered, ready, is_over: false, ping: Box::pin(sleep(PING_TIME)) }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Begun => {}
            Event::Text(text) => match &mut self.gathered {
                Some(gathered) => gathered.push_str(&text),
                None => self.ready.push_back(data(&self.shape.more(&text))),
            },
            Event::Done(done) => {
                if let Some(gathered) = self.gathered.take() {
                    self.ready.push_back(data(&self.shape.more(&grounding::markdown(&gathered).text)));
                }
                self.ready.extend(self.shape.last(done).iter().map(data));
                self.ready.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
                self.is_over = true;
            }
            Event::Failed(error) => {
                self.ready.push_back(data(&error.object()));
                self.is_over = true;
            }
        }
    }
}

fn data(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                self.ping.as_mut().reset(Instant::now() + PING_TIME);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            match self.events.poll_recv(context) {
                Poll::Ready(Some(event)) => self.take(event),
                Poll::Ready(None) => self.take(Event::Failed(ApiError::stopping())),
                Poll::Pending if self.ping.as_mut().poll(context).is_ready() => {
                    self.ready.push_back(Bytes::from_static(b": still at it\n\n"));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
