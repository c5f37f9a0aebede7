//! Addresses and methods, who may ask, and bodies within limits. Every error is JSON in the shape that OpenAI's clients know.

use std::{convert::Infallible, net::IpAddr, time::Instant};

use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response,
    body::{Body, Bytes, Incoming},
    header::{self, HeaderValue},
    http::{request::Parts, uri::Authority},
};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json as object};
use tokio::time::timeout;

use crate::{
    answer,
    chat::Desk,
    error::ApiError,
    request::no_model,
    settings::{Log, Settings},
};

/// An answer's body.
pub(crate) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// Where the models are.
const MODELS: &str = "/v1/models";
/// Of a body that is refused, so many times the allowed length is read and dropped.
const DROPPED: usize = 4;

/// Answers one request, whatever it is.
pub(crate) async fn answer(desk: &Desk, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let begun = Instant::now();
    let (parts, mut body) = request.into_parts();
    let (method, path) = (parts.method.to_string(), shown(parts.uri.path()));
    let (response, message) = match route(desk, &parts, &mut body).await {
        Ok(response) => (response, None),
        Err(error) => {
            lose(desk, &parts.headers, &mut body, error.status).await;
            (refusal(&error), Some(error.message))
        }
    };
    let (status, house) = (response.status().as_u16(), &desk.house);
    house.metrics.answered(status);
    let seconds = begun.elapsed().as_secs_f64();
    (house.settings.log)(&Log::Answered { method, path, status, message, seconds });
    Ok(response)
}

/// A path that is safe to show.
fn shown(path: &str) -> String {
    path.chars().take(200).flat_map(char::escape_default).collect()
}

async fn route(desk: &Desk, request: &Parts, body: &mut Incoming) -> Result<Response<Answer>, ApiError> {
    let (house, path) = (&desk.house, request.uri.path());
    permitted(&request.headers, request.uri.authority().map(Authority::as_str), &house.settings)?;
    if path != "/health" {
        authorized(&request.headers, house.settings.api_key.as_deref())?;
    }
    let created = house.created;
    match path {
        "/v1/chat/completions" => {
            only(&request.method, &[Method::POST], "POST")?;
            desk.chat(read(&request.headers, body, desk).await?).await
        }
        "/health" => {
            get(&request.method)?;
            let status = if house.is_stopping() { 503 } else { 200 };
            let word = if status == 200 { "ok" } else { "stopping" };
            let (running, waiting) = (house.running(), house.waiting());
            Ok(json(
                status,
                &object!({ "status": word, "model": house.settings.model, "running": running, "waiting": waiting }),
            ))
        }
        "/metrics" => {
            get(&request.method)?;
            Ok(whole(200, "text/plain; version=0.0.4; charset=utf-8", house.metrics.text(house.waiting())))
        }
        MODELS => {
            get(&request.method)?;
            let models = [answer::model(&house.settings.model, created)];
            Ok(json(200, &object!({ "object": "list", "data": models })))
        }
        _ => match path.strip_prefix(MODELS).and_then(|rest| rest.strip_prefix('/')) {
            Some(name) => {
                get(&request.method)?;
                let name = percent_decode_str(name).decode_utf8_lossy();
                let is_it = name == house.settings.model;
                let model = is_it.then(|| json(200, &answer::model(&name, created)));
                model.ok_or_else(|| no_model(&name, &house.settings))
            }
            None => {
                let message = format!("{} does not exist: expected {MODELS} or /v1/chat/completions", shown(path));
                Err(ApiError::request(404, Some("not_found"), message))
            }
        },
    }
}

fn get(method: &Method) -> Result<(), ApiError> {
    only(method, &[Method::GET, Method::HEAD], "GET, HEAD")
}

fn only(method: &Method, allowed: &[Method], names: &'static str) -> Result<(), ApiError> {
    if allowed.contains(method) {
        return Ok(());
    }
    let message = format!("expected {names}, found {}", shown(method.as_str()));
    Err(ApiError::request(405, Some("method_not_allowed"), message).with_header("allow", names))
}

/// Without a key, a server on loopback answers only those who call it by an address or as localhost: a page in a browser may have
/// its own name point here.
fn permitted(headers: &HeaderMap, authority: Option<&str>, settings: &Settings) -> Result<(), ApiError> {
    if settings.api_key.is_some() || !settings.address.ip().is_loopback() {
        return Ok(());
    }
    let host = match authority {
        Some(host) => host,
        None => match headers.get(header::HOST) {
            Some(host) => host.to_str().unwrap_or("?"),
            None => return Ok(()),
        },
    };
    if is_local(host) {
        return Ok(());
    }
    let message = format!("expected a Host that is an address or localhost, found {}", shown(host));
    Err(ApiError::request(403, Some("host_not_allowed"), message))
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

fn authorized(headers: &HeaderMap, key: Option<&str>) -> Result<(), ApiError> {
    let Some(key) = key else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if given.is_some_and(|(_, given)| is_same(given.trim().as_bytes(), key.as_bytes())) {
        return Ok(());
    }
    let message = "expected the server's key: Authorization: Bearer KEY";
    Err(ApiError::request(401, Some("invalid_api_key"), message).with_header("www-authenticate", "Bearer"))
}

/// Takes as long wherever they differ.
fn is_same(given: &[u8], key: &[u8]) -> bool {
    let differing = given.iter().zip(key).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differing) == 0 && given.len() == key.len()
}

/// A request's body, which must be JSON, within the limits on bytes and time.
async fn read(headers: &HeaderMap, body: &mut Incoming, desk: &Desk) -> Result<Bytes, ApiError> {
    let limits = &desk.house.settings.limits;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let media = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if media != "application/json" || encoded {
        let found = if encoded { "a content encoding".to_owned() } else { format!("{:?}", kind.unwrap_or("none")) };
        let message = format!("expected Content-Type: application/json, not encoded, found {found}");
        return Err(ApiError::request(415, Some("unsupported_media_type"), message));
    }
    let most = limits.body_byte_len;
    if body.size_hint().lower() > most as u64 {
        return Err(too_long(most));
    }
    let _turn = desk.house.bodies.acquire().await.map_err(|_| ApiError::stopping())?;
    timeout(limits.body_time, gather(body, most)).await.unwrap_or_else(|_| {
        let message = format!("the body took more than {} s", limits.body_time.as_secs_f64());
        Err(ApiError::request(408, Some("request_timeout"), message))
    })
}

fn too_long(most: usize) -> ApiError {
    ApiError::request(413, Some("request_too_large"), format!("expected a body of at most {most} bytes, found more"))
}

async fn gather(body: &mut Incoming, most: usize) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::request(400, None, format!("the body ended early: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(too_long(most));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// Reads what is left of a body that is refused, for a while, and keeps nothing: a client that still writes when the connection closes
/// does not see the answer.
async fn lose(desk: &Desk, headers: &HeaderMap, body: &mut Incoming, status: u16) {
    // Who waits to be told to go on is not told.
    if body.is_end_stream() || status == 408 || headers.contains_key(header::EXPECT) {
        return;
    }
    let limits = &desk.house.settings.limits;
    let (most, mut read) = (limits.body_byte_len.saturating_mul(DROPPED), 0);
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > most {
                return;
            }
        }
    };
    let _ = timeout(limits.body_time.min(limits.header_time), all).await;
}

/// A whole answer in JSON.
pub(crate) fn json(status: u16, value: &Value) -> Response<Answer> {
    whole(status, "application/json", value.to_string())
}

fn whole(status: u16, kind: &'static str, text: String) -> Response<Answer> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn refusal(error: &ApiError) -> Response<Answer> {
    let mut response = json(error.status, &error.object());
    if let Some((name, value)) = error.header {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // What is left of such a body is not read.
    if [408, 413, 415, 503].contains(&error.status) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_local_and_names_are_not() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8000",
            "[::1]:8000",
            "192.168.1.2:80",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in ["example.com", "localhost.example.com:80", "127.0.0.1.example.com", "", "?"] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn keys_are_the_same_only_whole() {
        assert!(
            is_same(b"abc", b"abc") && !is_same(b"abd", b"abc") && !is_same(b"ab", b"abc") && !is_same(b"abcd", b"abc")
        );
    }
}
