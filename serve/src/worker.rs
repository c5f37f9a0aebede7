//! The model's thread: takes jobs from the queue, has the generator make their tokens, and sends what they say to whoever listens.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use mlxport_ocr::{Inputs, Prompter};
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{UnboundedReceiver, UnboundedSender},
};

use crate::{
    error::ApiError,
    generator::{Generator, GeneratorError, Made},
    making::Making,
    metrics::{Counted, Metrics},
    server::House,
    settings::Log,
    text::Text,
};

/// A request on its way to the generator.
pub(crate) struct Job {
    pub inputs: Inputs,
    pub making: Making,
    pub stops: Vec<String>,
    /// Whoever asked; closed where that one went away.
    pub events: UnboundedSender<Event>,
    /// The request's place in the queue.
    pub place: OwnedSemaphorePermit,
    /// Room for the inputs in memory.
    pub room: OwnedSemaphorePermit,
}

/// What a job comes to.
#[derive(Debug)]
pub(crate) enum Event {
    /// The prompt was read.
    Begun,
    /// More of the text, not empty.
    Text(String),
    /// The end.
    Done(Done),
    /// The end, too.
    Failed(ApiError),
}

/// How a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    /// By a token or a string that ends texts; else it has as many tokens as it may.
    pub stopped: bool,
    pub completion_tokens: usize,
}

/// A text under way.
struct Running<'a> {
    id: usize,
    text: Text<'a>,
    events: UnboundedSender<Event>,
    prompt_tokens: usize,
    made: usize,
    begun: Instant,
    _place: OwnedSemaphorePermit,
    _counted: Counted<'a>,
}

/// Makes texts until every sender of jobs is gone.
pub(crate) fn work(
    generator: &mut dyn Generator,
    jobs: &mut UnboundedReceiver<Job>,
    house: &House,
    prompter: &Prompter,
) {
    let waiting = VecDeque::new();
    let mut worker = Worker { generator, house, prompter, waiting, joining: None, running: Vec::new(), next_id: 0 };
    while worker.hear(jobs) {
        worker.dismiss();
        worker.begin_next();
        worker.advance();
        worker.step();
    }
}

struct Worker<'a> {
    generator: &'a mut dyn Generator,
    house: &'a House,
    prompter: &'a Prompter,
    waiting: VecDeque<Job>,
    /// Whose prompt is being read, with the room its inputs take.
    joining: Option<(Running<'a>, OwnedSemaphorePermit)>,
    running: Vec<Running<'a>>,
    next_id: usize,
}

impl<'a> Worker<'a> {
    /// Takes what has come; waits for it where there is nothing to do. False: nobody asks any more, and all is done.
    fn hear(&mut self, jobs: &mut UnboundedReceiver<Job>) -> bool {
        if self.is_idle() && self.waiting.is_empty() {
            match jobs.blocking_recv() {
                Some(job) => self.waiting.push_back(job),
                None => return false,
            }
        }
        while let Ok(job) = jobs.try_recv() {
            self.waiting.push_back(job);
        }
        true
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.joining.is_none()
    }

    /// Begins to read one job's prompt, if there is one and room for it.
    fn begin_next(&mut self) {
        if self.joining.is_none()
            && self.running.len() < self.house.settings.limits.batch
            && let Some(job) = self.waiting.pop_front()
        {
            self.begin(job);
        }
    }

    fn begin(&mut self, job: Job) {
        let id = self.next_id;
        self.next_id += 1;
        let Job { inputs, making, stops, events, place, room } = job;
        let running = Running {
            id,
            text: Text::new(self.prompter, stops),
            events,
            prompt_tokens: inputs.input_ids.len(),
            made: 0,
            begun: Instant::now(),
            _place: place,
            _counted: Counted::new(&self.house.metrics.running),
        };
        if self.house.is_cut() {
            return self.fail(&running, ApiError::stopping(), "cancelled");
        }
        match self.generator.begin(id, &inputs, &making) {
            Ok(()) => self.joining = Some((running, room)),
            Err(error) => self.unusable(&running, error),
        }
    }

    /// Reads a piece of the prompt that was begun: one between two steps, so that texts under way go on, and those who went away and the server's
    /// end are seen.
    fn advance(&mut self) {
        let Some((running, room)) = self.joining.take() else { return };
        match self.generator.advance() {
            Ok(false) => self.joining = Some((running, room)),
            Ok(true) => {
                self.house.metrics.prompt_tokens.fetch_add(running.prompt_tokens as u64, Relaxed);
                let _ = running.events.send(Event::Begun);
                self.running.push(running);
            }
            Err(error) => self.unusable(&running, error),
        }
    }

    /// A prompt that cannot be used; or it broke the generator, and then all texts.
    fn unusable(&mut self, running: &Running, error: GeneratorError) {
        match error {
            GeneratorError::Refused(reason) => {
                self.fail(running, ApiError::request(400, Some("unusable_prompt"), reason), "failed");
            }
            GeneratorError::Failed(reason) => {
                self.fail(running, ApiError::server(500, Some("model_failed"), reason.clone()), "failed");
                self.fail_all(&ApiError::server(500, Some("model_failed"), reason), "failed");
            }
        }
    }

    /// Ends texts that nobody listens to, and forgets jobs of those that went away; all texts, once the server's time is up.
    fn dismiss(&mut self) {
        self.waiting.retain(|job| !job.events.is_closed());
        if self.house.is_cut() {
            return self.fail_all(&ApiError::stopping(), "cancelled");
        }
        if let Some((gone, _room)) = self.joining.take_if(|(joining, _)| joining.events.is_closed()) {
            self.ended(&gone, "cancelled");
            self.leave(gone.id);
        }
        let mut at = 0;
        while at < self.running.len() {
            if self.running[at].events.is_closed() {
                let gone = self.running.swap_remove(at);
                self.ended(&gone, "cancelled");
                self.leave(gone.id);
            } else {
                at += 1;
            }
        }
    }

    fn step(&mut self) {
        if self.running.is_empty() {
            return;
        }
        match self.generator.step() {
            Ok(made) => made.into_iter().for_each(|made| self.take(made)),
            Err(error) => self.fail_all(&ApiError::server(500, Some("model_failed"), error.to_string()), "failed"),
        }
    }

    fn take(&mut self, made: Made) {
        let Some(at) = self.running.iter().position(|running| running.id == made.id) else { return };
        self.house.metrics.completion_tokens.fetch_add(1, Relaxed);
        let running = &mut self.running[at];
        running.made += 1;
        let ends = made.is_last && self.house.settings.end_ids.contains(&made.token);
        let pushed = if ends { Ok((String::new(), false)) } else { running.text.push(made.token) };
        let (text, met) = match pushed {
            Ok(pushed) => pushed,
            Err(error) => {
                let running = self.running.swap_remove(at);
                self.leave(running.id);
                return self.fail(&running, ApiError::server(500, None, error.to_string()), "failed");
            }
        };
        running.say(text);
        if met && !made.is_last {
            let id = running.id;
            self.finish(at, true);
            self.leave(id);
        } else if made.is_last || met {
            self.finish(at, ends || met);
        }
    }

    /// The text at `at` is complete.
    fn finish(&mut self, at: usize, stopped: bool) {
        let mut running = self.running.swap_remove(at);
        let text = std::mem::replace(&mut running.text, Text::new(self.prompter, Vec::new()));
        // A stop string that was met took what was held with it.
        let (rest, met) = text.finish().unwrap_or_default();
        running.say(rest);
        let stopped = stopped || met;
        self.ended(&running, if stopped { "stop" } else { "length" });
        let _ = running.events.send(Event::Done(Done { stopped, completion_tokens: running.made }));
    }

    fn leave(&mut self, id: usize) {
        if let Err(error) = self.generator.leave(id) {
            self.fail_all(&ApiError::server(500, Some("model_failed"), error.to_string()), "failed");
        }
    }

    fn fail_all(&mut self, error: &ApiError, finish: &'static str) {
        if self.is_idle() && finish == "cancelled" {
            return;
        }
        self.generator.reset();
        let joining = self.joining.take().map(|(running, _room)| running);
        for running in std::mem::take(&mut self.running).into_iter().chain(joining) {
            self.fail(&running, error.clone(), finish);
        }
    }

    fn fail(&self, running: &Running, error: ApiError, finish: &'static str) {
        self.ended(running, finish);
        let _ = running.events.send(Event::Failed(error));
    }

    fn ended(&self, running: &Running, finish: &'static str) {
        count(&self.house.metrics, finish).fetch_add(1, Relaxed);
        (self.house.settings.log)(&Log::Made {
            prompt_tokens: running.prompt_tokens,
            completion_tokens: running.made,
            finish,
            seconds: running.begun.elapsed().as_secs_f64(),
        });
    }
}

impl Running<'_> {
    fn say(&self, text: String) {
        if !text.is_empty() {
            let _ = self.events.send(Event::Text(text));
        }
    }
}

fn count<'m>(metrics: &'m Metrics, finish: &str) -> &'m AtomicU64 {
    match finish {
        "cancelled" => &metrics.cancelled,
        "failed" => &metrics.failed,
        _ => &metrics.finished,
    }
}
