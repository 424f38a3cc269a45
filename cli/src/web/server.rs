//! HTTP/1.1 for the page: GET and HEAD, a few connections, and nobody else's pages. hyper speaks it, on a runtime of one thread.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::hub::Hub;
use super::metrics;
use crate::report::document::State;
use crate::report::{page, page_of};

/// Connections at a time; others wait to be accepted.
const CONNECTIONS: usize = 32;
/// A client has to say what it wants by then.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// A page that asks for what is new gets an answer by then, new or not.
const POLL: Duration = Duration::from_secs(20);
/// Bytes of a request's header, and of what waits to be sent, at most.
const BUFFER: usize = 16 << 10;
/// What is still being sent at the end gets this long.
const LAST: Duration = Duration::from_millis(150);

const SCRIPT: &str = include_str!("../../templates/live.js");
const HTML: &str = "text/html; charset=utf-8";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type Answer = Response<Full<Bytes>>;

/// Serves until `stopped`.
pub fn serve(listener: TcpListener, address: SocketAddr, hub: &Arc<Hub>, stopped: oneshot::Receiver<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let accepting = tokio::spawn(accept(listener, address, Arc::clone(hub)));
        let _ = stopped.await;
        accepting.abort();
        tokio::time::sleep(LAST).await;
    });
}

async fn accept(listener: TcpListener, address: SocketAddr, hub: Arc<Hub>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or a client that went away: neither ends the run.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let hub = Arc::clone(&hub);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let hub = Arc::clone(&hub);
                async move { Ok::<_, Infallible>(answer(&request, address, &hub).await) }
            });
            // How a connection ended is its client's affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .max_buf_size(BUFFER)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(permit);
        });
    }
}

async fn answer(request: &Request<Incoming>, address: SocketAddr, hub: &Hub) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_ours(host, address.ip(), &own_name()) {
        return plain(StatusCode::FORBIDDEN, "not the name of this host: use its IP address\n");
    }
    match request.uri().path() {
        "/" => {
            let document = hub.document();
            respond(StatusCode::OK, HTML, page::live(&page_of(&document), document.state))
        }
        "/live.js" => respond(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT),
        "/live" => live(request.uri().query().unwrap_or_default(), hub).await,
        "/metrics" => respond(StatusCode::OK, metrics::TYPE, hub.metrics()),
        "/result.json" => match hub.result() {
            Some(result) => respond(StatusCode::OK, "application/json", result),
            None => plain(StatusCode::NOT_FOUND, "the run has not ended\n"),
        },
        "/report.html" => {
            let document = hub.document();
            respond(StatusCode::OK, HTML, page::whole(&page_of(&document), document.state))
        }
        _ => plain(StatusCode::NOT_FOUND, "there is /, /metrics, /result.json and /report.html\n"),
    }
}

/// What is new since the version that the page has; 204 when nothing comes.
async fn live(query: &str, hub: &Hub) -> Answer {
    let number = |name: &str| {
        query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let (after, who) = (number("after").unwrap_or(0), number("id").unwrap_or(0));
    hub.followed(who, State::Running);
    let mut changes = hub.changes();
    if timeout(POLL, changes.wait_for(|version| *version != after)).await.is_err() {
        return respond(StatusCode::NO_CONTENT, HTML, "");
    }
    let version = *changes.borrow();
    let document = hub.document();
    let mut answer = respond(StatusCode::OK, HTML, page::content(&page_of(&document), document.state));
    answer.headers_mut().insert(HeaderName::from_static("x-version"), HeaderValue::from(version));
    hub.followed(who, document.state);
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    respond(status, "text/plain; charset=utf-8", text)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn own_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase()
}

/// Whether a request was meant for this host. A page of somebody else whose name was made to lead here (DNS rebinding) comes with that name.
fn is_ours(host: &str, listening: IpAddr, own_name: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    }
    .to_lowercase();
    let address = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => name.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
    };
    if name == "localhost" {
        return true;
    }
    if listening.is_loopback() {
        return address.is_some_and(|a| a.is_loopback());
    }
    let named = !own_name.is_empty()
        && (name == own_name || name.strip_prefix(own_name).is_some_and(|rest| rest.starts_with('.')));
    address.is_some() || named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_here_by_deceit_are_refused() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        for host in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.0.0.2"] {
            assert!(is_ours(host, loopback, "lab1"), "{host}");
        }
        for host in
            ["", "evil.example:8080", "lab1", "192.0.2.1", "127.0.0.1.evil.example", "[::1", "localhost.evil"]
        {
            assert!(!is_ours(host, loopback, "lab1"), "{host}");
        }
        let open: IpAddr = "0.0.0.0".parse().unwrap();
        for host in ["192.0.2.1:8080", "[2001:db8::1]:8080", "lab1:8080", "lab1.example.net"] {
            assert!(is_ours(host, open, "lab1"), "{host}");
        }
        for host in ["evil.example", "lab1evil", ""] {
            assert!(!is_ours(host, open, "lab1"), "{host}");
        }
        assert!(!is_ours("", open, "") && !is_ours("x", open, ""));
    }
}
