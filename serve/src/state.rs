//! What the threads of a server share: settings, counters, the permits that bound its memory, and whether it is to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::{Semaphore, watch};

use crate::{
    answer::now,
    metrics::Metrics,
    settings::{Log, Settings},
};

/// Prompts whose inputs are in memory; the others wait as they came, where their connections can still be seen to close.
const PREPARED: usize = 2;
/// Memory for bodies is given out in pieces of so many bytes.
pub(crate) const BODY_PIECE: usize = 1 << 10;

/// What the threads of a server share.
pub(crate) struct State {
    pub settings: Settings,
    pub metrics: Metrics,
    /// Seconds since 1970.
    pub created: u64,
    /// A request holds one from its body's end to its text's end.
    pub queue_slots: Arc<Semaphore>,
    /// Held while a prompt's inputs are in memory.
    pub prepared: Arc<Semaphore>,
    /// Memory for bodies, in pieces: a body holds as many as have arrived of it, so a slow one holds few.
    pub bodies: Semaphore,
    stopping: watch::Sender<bool>,
    cut: AtomicBool,
}

impl State {
    pub fn new(settings: Settings) -> Self {
        let limits = &settings.limits;
        let body_pieces = limits.bodies_byte_len.max(limits.body_byte_len).div_ceil(BODY_PIECE) + 1;
        Self {
            created: now(),
            queue_slots: Arc::new(Semaphore::new(limits.batch + limits.queue)),
            prepared: Arc::new(Semaphore::new(PREPARED)),
            bodies: Semaphore::new(body_pieces.min(Semaphore::MAX_PERMITS)),
            metrics: Metrics::new(),
            stopping: watch::Sender::new(false),
            cut: AtomicBool::new(false),
            settings,
        }
    }

    /// The server has been told to stop.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits until the server has been told to stop.
    pub async fn stopped(&self) {
        let _ = self.stopping.subscribe().wait_for(|is_stopping| *is_stopping).await;
    }

    /// Texts under way have had their time.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    /// Ends the time of texts under way.
    pub fn cut(&self) {
        self.cut.store(true, Relaxed);
    }

    /// Requests that hold a slot, but no text yet.
    pub fn waiting(&self) -> i64 {
        let limits = &self.settings.limits;
        let taken = limits.batch + limits.queue - self.queue_slots.available_permits();
        (taken as i64 - self.metrics.running.get()).max(0)
    }

    /// Tells the server to stop: the first time gently, the second time at once.
    pub fn stop(&self) {
        if self.stopping.send_replace(true) {
            self.cut();
        } else {
            (self.settings.log)(&Log::Stopping);
        }
    }
}
