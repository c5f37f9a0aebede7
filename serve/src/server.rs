//! Listening, connections, and the end: stops accepting, lets what is under way finish, and cuts it off after a while.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use mlxport_ocr::Prompter;
use tokio::{
    net::TcpStream,
    sync::{
        Semaphore,
        mpsc::{UnboundedReceiver, unbounded_channel},
    },
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;

use crate::{
    chat::ChatHandler,
    error::ServeError,
    generator::Generator,
    job::Job,
    routes::{busy, routes},
    settings::Settings,
    state::State,
    worker,
};

/// How long connections have to carry away their last words once texts were cut off.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A server that has its address, but answers nobody yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<State>,
    prompter: Arc<Prompter>,
}

/// Tells a server to stop.
#[derive(Clone)]
pub struct Stopper(Arc<State>);

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
        Ok(Self { listener, address, state: Arc::new(State::new(settings)), prompter: Arc::new(prompter) })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its operator should know of who can reach it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let settings = &self.state.settings;
        let (address, is_guarded) = (self.address, settings.api_key.is_some());
        let mut warnings = Vec::new();
        if !address.ip().is_loopback() {
            let who = if is_guarded { "who has the key" } else { "who reaches it, without a key" };
            warnings.push(format!(
                "{address} is no loopback address: the model answers everyone {who}, and nothing is encrypted"
            ));
        }
        if !is_guarded && settings.cors_origins.iter().any(|origin| origin == "*") {
            let pages = "every page that a browser of this machine opens may use the model";
            warnings.push(format!("--cors '*' without a key: {pages}"));
        }
        warnings
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.state.clone())
    }

    /// Answers requests until told to stop, by a [`Stopper`] or, with `signals`, by SIGINT or SIGTERM. HTTP has threads of its own;
    /// `generator` is used on this one only.
    ///
    /// # Errors
    /// When those threads cannot be started.
    pub fn run(self, generator: &mut dyn Generator, signals: bool) -> Result<(), ServeError> {
        let Self { listener, state, prompter, .. } = self;
        let (jobs, mut queue) = unbounded_channel::<Job>();
        let handler = ChatHandler { state: state.clone(), prompter: prompter.clone(), jobs };
        let side = std::thread::Builder::new().name("http".into()).spawn(move || speak(listener, handler, signals));
        let side = side.map_err(|error| ServeError::Http(error.to_string()))?;
        worker::work(generator, &mut queue, &state, &prompter);
        refuse_the_rest(&mut queue);
        side.join().unwrap_or_else(|_| Err(ServeError::Http("its thread panicked".into())))
    }
}

/// Drops jobs that came too late: their clients see the channel closed.
fn refuse_the_rest(queue: &mut UnboundedReceiver<Job>) {
    queue.close();
    while queue.try_recv().is_ok() {}
}

/// The HTTP side.
fn speak(listener: TcpListener, handler: ChatHandler, signals: bool) -> Result<(), ServeError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("http").enable_all().build();
    let runtime = runtime.map_err(|error| ServeError::Http(error.to_string()))?;
    let outcome = runtime.block_on(accept(listener, Arc::new(handler), signals));
    // Pages that are still being prepared are of no more use.
    runtime.shutdown_background();
    outcome
}

/// Accepts connections until told to stop. `axum::serve` would do so, too, but without deadlines for headers and answers, and without end.
async fn accept(listener: TcpListener, handler: Arc<ChatHandler>, signals: bool) -> Result<(), ServeError> {
    let state = handler.state.clone();
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| ServeError::Http(error.to_string()))?;
    if signals {
        heed_signals(state.clone())?;
    }
    let most = state.settings.limits.connections;
    let (accepted, seats) = (Arc::new(Semaphore::new(2 * most)), Arc::new(Semaphore::new(most)));
    let (routes, busy) = (routes(handler), busy(state.clone()));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let permit = accepted.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = state.stopped() => break,
            (permit, accepted) = next => match accepted {
                Ok((stream, _)) => {
                    let (state, seats, routes, busy) = (state.clone(), seats.clone(), routes.clone(), busy.clone());
                    connections.spawn(async move {
                        let seat = timeout(state.settings.limits.wait_time, seats.acquire()).await;
                        connection(stream, &state, if seat.is_ok() { routes } else { busy }).await;
                        drop(permit);
                    });
                }
                // No file handles left, say: they come back.
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
        }
        while connections.try_join_next().is_some() {}
    }
    drop((listener, routes));
    wind_up(&state, &mut connections).await;
    Ok(())
}

/// Lets connections finish; after the grace, or once told again, cuts texts off.
async fn wind_up(state: &State, connections: &mut JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    let again = async {
        while !state.is_cut() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = all => return,
        () = again => {}
        () = sleep(state.settings.limits.grace) => {}
    }
    state.cut();
    let _ = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

#[cfg(unix)]
fn heed_signals(state: Arc<State>) -> Result<(), ServeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            state.stop();
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn heed_signals(state: Arc<State>) -> Result<(), ServeError> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            state.stop();
        }
    });
    Ok(())
}

/// Speaks with one client until it or the server has enough.
async fn connection(stream: TcpStream, state: &State, routes: Router) {
    let limits = &state.settings.limits;
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.stall_time));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_byte_len.max(8192));
    let stream = TokioIo::new(Box::pin(stream));
    let mut connection = std::pin::pin!(http.serve_connection(stream, TowerToHyperService::new(routes)));
    // An error is the client's: it went away, or spoke no HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = state.stopped() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
