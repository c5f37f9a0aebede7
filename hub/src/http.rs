//! One request: who gets the token, which redirects are followed, what a status means, and when it is tried again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};
use url::{Origin, Url};

use crate::{HubError, Settings};

/// Redirects that are followed before the server is taken to be going round in circles.
const MAX_REDIRECTS: usize = 5;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Asks the hub and whoever it redirects to.
pub struct Client<'a> {
    agent: Agent,
    settings: &'a Settings,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Headers only, as the hub itself gives them: a redirect elsewhere ends it.
    Head,
    /// The body from this byte on.
    From(u64),
}

impl<'a> Client<'a> {
    /// A client whose every wait is bounded. Proxies come from the usual variables.
    pub fn new(settings: &'a Settings) -> Self {
        let silence = Some(settings.silence);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(silence)
            .timeout_connect(silence)
            .timeout_send_request(silence)
            .timeout_recv_response(silence)
            .timeout_per_read(silence)
            .user_agent(concat!("mlxport/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().into(), settings }
    }

    /// The answer at the end of the redirects: a success, 416 (the range is beyond the file), or for [`Ask::Head`] a redirect.
    ///
    /// # Errors
    /// No answer, or a status that is none of these.
    pub fn ask(&self, url: &str, ask: Ask) -> Result<Response<Body>, HubError> {
        let mut at = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let own = origin(&at)? == origin(&self.settings.endpoint)?;
            let response = self.once(&at, ask, own)?;
            if !response.status().is_redirection() {
                return self.judged(&at, response);
            }
            let next = redirect(&at, response.headers())?;
            let elsewhere = origin(&next)? != origin(&self.settings.endpoint)?;
            if ask == Ask::Head && (elsewhere || response.headers().contains_key("x-linked-etag")) {
                return Ok(response);
            }
            at = next;
        }
        Err(HubError::answer(url, format!("at most {MAX_REDIRECTS} redirects"), "more"))
    }

    fn once(&self, url: &str, ask: Ask, own: bool) -> Result<Response<Body>, HubError> {
        let mut request = if ask == Ask::Head { self.agent.head(url) } else { self.agent.get(url) };
        // Compressed bodies have another length than the file, and ranges of them mean nothing.
        request = request.header("Accept-Encoding", "identity");
        if let (Some(token), true) = (&self.settings.token, own) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Ask::From(start @ 1..) = ask {
            request = request.header("Range", format!("bytes={start}-"));
        }
        request.call().map_err(|error| HubError::Unreachable { url: shown(url), reason: error.to_string() })
    }

    fn judged(&self, url: &str, response: Response<Body>) -> Result<Response<Body>, HubError> {
        let url = shown(url);
        match response.status().as_u16() {
            200 | 206 | 416 => Ok(response),
            status @ (401 | 403) => {
                let sent = if self.settings.token.is_some() { "one was given" } else { "none was given" };
                Err(HubError::Denied { url, status, sent })
            }
            404 => Err(HubError::NotFound(url)),
            429 => Err(HubError::TooMany(url)),
            status => Err(HubError::Status { url, status }),
        }
    }

    /// Does `work` until it succeeds, fails for good, or has failed too often in a row. `work` says whether it got further.
    ///
    /// # Errors
    /// The last error.
    pub fn persist<T>(&self, mut work: impl FnMut(&mut bool) -> Result<T, HubError>) -> Result<T, HubError> {
        let settings = self.settings;
        let pauses = ExponentialBuilder::new()
            .with_min_delay(settings.pause)
            .with_max_delay(MAX_PAUSE)
            .with_max_times(settings.retries as usize);
        let mut left = pauses.build();
        loop {
            let mut further = false;
            match work(&mut further) {
                Err(error) if error.may_pass() => {
                    if further {
                        left = pauses.build();
                    }
                    match left.next() {
                        Some(pause) => std::thread::sleep(pause),
                        None => return Err(error),
                    }
                }
                other => return other,
            }
        }
    }
}

/// One header as text.
pub fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An address without its query: signed addresses are secrets.
fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

/// Scheme, host and port: who gets the token.
fn origin(url: &str) -> Result<Origin, HubError> {
    Ok(parsed(url)?.origin())
}

fn parsed(url: &str) -> Result<Url, HubError> {
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    parsed.ok_or_else(|| HubError::answer(shown(url), "an http or https address", "something else"))
}

/// Where a redirect leads; from https only to https.
fn redirect(from: &str, headers: &HeaderMap) -> Result<String, HubError> {
    let location = header(headers, "location")
        .ok_or_else(|| HubError::answer(shown(from), "a Location beside a redirect's status", "none"))?;
    let from = parsed(from)?;
    let next = from.join(location).map_err(|_| {
        HubError::answer(shown(from.as_str()), "a redirect to an http or https address", "something else")
    })?;
    if from.scheme() == "https" && next.scheme() != "https" {
        return Err(HubError::answer(shown(from.as_str()), "a redirect to an https address", shown(next.as_str())));
    }
    Ok(next.into())
}
