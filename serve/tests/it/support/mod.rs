//! A server whose generator says what it was asked, and a client that speaks HTTP by hand, well or badly.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mlxport_ocr::{IMAGE_TOKEN_ID, Inputs, Mode, Prompter};
use mlxport_serve::{Generator, GeneratorError, Limits, Log, Made, ServeError, Server, Settings, Stopper, TextOptions};
use serde_json::{Value, json};

/// A prompt of more tokens takes its time.
pub const LONG: usize = 500;
/// What ends a text.
pub const END: i32 = 1;
/// How long anything here may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The file of a page or of the tokenizer.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ocr/testdata").join(name)
}

pub fn prompter() -> Prompter {
    Prompter::open(&data("tokenizer.json")).expect("a tokenizer")
}

/// What the generator saw, for the test to look at.
#[derive(Default)]
pub struct Seen {
    /// Prompts that were begun.
    pub begun: AtomicUsize,
    pub joined: Mutex<Vec<(Vec<i64>, usize, TextOptions)>>,
    pub left: AtomicUsize,
    pub resets: AtomicUsize,
    /// The most texts side by side.
    pub side_by_side: AtomicUsize,
    pub log: Mutex<Vec<Log>>,
}

/// Says its prompt, token by token, and ends. A prompt that begins with `endless` is said again and again, slowly; one that begins with
/// `refuse` is refused; with `broken`, it breaks. One with more than `LONG` tokens is read in so many pieces, slowly.
struct Echo {
    seen: Arc<Seen>,
    texts: Vec<Text>,
    /// A prompt being read, and the pieces it has left.
    joining: Option<(Text, usize)>,
    endless: Vec<i64>,
    refuse: Vec<i64>,
    broken: Vec<i64>,
}

struct Text {
    id: usize,
    says: Vec<i32>,
    at: usize,
    most: usize,
    is_endless: bool,
    is_broken: bool,
}

impl Echo {
    fn new(seen: Arc<Seen>, prompter: &Prompter) -> Self {
        let ids = |word: &str| prompter.encode(word, &[]).expect("ids").0;
        Self {
            seen,
            texts: Vec::new(),
            joining: None,
            endless: ids("endless"),
            refuse: ids("refuse"),
            broken: ids("broken"),
        }
    }
}

impl Generator for Echo {
    fn begin(&mut self, id: usize, inputs: &Inputs, options: &TextOptions) -> Result<(), GeneratorError> {
        let ids = &inputs.input_ids;
        if ids.starts_with(&self.refuse) {
            return Err(GeneratorError::Refused("not this one".into()));
        }
        self.seen.joined.lock().expect("whole").push((ids.clone(), inputs.token_counts.len(), options.clone()));
        let says = ids[1..].iter().filter(|id| **id != IMAGE_TOKEN_ID).map(|id| i32::try_from(*id).expect("an id"));
        let (is_endless, is_broken) = (ids.starts_with(&self.endless), ids.starts_with(&self.broken));
        let text = Text { id, says: says.collect(), at: 0, most: options.max_tokens, is_endless, is_broken };
        let pieces = if ids.len() > LONG { ids.len() } else { 1 };
        assert!(self.joining.replace((text, pieces)).is_none(), "one prompt at a time");
        self.seen.begun.fetch_add(1, SeqCst);
        Ok(())
    }

    fn advance(&mut self) -> Result<bool, GeneratorError> {
        let Some((text, pieces)) = self.joining.take() else { panic!("no prompt was begun") };
        if pieces > 1 {
            std::thread::sleep(Duration::from_millis(5));
            self.joining = Some((text, pieces - 1));
            return Ok(false);
        }
        self.texts.push(text);
        self.seen.side_by_side.fetch_max(self.texts.len(), SeqCst);
        Ok(true)
    }

    fn leave(&mut self, id: usize) -> Result<(), GeneratorError> {
        self.texts.retain(|text| text.id != id);
        self.joining.take_if(|(text, _)| text.id == id);
        self.seen.left.fetch_add(1, SeqCst);
        Ok(())
    }

    fn step(&mut self) -> Result<Vec<Made>, GeneratorError> {
        if self.texts.iter().any(|text| text.is_broken) {
            return Err(GeneratorError::Failed("the generator failed".into()));
        }
        if self.texts.iter().any(|text| text.is_endless) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let made = self.texts.iter_mut().map(|text| {
            let next = if text.is_endless { Some(text.at % text.says.len()) } else { Some(text.at) };
            let token = next.and_then(|at| text.says.get(at)).copied().unwrap_or(END);
            text.at += 1;
            Made { id: text.id, token, is_last: token == END || text.at >= text.most }
        });
        let made: Vec<Made> = made.collect();
        self.texts.retain(|text| !made.iter().any(|made| made.id == text.id && made.is_last));
        Ok(made)
    }

    fn reset(&mut self) {
        self.texts.clear();
        self.joining = None;
        self.seen.resets.fetch_add(1, SeqCst);
    }
}

/// A server under test; stops when dropped.
pub struct Served {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    pub stopper: Stopper,
    pub side: Option<JoinHandle<Result<(), ServeError>>>,
}

/// Limits that tests can reach.
pub fn limits() -> Limits {
    Limits { images: 2, max_tokens: 4000, context_tokens: 5000, grace: Duration::from_secs(5), ..Limits::default() }
}

pub fn settings(limits: Limits, seen: &Arc<Seen>) -> Settings {
    let log = seen.clone();
    Settings {
        mode: Mode::Tiny,
        no_repeat_ngram: 0,
        end_ids: vec![END],
        limits,
        log: Arc::new(move |line| log.log.lock().expect("whole").push(line.clone())),
        ..Settings::new("echo model")
    }
}

pub fn serve(limits: Limits) -> Served {
    serve_with(|_| (), limits)
}

pub fn serve_with(change: impl FnOnce(&mut Settings), limits: Limits) -> Served {
    let seen = Arc::new(Seen::default());
    let mut settings = settings(limits, &seen);
    change(&mut settings);
    let prompter = prompter();
    let mut echo = Echo::new(seen.clone(), &prompter);
    let server = Server::bind(settings, prompter).expect("bound");
    let (address, stopper) = (server.address(), server.stopper());
    let side = std::thread::spawn(move || server.run(&mut echo, false));
    Served { address, seen, stopper, side: Some(side) }
}

impl Served {
    /// Waits until the server has ended.
    pub fn end(&mut self) -> Result<(), ServeError> {
        self.side.take().expect("ended once").join().expect("it did not panic")
    }

    pub fn post(&self, body: &Value) -> Reply {
        self.post_bytes("application/json", body.to_string().as_bytes())
    }

    pub fn post_bytes(&self, kind: &str, body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let _ = stream.write_all(post(kind, body.len()).as_bytes());
        let _ = stream.write_all(body);
        reply(&mut stream)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// Sends bytes and reads what comes.
    pub fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        reply(&mut stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    /// Starts a request and leaves its answer to be read.
    pub fn begin(&self, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        let body = body.to_string();
        stream.write_all(post("application/json", body.len()).as_bytes()).expect("sent");
        stream.write_all(body.as_bytes()).expect("sent");
        stream
    }

    /// The numbers of `/metrics`.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#')).expect("a known counter");
        line.rsplit(' ').next().expect("a number").parse().expect("a number")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stopper.stop();
        self.stopper.stop();
        if let Some(side) = self.side.take() {
            let _ = side.join();
        }
    }
}

/// The head of a request with a body.
pub fn post(kind: &str, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// A request that asks for `text` back.
pub fn asking(text: &str) -> Value {
    json!({ "model": "echo model", "messages": [{ "role": "user", "content": text }] })
}

/// `asking`, with more fields.
pub fn asking_with(text: &str, more: Value) -> Value {
    let mut body = asking(text);
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

/// Waits for something to become true.
pub fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// 0 where the connection closed without one.
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The whole text of a whole answer.
    pub fn text(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["choices"][0]["message"]["content"].as_str().expect("a text").to_owned()
    }

    /// An error's status, type and code; the object must have the four fields and nothing else.
    pub fn error(&self) -> (u16, String, String) {
        let object = self.json();
        let fields: Vec<&String> = object["error"].as_object().expect("an error").keys().collect();
        assert_eq!(fields, ["message", "type", "param", "code"]);
        let field = |name: &str| object["error"][name].as_str().unwrap_or_default().to_owned();
        assert!(!field("message").is_empty());
        (self.status, field("type"), field("code"))
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().expect("a message").to_owned()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line[name.len() + 1..].trim())
    }

    /// The events of a streamed answer, the last one without `data: `; comments left out.
    pub fn events(&self) -> Vec<String> {
        assert_eq!(self.header("content-type"), Some("text/event-stream; charset=utf-8"), "{self:?}");
        let events = self.body.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
        events.map(|event| event.strip_prefix("data: ").expect("data").to_owned()).collect()
    }
}

/// Reads an answer until the connection closes.
pub fn reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    // A reset after the answer is no reason to forget the answer.
    while let Ok(read) = stream.read(&mut buffer) {
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
    let text = String::from_utf8(bytes).expect("UTF-8");
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Reply { status: 0, head: text, body: String::new() };
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Reply { status, head: head.to_owned(), body }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a chunk's length");
        let Some(chunk) = after.get(..length) else { break };
        body.push_str(chunk);
        rest = after.get(length + 2..).unwrap_or_default();
    }
    body
}
