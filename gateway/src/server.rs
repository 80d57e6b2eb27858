//! From the configuration to the last answer.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::HttpBody, extract::DefaultBodyLimit, response::Response};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    access::{Access, Peer, TokensError},
    audit::{self, Entry},
    bounds::Bounds,
    config::{ConfigError, GatewayConfig},
    connection,
    cstor::Unbegun,
    extract, health,
    listen::{ListenError, Listener, Listeners, PAUSE_AFTER_REFUSAL, Tls, TlsError},
    manager::Manager,
    openapi,
    places::Places,
    problem::Problem,
    routes,
    state::{Behind, Gateway},
};

/// How long requests at work, and streams that they have begun, get to end after the server was asked to stop.
const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// Why the gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting cannot be used.
    #[error("the settings of the gateway cannot be used")]
    Config(#[from] ConfigError),
    /// The file of tokens cannot be used.
    #[error("the gateway's tokens cannot be used")]
    Tokens(#[from] TokensError),
    /// The certificate cannot be used.
    #[error("the gateway's certificate cannot be used")]
    Certificate(#[from] TlsError),
    /// An address cannot be served.
    #[error("the gateway cannot listen")]
    Listen(#[from] ListenError),
}

/// Serves the REST APIs until `shutdown` is there; then requests at work, and streams that they have begun, get 30 s to end.
///
/// The manager need not be there yet: requests are answered 503 until it is. A socket that a killed process left is taken
/// over; the socket is removed at the end.
///
/// # Errors
/// See [`GatewayError`]; nothing was served then.
pub async fn serve(
    config: GatewayConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), GatewayError> {
    config.check()?;
    let access = Access::read(&config)?;
    let tls = config.certificate.clone().map(Tls::read).transpose()?;
    if config.tokens_travel_in_clear() {
        tracing::warn!(
            "tokens travel over the network in clear: give the gateway a `certificate`, or let it listen on this host alone"
        );
    }
    let listeners = Listeners::bind(&config, tls.map(Arc::new)).await?;
    let connections_max = config.limits.connections_max;
    let tasks = TaskTracker::new();
    // Whatever becomes of this future, nothing goes on after it.
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let behind = Behind {
        tasks: tasks.clone(),
        end: end.clone(),
    };
    let front = Arc::new(Front::new(config, access, behind));
    let (listeners, socket_file) = listeners.split();
    let stopping = CancellationToken::new();
    for listener in listeners {
        let taking = take(
            listener,
            front.clone(),
            Places::new(connections_max),
            tasks.clone(),
            (stopping.clone(), end.clone()),
        );
        tasks.spawn(end.clone().run_until_cancelled_owned(taking));
    }
    shutdown.await;
    stopping.cancel();
    drop(socket_file);
    tasks.close();
    if tokio::time::timeout(DRAIN_GRACE, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            tasks = tasks.len(),
            "requests were still at work at the end, or streams that they had begun: those are given up"
        );
    }
    Ok(())
}

/// Takes connections from a listener until it is to stop.
async fn take(
    listener: Listener,
    front: Arc<Front>,
    places: Places,
    tasks: TaskTracker,
    (stopping, end): (CancellationToken, CancellationToken),
) {
    loop {
        let next = async {
            // Those beyond the limit wait with the kernel.
            let place = places.free().await?;
            Some((place, listener.accept().await))
        };
        let (place, accepted) = tokio::select! {
            () = stopping.cancelled() => return,
            next = next => match next {
                Some(next) => next,
                None => return,
            },
        };
        match accepted {
            Ok(accepted) => {
                let Some(place) = places.of(place, accepted.address()) else {
                    tracing::debug!(address = ?accepted.address(), "a host has too many connections");
                    continue;
                };
                let serving = connection::serve(accepted, front.clone(), stopping.clone());
                let serving = async move {
                    serving.await;
                    drop(place);
                };
                tasks.spawn(end.clone().run_until_cancelled_owned(serving));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(PAUSE_AFTER_REFUSAL).await;
            }
        }
    }
}

/// What every request goes through before and after its handler.
#[derive(Debug)]
pub(crate) struct Front {
    router: Router,
    access: Access,
    bounds: Bounds,
    body_size_max: u64,
    request_within: Duration,
    tasks: TaskTracker,
    /// How long a head may take.
    pub(crate) head_within: Duration,
}

impl Front {
    fn new(config: GatewayConfig, access: Access, behind: Behind) -> Self {
        let limits = config.limits;
        let tasks = behind.tasks.clone();
        let gateway = Gateway {
            manager: Manager::new(config.manager_socket.clone()),
            config: Arc::new(config),
            behind,
            unbegun: Unbegun::default(),
        };
        let (router, description) = routes::routes();
        let router = router
            .merge(health::routes())
            .merge(openapi::pages(&description))
            .layer(axum::middleware::from_fn(audit::note_route))
            .layer(DefaultBodyLimit::max(limits.body_size_bytes_max))
            .with_state(gateway);
        Self {
            router,
            access,
            bounds: Bounds::new(&limits),
            body_size_max: limits.body_size_bytes_max as u64,
            request_within: Duration::from_secs(limits.request_seconds_max),
            tasks,
            head_within: Duration::from_secs(limits.head_seconds_max),
        }
    }

    /// Answers a request, whatever comes. A client that goes away does not end it: how it went is written down.
    pub(crate) async fn answer(
        self: Arc<Self>,
        peer: Peer,
        request: Request<axum::body::Body>,
    ) -> Response {
        let path = request.uri().path().to_owned();
        let front = self.clone();
        let answered = self
            .tasks
            .spawn(async move { front.answered(&peer, request).await });
        answered.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request was not answered");
            let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal failure");
            refused(&path, &problem)
        })
    }

    async fn answered(&self, peer: &Peer, request: Request<axum::body::Body>) -> Response {
        let began = Instant::now();
        let request = without_last_slash(request);
        let path = request.uri().path().to_owned();
        let entry = Entry::of(request.method(), &path);
        let (who, outcome) = self.pass(peer, request, &path, began).await;
        let response = match outcome {
            Ok(response) => in_form(&path, response),
            Err(problem) => refused(&path, &problem),
        };
        // Whoever asks too much would fill the log with it.
        let is_told = response.status() != StatusCode::TOO_MANY_REQUESTS
            || self.bounds.is_to_be_told(&who, began);
        if let Some(entry) = entry.filter(|_| is_told) {
            entry.write(&who, &response, began.elapsed());
        }
        response
    }

    /// Who asks, and what the handler answers if he may and it can be done now.
    async fn pass(
        &self,
        peer: &Peer,
        request: Request<axum::body::Body>,
        path: &str,
        now: Instant,
    ) -> (String, Result<Response, Problem>) {
        let caller = if routes::is_open(path) && request.method().is_safe() {
            Ok(peer.key())
        } else {
            let caller = self.access.caller(peer, request.headers());
            caller.and_then(|caller| caller.may_call(path).map(|()| caller.to_string()))
        };
        // Those who are not let in are counted, too: guessing tokens is slow.
        let who = caller.as_ref().cloned().unwrap_or_else(|_| peer.key());
        let outcome = match self.bounds.count(&who, now).and(caller.map(drop)) {
            Ok(()) => self.run(request).await,
            Err(problem) => Err(problem),
        };
        (who, outcome)
    }

    async fn run(&self, request: Request<axum::body::Body>) -> Result<Response, Problem> {
        // Refused before it is sent, where it is told; a body that grows is stopped where it is read.
        if request.body().size_hint().lower() > self.body_size_max {
            return Err(extract::too_large());
        }
        let _place = self.bounds.enter()?;
        let handled = self.router.clone().oneshot(request);
        match tokio::time::timeout(self.request_within, handled).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(never)) => match never {},
            Err(_) => Err(Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "it took longer than the gateway waits (`limits.requestSecondsMax`); what was begun goes on",
            )),
        }
    }
}

/// A slash at the end of a path means nothing; half of the clients write it.
fn without_last_slash<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path();
    let shorter = path.trim_end_matches('/');
    if shorter.len() == path.len() || path.starts_with("/docs") {
        return request;
    }
    let shorter = if shorter.is_empty() { "/" } else { shorter };
    let text = match request.uri().query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    if let Ok(uri) = text.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}

/// The router's own refusals say nothing; they get the form of the API whose path it is.
fn in_form(path: &str, response: Response) -> Response {
    let is_bare = !response.headers().contains_key(header::CONTENT_TYPE);
    let message = match response.status() {
        StatusCode::NOT_FOUND if is_bare => format!("there is nothing at {path}"),
        StatusCode::METHOD_NOT_ALLOWED if is_bare => {
            format!("{path} is there, and does not take this method")
        }
        _ => return response,
    };
    let mut formed = routes::answer(path, &Problem::new(response.status(), message));
    if let Some(allow) = response.headers().get(header::ALLOW) {
        formed.headers_mut().insert(header::ALLOW, allow.clone());
    }
    *formed.extensions_mut() = response.extensions().clone();
    formed
}

fn refused(path: &str, problem: &Problem) -> Response {
    let mut response = routes::answer(path, problem);
    let headers = response.headers_mut();
    // Who is not answered does not keep a place, either.
    if matches!(
        problem.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    ) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if problem.status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests;
