//! Listening, connections, and the end: stops accepting, lets what is under way finish, and cuts it off after a while.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use mlxport_ocr::Prompter;
use tokio::{
    net::TcpStream,
    sync::{
        Semaphore,
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;

use crate::{
    answer::now,
    chat::Desk,
    error::ServeError,
    generator::Generator,
    http,
    metrics::Metrics,
    settings::{Log, Settings},
    worker::{self, Job},
};

/// How long connections have to carry away their last words once texts were cut off.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Prompts whose inputs are in memory; the others wait as they came, where their connections can still be seen to close.
const PREPARED: usize = 2;

/// What all sides of a server share.
pub(crate) struct House {
    pub settings: Settings,
    pub metrics: Metrics,
    /// Seconds since 1970.
    pub created: u64,
    /// A request holds one from its body's end to its text's end.
    pub places: Arc<Semaphore>,
    /// Held while inputs are in memory.
    pub rooms: Arc<Semaphore>,
    /// Held while a body is read.
    pub bodies: Semaphore,
    stopping: watch::Sender<bool>,
    cut: AtomicBool,
}

impl House {
    fn new(settings: Settings) -> Self {
        let limits = &settings.limits;
        Self {
            created: now(),
            places: Arc::new(Semaphore::new(limits.batch + limits.queue)),
            rooms: Arc::new(Semaphore::new(PREPARED)),
            bodies: Semaphore::new(limits.bodies),
            metrics: Metrics::default(),
            stopping: watch::Sender::new(false),
            cut: AtomicBool::new(false),
            settings,
        }
    }

    /// The server has been told to stop.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Texts under way have had their time.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    /// Texts being made.
    pub fn running(&self) -> u64 {
        self.metrics.running.load(Relaxed)
    }

    /// Requests that have a place, but no text yet.
    pub fn waiting(&self) -> u64 {
        let limits = &self.settings.limits;
        let taken = limits.batch + limits.queue - self.places.available_permits();
        (taken as u64).saturating_sub(self.running())
    }

    /// Told to stop: the first time gently, the second time at once.
    fn stop(&self) {
        if self.stopping.send_replace(true) {
            self.cut.store(true, Relaxed);
        } else {
            (self.settings.log)(&Log::Stopping);
        }
    }
}

/// A server that has its address, but answers nobody yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    house: Arc<House>,
    prompter: Arc<Prompter>,
}

/// Tells a server to stop.
#[derive(Clone)]
pub struct Stopper(Arc<House>);

impl Stopper {
    /// No more connections; requests under way may finish within `Limits::grace`. Told twice: they are cut off.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When it cannot be listened at.
    pub fn bind(settings: Settings, prompter: Prompter) -> Result<Self, ServeError> {
        let address = settings.address;
        let error = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        Ok(Self { listener, address, house: Arc::new(House::new(settings)), prompter: Arc::new(prompter) })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.house.clone())
    }

    /// Answers requests until told to stop, by a [`Stopper`] or, with `signals`, by SIGINT or SIGTERM. HTTP has threads of its own;
    /// `generator` is used on this one only.
    ///
    /// # Errors
    /// When those threads cannot be started.
    pub fn run(self, generator: &mut dyn Generator, signals: bool) -> Result<(), ServeError> {
        let Self { listener, house, prompter, .. } = self;
        let (jobs, mut queue) = unbounded_channel::<Job>();
        let desk = Desk { house: house.clone(), prompter: prompter.clone(), jobs };
        let side = std::thread::Builder::new().name("http".into()).spawn(move || speak(listener, desk, signals));
        let side = side.map_err(|error| ServeError::Http(error.to_string()))?;
        worker::work(generator, &mut queue, &house, &prompter);
        refuse_the_rest(&mut queue);
        side.join().unwrap_or_else(|_| Err(ServeError::Http("it broke".into())))
    }
}

/// Jobs that came too late; whoever asked hears that the channel is closed.
fn refuse_the_rest(queue: &mut UnboundedReceiver<Job>) {
    queue.close();
    while queue.try_recv().is_ok() {}
}

/// The HTTP side.
fn speak(listener: TcpListener, desk: Desk, signals: bool) -> Result<(), ServeError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("http").enable_all().build();
    let runtime = runtime.map_err(|error| ServeError::Http(error.to_string()))?;
    let outcome = runtime.block_on(accept(listener, Arc::new(desk), signals));
    // Pages that are still being prepared are of no more use.
    runtime.shutdown_background();
    outcome
}

async fn accept(listener: TcpListener, desk: Arc<Desk>, signals: bool) -> Result<(), ServeError> {
    let house = desk.house.clone();
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| ServeError::Http(error.to_string()))?;
    let mut stopping = house.stopping.subscribe();
    if signals {
        heed_signals(house.clone())?;
    }
    let free = Arc::new(Semaphore::new(house.settings.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let seat = free.clone().acquire_owned().await;
            (seat, listener.accept().await)
        };
        tokio::select! {
            () = stopped(&mut stopping) => break,
            (seat, accepted) = next => match accepted {
                Ok((stream, _)) => {
                    let desk = desk.clone();
                    connections.spawn(async move {
                        connection(stream, desk).await;
                        drop(seat);
                    });
                }
                // No file handles left, say: they come back.
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
        }
        while connections.try_join_next().is_some() {}
    }
    drop((listener, desk));
    wind_up(&house, &mut connections).await;
    Ok(())
}

/// Waits until the server has been told to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

/// Lets connections finish; after the grace, or once told again, cuts texts off.
async fn wind_up(house: &House, connections: &mut JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    let again = async {
        while !house.is_cut() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = all => return,
        () = again => {}
        () = sleep(house.settings.limits.grace) => {}
    }
    house.cut.store(true, Relaxed);
    let _ = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

#[cfg(unix)]
fn heed_signals(house: Arc<House>) -> Result<(), ServeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            house.stop();
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn heed_signals(house: Arc<House>) -> Result<(), ServeError> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            house.stop();
        }
    });
    Ok(())
}

/// Speaks with one client until it or the server has enough.
async fn connection(stream: TcpStream, desk: Arc<Desk>) {
    let limits = desk.house.settings.limits.clone();
    let mut stopping = desk.house.stopping.subscribe();
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.stall_time));
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { http::answer(&desk, request).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_byte_len.max(8192));
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(Box::pin(stream)), service));
    // An error is the client's: it went away, or spoke no HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopped(&mut stopping) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
