//! Who may ask: keys, hosts, and pages of other origins.

use std::{net::IpAddr, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, AllowPrivateNetwork, CorsLayer};

use crate::{error::ApiError, settings::Settings};

/// How long a browser may remember the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// Without a key, a server on loopback answers only requests that call it by an address, as localhost or by an allowed name: a page
/// in a browser may have its own name point here.
///
/// # Errors
/// 403 for another name.
pub(crate) fn host(request: &Request<impl Sized>, settings: &Settings) -> Result<(), ApiError> {
    if settings.api_key.is_some() || !settings.address.ip().is_loopback() {
        return Ok(());
    }
    let host = match (request.uri().authority(), request.headers().get(header::HOST)) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().unwrap_or("?"),
        (None, None) => return Ok(()),
    };
    let name = name_of(host);
    if is_local(&name) || settings.allowed_hosts.contains(&name) {
        return Ok(());
    }
    let found = shown(host);
    let flag =
        if name.is_empty() || found != host { "--allow-host NAME".to_owned() } else { format!("--allow-host {name}") };
    let message = format!(
        "expected a Host that is an address or localhost, found {found}: start the server with {flag}, or with a key (--api-key-file)"
    );
    Err(ApiError::request(403, Some("host_not_allowed"), message))
}

/// A text of a client that is safe to show.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).collect()
}

/// A host's name without its port and its last dot, in small letters.
fn name_of(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_local(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

/// The server's key, where it has one.
///
/// # Errors
/// 401 without it.
pub(crate) fn key(headers: &HeaderMap, key: Option<&str>) -> Result<(), ApiError> {
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

/// Whether pages of this origin may ask.
fn allows(origins: &[String], origin: &HeaderValue) -> bool {
    origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
}

/// A browser asks whether a page of another origin may send a request.
///
/// # Errors
/// 403 where it may not.
pub(crate) fn preflight(request: &Request<impl Sized>, settings: &Settings) -> Result<(), ApiError> {
    let headers = request.headers();
    let is_preflight =
        request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let Some(origin) = headers.get(header::ORIGIN).filter(|_| is_preflight) else { return Ok(()) };
    if allows(&settings.cors_origins, origin) {
        return Ok(());
    }
    let origin = shown(origin.to_str().unwrap_or("?"));
    let message = format!("pages of {origin} may not ask: start the server with --cors {origin}");
    Err(ApiError::request(403, Some("origin_not_allowed"), message))
}

/// What tells browsers that pages of the allowed origins may ask.
pub(crate) fn cors(settings: &Settings) -> CorsLayer {
    let origins = settings.cors_origins.clone();
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::predicate(move |origin, _| allows(&origins, origin))
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .allow_private_network(AllowPrivateNetwork::yes())
        .expose_headers([header::RETRY_AFTER, HeaderName::from_static("warning")])
        .max_age(PREFLIGHT_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_local_and_names_are_not() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "localhost.:80",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8000",
            "[::1]:8000",
            "192.168.1.2:80",
        ] {
            assert!(is_local(&name_of(host)), "{host}");
        }
        for host in ["example.com", "localhost.example.com:80", "127.0.0.1.example.com", "", "?"] {
            assert!(!is_local(&name_of(host)), "{host}");
        }
    }

    #[test]
    fn keys_are_the_same_only_whole() {
        assert!(
            is_same(b"abc", b"abc") && !is_same(b"abd", b"abc") && !is_same(b"ab", b"abc") && !is_same(b"abcd", b"abc")
        );
    }
}
