//! Clients that are slow, rude, too large or too many, on real sockets; and the honest ones beside them.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use flate2::Compression;
use flate2::write::GzEncoder;
use runstone_server::http::{Admission, ApiError, BodyLimits, ServeOptions, body};
use runstone_server::metrics::CodeLabels;
use tokio::sync::Semaphore;

use crate::support::{Client, PATIENCE, Server, until};

const WIRE_BYTES_MAX: usize = 256 << 10;
const DECODED_BYTES_MAX: usize = 1 << 20;
const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;

struct Fixture {
    server: Server,
    admission: Admission,
    /// Each permit lets one request of `/wait` finish.
    gate: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Fixture {
    /// Requests of `/wait` that have reached their handler.
    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn errors(&self, code: &'static str) -> u64 {
        self.server.metrics.errors.get_or_create(&CodeLabels { code }).get()
    }
}

fn limits() -> BodyLimits {
    BodyLimits {
        wire_bytes_max: WIRE_BYTES_MAX,
        decoded_bytes_max: DECODED_BYTES_MAX,
        timeout: PATIENCE,
        progress_timeout: PATIENCE,
    }
}

fn options() -> ServeOptions {
    ServeOptions {
        header_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        connections_max: 100,
        stop_timeout: PATIENCE,
        ..ServeOptions::default()
    }
}

/// `/body` answers with the decoded body's length, `/wait` when the gate lets it.
async fn start(limits: BodyLimits, options: ServeOptions) -> Fixture {
    let admission = Admission::new(IN_FLIGHT_BYTES_MAX, Default::default());
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::new(AtomicUsize::new(0));
    let (reading, opening, arriving) = (admission.clone(), Arc::clone(&gate), Arc::clone(&waiting));
    let read = async move |headers: HeaderMap, body: Body| -> Result<String, ApiError> {
        let payload = body::read(&headers, body, &limits, &reading).await?;
        Ok(payload.bytes.len().to_string())
    };
    let wait = async move || {
        arriving.fetch_add(1, Ordering::AcqRel);
        opening.acquire().await.unwrap().forget();
        "done"
    };
    let router = Router::new().route("/body", post(read)).route("/wait", get(wait)).route("/", get(async || "yes"));
    Fixture { server: Server::start(router, options).await, admission, gate, waiting }
}

async fn start_default() -> Fixture {
    start(limits(), options()).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const GZIP: &str = "content-encoding: gzip\r\n";
const ZSTD: &str = "content-encoding: zstd\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn bodies_arrive_whole_however_they_are_sent() {
    let fixture = start_default().await;
    let mut client = fixture.server.connect().await;
    let body = vec![b'7'; WIRE_BYTES_MAX];
    assert_eq!(client.post("/body", "", &body).await.body, WIRE_BYTES_MAX.to_string());
    assert_eq!(client.post("/body", GZIP, &gzip(&body)).await.body, WIRE_BYTES_MAX.to_string());
    let zstd = zstd::encode_all(&body[..], 3).unwrap();
    assert_eq!(client.post("/body", ZSTD, &zstd).await.body, WIRE_BYTES_MAX.to_string());
    client.send("POST /body HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n").await;
    client.send("3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "7");
    until("the memory is given back", || fixture.admission.bytes() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_it_is_too_large_is_refused_unread_and_the_client_hears_it() {
    let fixture = start_default().await;
    let mut client = fixture.server.connect().await;
    client.send(format!("POST /body HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", 20 << 20)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.error().as_str(), answer.closes()), (413, "body_too_large", true));
    // One that sends everything before it looks at the answer gets it too.
    let mut client = fixture.server.connect().await;
    let answer = client.post("/body", "", &vec![b'x'; 20 << 20]).await;
    assert_eq!((answer.status, answer.error().as_str()), (413, "body_too_large"));
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_chunked_body_is_refused_soon_after_the_limit() {
    let fixture = start_default().await;
    let mut client = fixture.server.connect().await;
    client.send("POST /body HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = [b"8000\r\n", &[b'x'; 0x8000][..], b"\r\n"].concat();
    for _ in 0..2 * WIRE_BYTES_MAX / 0x8000 {
        client.send_as_taken(&chunk).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.error().as_str(), answer.closes()), (413, "body_too_large", true));
    assert!(fixture.admission.bytes() <= WIRE_BYTES_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_within_the_decoded_limit() {
    let fixture = start_default().await;
    let zeros = vec![0; 64 << 20];
    let zstd = zstd::encode_all(&zeros[..], 3).unwrap();
    let window = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    for (headers, bomb) in [(GZIP, &gzip(&zeros)[..]), (ZSTD, &zstd), (ZSTD, &window)] {
        let mut client = fixture.server.connect().await;
        let answer = client.post("/body", headers, bomb).await;
        assert_eq!((answer.status, answer.error().as_str()), (413, "body_too_large"), "{headers}");
    }
    until("the memory is given back", || fixture.admission.bytes() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_foreign_and_empty_bodies_are_told_apart() {
    let fixture = start_default().await;
    let whole = gzip(b"{\"message\":\"x\"}");
    let mut bad_crc = whole.clone();
    let crc = bad_crc.len() - 8;
    bad_crc[crc] ^= 1;
    for (headers, body, status, error) in [
        (GZIP, &whole[..whole.len() - 3], 400, "invalid_encoding"),
        (GZIP, &bad_crc, 400, "invalid_encoding"),
        (GZIP, b"{\"message\":\"x\"}", 400, "invalid_encoding"),
        ("content-encoding: br\r\n", b"{}", 415, "unsupported_encoding"),
        ("content-encoding: gzip, gzip\r\n", b"{}", 415, "unsupported_encoding"),
        ("", b"", 400, "empty_body"),
        ("", b" \r\n\t ", 400, "empty_body"),
        (GZIP, b"", 400, "empty_body"),
        (GZIP, &gzip(b"  "), 400, "empty_body"),
    ] {
        let mut client = fixture.server.connect().await;
        let answer = client.post("/body", headers, body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{headers} {body:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_shorter_than_it_said_is_refused() {
    let fixture = start_default().await;
    let mut client = fixture.server.connect().await;
    client.send("POST /body HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\n{\"message\":").await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.error().as_str()), (400, "invalid_encoding"));
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_or_stops_is_given_up() {
    let limits = BodyLimits { progress_timeout: millis(200), ..limits() };
    let fixture = start(limits, options()).await;
    let mut stopped = fixture.server.connect().await;
    stopped.send("POST /body HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\n{").await;
    let mut dripping = fixture.server.connect().await;
    dripping.send("POST /body HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let mut ticks = tokio::time::interval(millis(10));
    while fixture.errors("request_timeout") < 2 {
        ticks.tick().await;
        dripping.send_as_taken(b"1\r\nx\r\n").await;
    }
    for mut client in [stopped, dripping] {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.error().as_str(), answer.closes()), (408, "request_timeout", true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_headers_are_refused_in_our_shape_and_huge_ones_at_all() {
    let fixture = start_default().await;
    let mut client = fixture.server.connect().await;
    client.send(format!("GET / HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n", "a".repeat(20 << 10))).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.error().as_str()), (431, "headers_too_large"));
    let mut client = fixture.server.connect().await;
    client.send_as_taken(format!("GET / HTTP/1.1\r\nhost: t\r\nx: {}", "a".repeat(1 << 20)).as_bytes()).await;
    assert_eq!(client.answer().await.status, 431);
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_headers_and_idle_connections_are_closed_and_others_are_not() {
    let options = ServeOptions { header_timeout: millis(100), idle_timeout: millis(400), ..options() };
    let fixture = start(limits(), options).await;
    let mut silent = fixture.server.connect().await;
    let mut half = fixture.server.connect().await;
    half.send("GET / HTTP/1.1\r\nhost:").await;
    let mut idle = fixture.server.connect().await;
    assert_eq!(idle.get("/").await.status, 200);
    let mut working = fixture.server.connect().await;
    working.send("GET /wait HTTP/1.1\r\nhost: t\r\n\r\n").await;
    silent.closed().await;
    half.closed().await;
    assert_eq!(fixture.server.dropped("header_timeout"), 2);
    idle.closed().await;
    assert_eq!(fixture.server.dropped("idle_timeout"), 1);
    fixture.gate.add_permits(1);
    assert_eq!(working.answer().await.body, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_take_its_answer_is_closed() {
    let endless =
        get(async || Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 65_536]))));
    let options = ServeOptions { idle_timeout: millis(200), ..options() };
    let server = Server::start(Router::new().route("/", endless), options).await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n").await;
    until("it is given up", || server.dropped("write_timeout") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_clients_have_a_place_beside_slow_ones() {
    let fixture = start(limits(), ServeOptions { connections_max: 40, ..options() }).await;
    let mut regular = fixture.server.connect().await;
    assert_eq!(regular.get("/").await.status, 200);
    let mut slow: Vec<Client> = Vec::new();
    for round in 0..200 {
        let mut client = fixture.server.connect().await;
        let start =
            if round % 2 == 0 { "GET / HT" } else { "POST /body HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\n" };
        client.send_as_taken(start.as_bytes()).await;
        slow.push(client);
        if round % 10 == 0 {
            assert_eq!(regular.get("/").await.status, 200, "round {round}");
            assert_eq!(fixture.server.connect().await.get("/").await.status, 200, "round {round}");
        }
    }
    until("there are no more than allowed", || fixture.server.metrics.connections.get() <= 40).await;
    until("the others have gone", || fixture.server.dropped("evicted") >= 150).await;
    assert_eq!(fixture.server.dropped("refused"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_all_places_are_at_work_a_new_client_is_told_to_come_back() {
    let fixture = start(limits(), ServeOptions { connections_max: 2, ..options() }).await;
    let mut at_work = [fixture.server.connect().await, fixture.server.connect().await];
    for client in &mut at_work {
        client.send("GET /wait HTTP/1.1\r\nhost: t\r\n\r\n").await;
    }
    // A connection counts as at work once its request was read: until then it would be the one to go.
    until("both are at work", || fixture.waiting() == 2).await;
    let mut turned_away = fixture.server.connect().await;
    let answer = turned_away.get("/").await;
    assert_eq!((answer.status, answer.error().as_str()), (503, "unavailable"));
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    let name = answer.head.split_once("x-request-id: ").map(|(_, rest)| rest[..36].to_owned()).unwrap();
    assert!(answer.body.contains(&format!("\"request_id\":\"{name}\"")), "{}", answer.body);
    fixture.gate.add_permits(2);
    for client in &mut at_work {
        assert_eq!(client.answer().await.body, "done");
    }
    assert_eq!(fixture.server.connect().await.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_for_a_body_the_client_is_told_to_come_back() {
    let fixture = start_default().await;
    let mut all = fixture.admission.reservation();
    all.grow(IN_FLIGHT_BYTES_MAX).unwrap();
    let mut client = fixture.server.connect().await;
    let answer = client.post("/body", "", b"{}").await;
    assert_eq!((answer.status, answer.error().as_str()), (429, "overloaded"));
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    drop(all);
    assert_eq!(fixture.server.connect().await.post("/body", "", b"{}").await.body, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_answers_what_is_in_hand_and_takes_nothing_new() {
    let fixture = start_default().await;
    let mut idle = fixture.server.connect().await;
    assert_eq!(idle.get("/").await.status, 200);
    let mut working = fixture.server.connect().await;
    working.send("GET /wait HTTP/1.1\r\nhost: t\r\n\r\n").await;
    until("it is at work", || fixture.waiting() == 1).await;
    fixture.server.stop.cancel();
    idle.closed().await;
    until("nobody listens", || std::net::TcpStream::connect(fixture.server.address).is_err()).await;
    fixture.gate.add_permits(1);
    let answer = working.answer().await;
    assert_eq!((answer.body.as_str(), answer.closes()), ("done", true));
    assert_eq!(fixture.server.served().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_ever() {
    let fixture = start(limits(), ServeOptions { stop_timeout: millis(100), ..options() }).await;
    let mut working = fixture.server.connect().await;
    working.send("GET /wait HTTP/1.1\r\nhost: t\r\n\r\n").await;
    until("it is at work", || fixture.waiting() == 1).await;
    fixture.server.stop.cancel();
    assert_eq!(fixture.server.served().await.cut, 1);
    working.closed().await;
}
