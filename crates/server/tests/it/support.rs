//! A server on a free port, and clients that speak to it byte by byte.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use runstone_server::clock::SystemClock;
use runstone_server::http::{RequestIds, ServeOptions, Served, layers, serve};
use runstone_server::metrics::{HttpMetrics, ReasonLabels};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Within this everything must have happened: a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: HttpMetrics,
    pub(crate) stop: CancellationToken,
    served: JoinHandle<Served>,
}

impl Server {
    pub(crate) async fn start(router: Router, options: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = HttpMetrics::default();
        let stop = CancellationToken::new();
        let ids = RequestIds::new(Arc::new(SystemClock), Arc::new(|| 1));
        let router =
            layers::wrap(router, metrics.clone(), layers::Naming { ids: ids.clone(), own_body: |_| None }, &[]);
        let served = tokio::spawn(serve::serve(listener, router, options, metrics.clone(), ids, stop.clone()));
        Self { address, metrics, stop, served }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), unread: Vec::new() }
    }

    pub(crate) async fn served(self) -> Served {
        timeout(PATIENCE, self.served).await.unwrap().unwrap()
    }

    pub(crate) fn dropped(&self, reason: &'static str) -> u64 {
        self.metrics.connections_dropped.get_or_create(&ReasonLabels { reason }).get()
    }
}

/// Polls `condition` until it holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = interval(Duration::from_millis(2));
    while !condition() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        poll_fn(|cx| ticks.poll_tick(cx)).await;
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The `error` of the one shape.
    pub(crate) fn error(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }

    pub(crate) fn closes(&self) -> bool {
        self.head.contains("connection: close")
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.unwrap().unwrap();
    }

    /// Sends for as long as the server takes it.
    pub(crate) async fn send_as_taken(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap();
    }

    pub(crate) async fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!("POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        self.send([head.as_bytes(), body].concat()).await;
        self.answer().await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n")).await;
        self.answer().await
    }

    /// Reads one answer with a Content-Length.
    pub(crate) async fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.more().await, "closed before an answer: {:?}", String::from_utf8_lossy(&self.unread));
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or("0", str::trim);
        let length: usize = length.parse().unwrap();
        while self.unread.len() < length {
            assert!(self.more().await, "closed within an answer");
        }
        let body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body }
    }

    async fn more(&mut self) -> bool {
        timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.unwrap().is_ok_and(|count| count > 0)
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn closed(&mut self) {
        while self.more().await {}
    }
}
