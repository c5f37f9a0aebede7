//! The model's thread: takes jobs from the queue, has the generator make their tokens, and sends what they say to whoever listens.

use std::{collections::VecDeque, time::Instant};

use mlxport_ocr::Prompter;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{UnboundedReceiver, UnboundedSender},
};

use crate::{
    error::ApiError,
    generator::{Generator, GeneratorError, Made},
    job::{Done, Event, Job},
    metrics::{Counted, Metrics},
    settings::Log,
    state::State,
    text::Text,
};

/// A text under way.
struct Running<'a> {
    id: usize,
    text: Text<'a>,
    events: UnboundedSender<Event>,
    prompt_tokens: usize,
    made: usize,
    asked: Instant,
    begun: Instant,
    _slot: OwnedSemaphorePermit,
    _counted: Counted<'a>,
}

/// Makes texts until every sender of jobs is gone.
pub(crate) fn work(
    generator: &mut dyn Generator,
    jobs: &mut UnboundedReceiver<Job>,
    state: &State,
    prompter: &Prompter,
) {
    let waiting = VecDeque::new();
    let mut worker = Worker { generator, state, prompter, waiting, joining: None, running: Vec::new(), next_id: 0 };
    while worker.take_jobs(jobs) {
        worker.dismiss();
        worker.begin_next();
        worker.advance();
        worker.step();
    }
}

struct Worker<'a> {
    generator: &'a mut dyn Generator,
    state: &'a State,
    prompter: &'a Prompter,
    waiting: VecDeque<Job>,
    /// Whose prompt is being read, with the permission to hold its inputs in memory.
    joining: Option<(Running<'a>, OwnedSemaphorePermit)>,
    running: Vec<Running<'a>>,
    next_id: usize,
}

impl<'a> Worker<'a> {
    /// Takes what has come; waits for it where there is nothing to do. False: nobody asks any more, and all is done.
    fn take_jobs(&mut self, jobs: &mut UnboundedReceiver<Job>) -> bool {
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
            && self.running.len() < self.state.settings.limits.batch
            && let Some(job) = self.waiting.pop_front()
        {
            self.begin(job);
        }
    }

    fn begin(&mut self, job: Job) {
        let id = self.next_id;
        self.next_id += 1;
        let Job { inputs, options, stops, events, asked, slot, prepared } = job;
        let running = Running {
            id,
            text: Text::new(self.prompter, stops),
            events,
            prompt_tokens: inputs.input_ids.len(),
            made: 0,
            asked,
            begun: Instant::now(),
            _slot: slot,
            _counted: Counted::new(&self.state.metrics.running),
        };
        if self.state.is_cut() {
            return self.fail(&running, ApiError::stopping(), "cancelled");
        }
        match self.generator.begin(id, &inputs, &options) {
            Ok(()) => self.joining = Some((running, prepared)),
            Err(error) => self.unusable(&running, error),
        }
    }

    /// Reads a piece of the prompt that was begun: one between two steps, so that texts under way go on, and those who went away and the server's
    /// end are seen.
    fn advance(&mut self) {
        let Some((running, prepared)) = self.joining.take() else { return };
        match self.generator.advance() {
            Ok(false) => self.joining = Some((running, prepared)),
            Ok(true) => {
                self.state.metrics.prompt_tokens.inc_by(running.prompt_tokens as u64);
                let _ = running.events.send(Event::Begun);
                self.running.push(running);
            }
            Err(error) => self.unusable(&running, error),
        }
    }

    /// A prompt that cannot be used; where it made the generator fail, all texts fail with it.
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
        if self.state.is_cut() {
            return self.fail_all(&ApiError::stopping(), "cancelled");
        }
        if let Some((gone, _prepared)) = self.joining.take_if(|(joining, _)| joining.events.is_closed()) {
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
        self.state.metrics.completion_tokens.inc();
        let running = &mut self.running[at];
        running.made += 1;
        if running.made == 1 {
            self.state.metrics.first_token_seconds.observe(running.asked.elapsed().as_secs_f64());
        }
        let ends = made.is_last && self.state.settings.end_ids.contains(&made.token);
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
        let joining = self.joining.take().map(|(running, _prepared)| running);
        for running in std::mem::take(&mut self.running).into_iter().chain(joining) {
            self.fail(&running, error.clone(), finish);
        }
    }

    fn fail(&self, running: &Running, error: ApiError, finish: &'static str) {
        self.ended(running, finish);
        let _ = running.events.send(Event::Failed(error));
    }

    fn ended(&self, running: &Running, finish: &'static str) {
        count(&self.state.metrics, finish).inc();
        (self.state.settings.log)(&Log::Made {
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

fn count<'m>(metrics: &'m Metrics, finish: &str) -> &'m Counter {
    match finish {
        "cancelled" => &metrics.cancelled,
        "failed" => &metrics.failed,
        _ => &metrics.finished,
    }
}
