//! Cache, token, endpoint and patience, from the variables that the Python client reads.
//!
//! `hf-hub` itself reads only `HF_HOME` and `HF_ENDPOINT`; the others are handled here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mlxport_convert::files::read_bounded;

use crate::HubError;

/// Where everything lies if no variable says otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// The longest token file, in bytes.
const MAX_TOKEN_BYTE_LEN: u64 = 4096;

/// How and where to fetch.
#[derive(Clone)]
pub struct Settings {
    /// Scheme and host of the hub, without a slash at the end.
    pub endpoint: String,
    /// The cache's directory (`…/hub`).
    pub cache: PathBuf,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<String>,
    /// Use the cache only.
    pub offline: bool,
    /// How long a server may be silent.
    pub silence: Duration,
    /// How often a request that got nothing is made again.
    pub retries: u32,
    /// The first pause before another try; it doubles.
    pub pause: Duration,
}

impl std::fmt::Debug for Settings {
    /// Never shows the token.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// What the environment says.
    ///
    /// # Errors
    /// [`HubError::Setting`] where a variable is unusable.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// The same, with variables from elsewhere. An empty variable counts as unset, as it does for the Python client.
    ///
    /// # Errors
    /// [`HubError::Setting`] where a variable is unusable.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let variable = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let home = home(&variable)?;
        let cache = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.map_or_else(|| home.join("hub"), |path| expand(&path, &variable));
        let cache = std::path::absolute(&cache).map_err(HubError::io("find", &cache))?;
        Ok(Self {
            endpoint: endpoint(variable("HF_ENDPOINT"))?,
            cache,
            token: token(&home, &variable)?,
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].iter().any(|&name| is_true(variable(name))),
            silence: silence(variable("HF_HUB_DOWNLOAD_TIMEOUT"))?,
            retries: 4,
            pause: Duration::from_millis(500),
        })
    }
}

fn is_true(value: Option<String>) -> bool {
    value.is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

fn expand(path: &str, variable: &impl Fn(&str) -> Option<String>) -> PathBuf {
    match (path.strip_prefix("~/"), variable("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn home(variable: &impl Fn(&str) -> Option<String>) -> Result<PathBuf, HubError> {
    if let Some(path) = variable("HF_HOME") {
        return Ok(expand(&path, variable));
    }
    if let Some(path) = variable("XDG_CACHE_HOME") {
        return Ok(expand(&path, variable).join("huggingface"));
    }
    let home = variable("HOME").ok_or(HubError::Setting {
        variable: "HOME",
        expected: "a directory, or one in HF_HOME",
        found: String::new(),
    })?;
    Ok(Path::new(&home).join(".cache/huggingface"))
}

fn endpoint(value: Option<String>) -> Result<String, HubError> {
    let Some(value) = value else { return Ok(ENDPOINT.to_owned()) };
    let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let plain = |host: &str| !host.is_empty() && !host.starts_with('/') && !host.contains(['@', '?', '#', ' ']);
    if host.is_some_and(plain) {
        return Ok(value.trim_end_matches('/').to_owned());
    }
    Err(HubError::Setting { variable: "HF_ENDPOINT", expected: "an http or https address", found: value })
}

fn token(home: &Path, variable: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, HubError> {
    let named = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
    let stored = || {
        if is_true(variable("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
            return None;
        }
        let path = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), |path| expand(&path, variable));
        let bytes = read_bounded(&path, MAX_TOKEN_BYTE_LEN).ok()?;
        let text = String::from_utf8(bytes).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let token = named.or_else(stored);
    if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        // The value is a secret even when it is broken.
        let expected = "a token without spaces or control characters";
        return Err(HubError::Setting { variable: "HF_TOKEN", expected, found: "(not shown)".to_owned() });
    }
    Ok(token)
}

fn silence(value: Option<String>) -> Result<Duration, HubError> {
    let Some(value) = value else { return Ok(Duration::from_secs(30)) };
    match value.parse::<u64>() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => {
            Err(HubError::Setting { variable: "HF_HUB_DOWNLOAD_TIMEOUT", expected: "seconds, 1 or more", found: value })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Settings, HubError> {
        let mut pairs: Vec<(String, String)> = pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        pairs.push(("HOME".into(), "/nowhere".into()));
        Settings::from_lookup(|name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn the_variables_of_the_python_client() {
        let plain = with(&[]).expect("fine");
        assert_eq!(plain.cache, Path::new("/nowhere/.cache/huggingface/hub"));
        assert_eq!((plain.endpoint.as_str(), plain.token.as_deref(), plain.offline), (ENDPOINT, None, false));
        assert_eq!(with(&[("HF_HOME", "/h")]).expect("fine").cache, Path::new("/h/hub"));
        assert_eq!(with(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]).expect("fine").cache, Path::new("/c"));
        assert_eq!(with(&[("HF_ENDPOINT", "http://x:1/")]).expect("fine").endpoint, "http://x:1");
        assert_eq!(with(&[("HF_TOKEN", "hf_x\n")]).expect("fine").token.as_deref(), Some("hf_x"));
        assert!(with(&[("HF_HUB_OFFLINE", "1")]).expect("fine").offline);
        assert!(!with(&[("HF_HUB_OFFLINE", "0")]).expect("fine").offline);
        for bad in [("HF_ENDPOINT", "ftp://x"), ("HF_TOKEN", "a b"), ("HF_HUB_DOWNLOAD_TIMEOUT", "soon")] {
            assert!(with(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_token_file_is_read_and_debug_hides_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("token"), "hf_secret\n").expect("written");
        let settings = with(&[("HF_HOME", dir.path().to_str().expect("UTF-8"))]).expect("fine");
        assert_eq!(settings.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{settings:?}").contains("hf_secret"));
    }
}
