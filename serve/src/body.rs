//! Bodies of requests, within limits on their bytes, their time, and the memory of all of them together.

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header},
};
use http_body_util::BodyExt;
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    error::ApiError,
    state::{BODY_PIECE, State},
};

/// Of a body that is refused, so many times the allowed length is read and dropped.
const DROPPED: usize = 4;

/// A body, which holds its memory of all bodies' as long as it lives.
pub(crate) struct Whole<'a> {
    pub bytes: Vec<u8>,
    _memory: Option<SemaphorePermit<'a>>,
}

/// Reads a body, which must be declared as JSON.
///
/// # Errors
/// 415 for another type, 413 and 408 for one that is too long or too slow, 503 where others take all memory.
pub(crate) async fn read<'a>(headers: &HeaderMap, body: &mut Body, state: &'a State) -> Result<Whole<'a>, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let media = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if media != "application/json" || encoded {
        let found = if encoded { "a content encoding".to_owned() } else { format!("{:?}", kind.unwrap_or("none")) };
        let message = format!("expected Content-Type: application/json, not encoded, found {found}");
        return Err(ApiError::request(415, Some("unsupported_media_type"), message));
    }
    if body.size_hint().lower() > state.settings.limits.body_byte_len as u64 {
        return Err(too_long(state));
    }
    read_pieces(body, state).await
}

fn too_long(state: &State) -> ApiError {
    let most = state.settings.limits.body_byte_len;
    ApiError::request(413, Some("request_too_large"), format!("expected a body of at most {most} bytes, found more"))
}

async fn read_pieces<'a>(body: &mut Body, state: &'a State) -> Result<Whole<'a>, ApiError> {
    let limits = &state.settings.limits;
    let deadline = Instant::now() + limits.body_time;
    let (mut bytes, mut memory, mut pieces) = (Vec::new(), None::<SemaphorePermit>, 0);
    loop {
        let until = deadline.min(Instant::now() + limits.body_stall_time);
        let Some(frame) = timeout_at(until, body.frame()).await.map_err(|_| too_slow(state))? else { break };
        let frame = frame.map_err(|error| ApiError::request(400, None, format!("the body ended early: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limits.body_byte_len {
            return Err(too_long(state));
        }
        let more = (bytes.len() + data.len()).div_ceil(BODY_PIECE) - pieces;
        let wanted = state.bodies.acquire_many(u32::try_from(more).unwrap_or(u32::MAX));
        let taken = timeout(limits.wait_time, wanted).await;
        let taken = taken.map_err(|_| ApiError::busy("the bodies of other requests take all memory"))?;
        let taken = taken.map_err(|_| ApiError::stopping())?;
        match &mut memory {
            Some(memory) => memory.merge(taken),
            None => memory = Some(taken),
        }
        pieces += more;
        bytes.extend_from_slice(&data);
    }
    Ok(Whole { bytes, _memory: memory })
}

fn too_slow(state: &State) -> ApiError {
    let limits = &state.settings.limits;
    let (whole, stall) = (limits.body_time.as_secs_f64(), limits.body_stall_time.as_secs_f64());
    let message = format!("expected the body within {whole} s, and more of it every {stall} s");
    ApiError::request(408, Some("request_timeout"), message)
}

/// Reads what is left of a body that is refused, for a while, and keeps nothing: a client that still writes when the connection closes
/// does not see the answer.
pub(crate) async fn drop_rest(headers: &HeaderMap, mut body: Body, state: &State, status: u16) {
    // A client that waits to be told to go on is not told.
    if body.is_end_stream() || status == 408 || headers.contains_key(header::EXPECT) {
        return;
    }
    let limits = &state.settings.limits;
    let (most, mut read) = (limits.body_byte_len.saturating_mul(DROPPED), 0);
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len());
            if read > most {
                return;
            }
        }
    };
    let _ = timeout(limits.body_stall_time.min(limits.header_time), all).await;
}
