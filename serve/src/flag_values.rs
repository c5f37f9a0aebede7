//! What a server is told, as people write it: sizes, hosts, origins, addresses, keys.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::Path,
};

use bytesize::ByteSize;

/// The environment variable that holds the key.
const KEY_VARIABLE: &str = "MLXPORT_API_KEY";
/// The most bytes of a key's file.
const MAX_KEY_BYTES: u64 = 4096;

/// A number from 1 to a million.
///
/// # Errors
/// What was expected, where it is anything else.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    at_most_a_million(text).and_then(|count| if count == 0 { Err("expected at least 1".into()) } else { Ok(count) })
}

/// A number from 0 to a million.
///
/// # Errors
/// What was expected, where it is anything else.
pub fn at_most_a_million(text: &str) -> Result<usize, String> {
    let count = text.parse::<usize>().map_err(|error| error.to_string())?;
    if count > 1_000_000 { Err("expected at most 1000000".into()) } else { Ok(count) }
}

/// A name as a `Host` header has it, without its port and its last dot, in small letters.
///
/// # Errors
/// What was expected, where it is anything else.
pub fn host_name(text: &str) -> Result<String, String> {
    let name = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let name = name.strip_suffix(':').unwrap_or(text);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_name { Ok(name) } else { Err("expected a host's name, host.docker.internal say".into()) }
}

/// An origin as browsers send it: `scheme://host[:port]`, `null` (a page in a file), or `*` for all.
///
/// # Errors
/// What was expected, where it is anything else.
pub fn origin(text: &str) -> Result<String, String> {
    let origin = text.strip_suffix('/').unwrap_or(text);
    let is_host =
        |host: &str| !host.is_empty() && host.bytes().all(|c| c.is_ascii_graphic() && !b"/?#@*\"\\".contains(&c));
    let is_origin = ["*", "null"].contains(&origin) || origin.split_once("://").is_some_and(|(_, host)| is_host(host));
    if is_origin { Ok(origin.into()) } else { Err("expected an origin, http://localhost:3000 say, or *".into()) }
}

/// A number of bytes, perhaps with a unit.
///
/// # Errors
/// What was expected, where it is anything else.
pub fn size(text: &str) -> Result<usize, String> {
    let size: ByteSize =
        text.parse().map_err(|_| "expected a number of bytes, or one with KB, KiB, MB, MiB, GB, GiB".to_owned())?;
    let bytes = usize::try_from(size.as_u64()).ok().filter(|bytes| (1..=4 << 30).contains(bytes));
    bytes.ok_or_else(|| "expected 1 byte to 4 GiB".into())
}

/// Where to listen. A name may have several addresses: the IPv4 one is taken first, which clients that try both find, too.
///
/// # Errors
/// When the name has no address.
pub fn address(host: &str, port: u16) -> Result<SocketAddr, String> {
    let name = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let found = (name, port).to_socket_addrs().map_err(|error| format!("--host {host}: {error}"))?;
    let all: Vec<SocketAddr> = found.collect();
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    first.copied().ok_or_else(|| format!("--host {host}: expected an address of this machine, found none"))
}

/// The key in `file`, else in the variable `MLXPORT_API_KEY`, without the white space around it; none where neither has one.
///
/// # Errors
/// When the file cannot be read, or the key is none that a header can carry.
pub fn api_key(file: Option<&Path>) -> Result<Option<String>, String> {
    let (text, origin) = match file {
        Some(path) => {
            let origin = path.display().to_string();
            let failed = |error: std::io::Error| format!("{origin}: {error}");
            if std::fs::metadata(path).map_err(failed)?.len() > MAX_KEY_BYTES {
                return Err(format!("{origin}: expected at most {MAX_KEY_BYTES} bytes"));
            }
            (std::fs::read_to_string(path).map_err(failed)?, origin)
        }
        None => match std::env::var(KEY_VARIABLE) {
            // Compose files set variables that nobody gave a value.
            Ok(text) if text.trim().is_empty() => return Ok(None),
            Ok(text) => (text, KEY_VARIABLE.to_owned()),
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(error) => return Err(format!("{KEY_VARIABLE}: {error}")),
        },
    };
    let key = text.trim_start_matches('\u{FEFF}').trim();
    let is_sendable = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_sendable {
        return Err(format!("{origin}: expected a key of printable ASCII characters without blanks"));
    }
    Ok(Some(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(size("32MiB"), Ok(32 << 20));
        assert_eq!(size("10 kb"), Ok(10_000));
        assert_eq!(size("17"), Ok(17));
        for wrong in ["", "MiB", "0", "5 GiB", "99999999999999999999", "-1", "1 mib x"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(at_least_one("0").is_err() && at_least_one("8") == Ok(8) && at_most_a_million("1000001").is_err());
    }

    #[test]
    fn hosts_and_origins_are_read_as_people_write_them() {
        for name in ["host.docker.internal", "Host.Docker.Internal.", "host.docker.internal:8000"] {
            assert_eq!(host_name(name).as_deref(), Ok("host.docker.internal"));
        }
        assert_eq!(host_name("node7").as_deref(), Ok("node7"));
        for wrong in ["", ":80", "http://a", "a b", "*"] {
            assert!(host_name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(origin("http://localhost:3000/").as_deref(), Ok("http://localhost:3000"));
        assert!(["*", "null", "https://a.example", "http://[::1]:3000"].iter().all(|text| origin(text).is_ok()));
        for wrong in ["", "localhost:3000", "http://", "http://a/b", "https://*.example.com"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
        for (host, expected) in
            [("localhost", "127.0.0.1:80"), ("127.0.0.1", "127.0.0.1:80"), ("[::1]", "[::1]:80"), ("::1", "[::1]:80")]
        {
            assert_eq!(address(host, 80).expect("an address").to_string(), expected);
        }
    }
}
