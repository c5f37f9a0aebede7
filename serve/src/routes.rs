//! Addresses and methods. Every error is JSON in the shape that OpenAI's clients know.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Path, Request, State as From, rejection::PathRejection},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    access::{self, shown},
    answer, body,
    chat::ChatHandler,
    error::{ApiError, Refusal},
    request::no_model,
    settings::Log,
    state::State,
};

/// Needs no key.
const HEALTH: &str = "/health";

/// All addresses.
pub(crate) fn routes(handler: Arc<ChatHandler>) -> Router {
    let state = handler.state.clone();
    let routes = Router::new()
        .route(HEALTH, get(health))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .merge(Router::new().route("/v1/chat/completions", post(chat)).with_state(handler))
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .with_state(state.clone())
        .layer(middleware::from_fn_with_state(state.clone(), permitted));
    let has_cors = !state.settings.cors_origins.is_empty();
    let routes = if has_cors { routes.layer(access::cors(&state.settings)) } else { routes };
    routes.layer(middleware::from_fn_with_state(state, logged))
}

/// Answers everything with 503: too many connections wait.
pub(crate) fn busy(state: Arc<State>) -> Router {
    let error = || async { ApiError::busy("all connections are taken: --max-connections allows more") };
    Router::new().fallback(error).layer(middleware::from_fn_with_state(state, logged))
}

/// Logs and counts an answer; refuses what browsers ask for pages that may not ask.
async fn logged(From(state): From<Arc<State>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (method, path) = (request.method().to_string(), shown(request.uri().path()));
    let response = match access::preflight(&request, &state.settings) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let status = response.status().as_u16();
    let message = response.extensions().get().map(|Refusal(message)| message.clone());
    state.metrics.answered(status);
    let seconds = begun.elapsed().as_secs_f64();
    (state.settings.log)(&Log::Answered { method, path, status, message, seconds });
    response
}

/// Refuses those who may not ask.
async fn permitted(From(state): From<Arc<State>>, request: Request, next: Next) -> Response {
    let needs_key = request.uri().path() != HEALTH;
    let may = access::host(&request, &state.settings)
        .and_then(|()| access::key(request.headers(), state.settings.api_key.as_deref().filter(|_| needs_key)));
    match may {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(&state, request, error).await,
    }
}

/// An error's answer, once what is left of the body is read.
async fn refuse(state: &State, request: Request, error: ApiError) -> Response {
    let (head, body) = request.into_parts();
    body::drop_rest(&head.headers, body, state, error.status).await;
    error.into_response()
}

async fn chat(From(handler): From<Arc<ChatHandler>>, request: Request) -> Response {
    let (head, mut body) = request.into_parts();
    match handler.chat(&head.headers, &mut body).await {
        Ok(response) => response,
        Err(error) => refuse(&handler.state, Request::from_parts(head, body), error).await,
    }
}

async fn health(From(state): From<Arc<State>>) -> (StatusCode, Json<Value>) {
    let (status, word) =
        if state.is_stopping() { (StatusCode::SERVICE_UNAVAILABLE, "stopping") } else { (StatusCode::OK, "ok") };
    let (model, running, waiting) = (&state.settings.model, state.metrics.running.get(), state.waiting());
    (status, Json(json!({ "status": word, "model": model, "running": running, "waiting": waiting })))
}

async fn metrics(From(state): From<Arc<State>>) -> impl IntoResponse {
    const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, KIND)], state.metrics.text(state.waiting()))
}

async fn models(From(state): From<Arc<State>>) -> Json<Value> {
    let models = [answer::model(&state.settings.model, state.created)];
    Json(json!({ "object": "list", "data": models }))
}

async fn model(
    From(state): From<Arc<State>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let name = name.map_or_else(|_| "?".to_owned(), |Path(name)| name);
    if name != state.settings.model {
        return Err(no_model(&name, &state.settings));
    }
    Ok(Json(answer::model(&name, state.created)))
}

async fn wrong_method(From(state): From<Arc<State>>, request: Request) -> Response {
    let message = format!("{} does not take {}", shown(request.uri().path()), shown(request.method().as_str()));
    refuse(&state, request, ApiError::request(405, Some("method_not_allowed"), message)).await
}

async fn not_found(From(state): From<Arc<State>>, request: Request) -> Response {
    let path = shown(request.uri().path());
    let message = format!("{path} does not exist: expected /v1/models or /v1/chat/completions");
    refuse(&state, request, ApiError::request(404, Some("not_found"), message)).await
}
