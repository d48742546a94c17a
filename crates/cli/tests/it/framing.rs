//! Requests that are cut, endless, slow, huge or many, as bytes on a socket: each costs the server little, and those who
//! behave are served beside them.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bad_input::gzip;
use crate::client::{Client, GZIP, JSON, Then, ZSTD, address, connect, exchange, read_answer, request};
use crate::harness::{Server, until, write};
use crate::oracle::rows;
use crate::queries::peak_bytes;

const GOOD: &str = r#"{"message":"good"}"#;
const HEAD: &str = "POST /api/v1/logs HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n";
const PEAK_BYTES_MAX: u64 = 400 << 20;

fn stored(server: &Server) -> u64 {
    let count = rows(&mut Client::new(server.url()), "SELECT count(*) AS n FROM logs");
    count[0]["n"].as_u64().unwrap()
}

#[test]
fn a_request_that_is_cut_or_framed_wrongly_stores_nothing() {
    let server = Server::start();
    let framed = |framing: &str, body: &str| format!("{HEAD}{framing}\r\n\r\n{body}");
    let chunk = format!("{:x}\r\n{GOOD}\r\n", GOOD.len());
    // The status, or none: closed without a word.
    let table: [(String, Option<u16>); 16] = [
        (framed("content-length: 100", GOOD), Some(400)),
        (framed("content-length: 100", ""), Some(400)),
        (framed("transfer-encoding: chunked", &chunk), Some(400)),
        (framed("transfer-encoding: chunked", &chunk[..chunk.len() - 5]), Some(400)),
        (framed("transfer-encoding: chunked", &format!("zz\r\n{GOOD}\r\n0\r\n\r\n")), Some(400)),
        (framed("transfer-encoding: chunked", &format!("ffffffffffffffffff\r\n{GOOD}\r\n0\r\n\r\n")), Some(400)),
        (framed("transfer-encoding: gzip", GOOD), Some(400)),
        (framed("content-length: 18\r\ncontent-length: 19", GOOD), Some(400)),
        (framed("content-length: -1", GOOD), Some(400)),
        (framed("content-length: 99999999999999999999999", GOOD), Some(400)),
        (framed("content-length: 9999999999999", GOOD), Some(413)),
        (framed("no colon", GOOD), Some(400)),
        (framed("x: a\0b", GOOD), Some(400)),
        ("\u{16}\u{3}\u{1} not HTTP\r\n\r\n".to_owned(), Some(400)),
        (HEAD[..40].to_owned(), None),
        (HEAD.to_owned(), None),
    ];
    for (bytes, status) in table {
        let answer = exchange(server.url(), bytes.as_bytes(), Then::Ends);
        assert_eq!(answer.map(|answer| answer.status), status, "{bytes:?}");
        assert_eq!(stored(&server), 0, "{bytes:?}");
    }
    // Length and chunks both: the chunks count, and the connection ends, so that nobody can hide a request behind it.
    let both = framed("content-length: 5\r\ntransfer-encoding: chunked", &format!("{chunk}0\r\n\r\n"));
    let answer = exchange(server.url(), both.as_bytes(), Then::Waits).unwrap();
    assert!(answer.status == 200 && answer.headers.contains("connection: close"), "{answer:?}");
    assert_eq!(stored(&server), 1);
}

#[test]
fn headers_beyond_their_limit_are_431() {
    let server = Server::start();
    let long = "a".repeat(20 << 10);
    let many: String = (0..500).map(|number| format!("x-{number}: 1\r\n")).collect();
    for bytes in [
        format!("{HEAD}x: {long}\r\ncontent-length: {}\r\n\r\n{GOOD}", GOOD.len()),
        format!("{HEAD}{long}: x\r\ncontent-length: {}\r\n\r\n{GOOD}", GOOD.len()),
        format!("{HEAD}{many}content-length: {}\r\n\r\n{GOOD}", GOOD.len()),
        format!("GET /api/v1/logs?q={long} HTTP/1.1\r\nhost: test\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}", "a".repeat(1 << 20)),
    ] {
        let answer = exchange(server.url(), bytes.as_bytes(), Then::Waits);
        assert_eq!(answer.map(|answer| answer.status), Some(431), "{}", &bytes[..150]);
    }
    assert_eq!(stored(&server), 0);
}

#[test]
fn an_endless_body_ends_soon_after_the_limit() {
    let server = Server::start();
    let mut stream = connect(address(server.url())).unwrap();
    stream.write_all(format!("{HEAD}transfer-encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let chunk = [b"10000\r\n", &[b' '; 0x10000][..], b"\r\n"].concat();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let answer = std::thread::spawn(move || read_answer(&mut reader).unwrap());
    let mut sent = 0_u64;
    while stream.write_all(&chunk).is_ok() {
        sent += 1 << 16;
        assert!(sent < 200 << 20, "it reads for ever");
        if answer.is_finished() {
            break;
        }
    }
    let answer = answer.join().unwrap();
    assert_eq!((answer.status, answer.json()["error"].as_str()), (413, Some("body_too_large")), "{answer:?}");
    assert!(peak_bytes(server.pid()) < PEAK_BYTES_MAX);
    assert_eq!(stored(&server), 0);
}

#[test]
fn bombs_are_413_in_bounded_memory_however_many_come_at_once() {
    let server = Server::start();
    let zeros = vec![b' '; 64 << 20];
    let zip = gzip(&zeros);
    let zstd = zstd::encode_all(&zeros[..], 3).unwrap();
    // A frame that declares a window of two gibibytes.
    let window = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    for (encoding, bomb) in [(GZIP, &zip[..]), (ZSTD, &zstd[..]), (ZSTD, &window)] {
        assert!(bomb.len() < 80_000);
        let answer = Client::new(server.url()).post(&[JSON, encoding], bomb).unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (413, Some("body_too_large")), "{encoding:?}");
    }
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (encoding, bomb) = if number % 2 == 0 { (GZIP, &zip) } else { (ZSTD, &zstd) };
            let url = server.url();
            scope.spawn(move || {
                let answer = Client::new(url).post(&[JSON, encoding], bomb).unwrap();
                assert!(matches!(answer.status, 413 | 429), "{answer:?}");
            });
        }
    });
    let peak = peak_bytes(server.pid());
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
    assert_eq!(stored(&server), 0);
}

/// A server that loses patience soon.
fn impatient() -> (Server, TempDir) {
    let folder = TempDir::new().unwrap();
    let settings = "http:\n  header_timeout_ms: 300\n  body_timeout_ms: 2s\n  body_progress_timeout_ms: 300\n  \
                    idle_timeout_ms: 500\n  connections_max: 64\n";
    let config = write(folder.path(), "runstone.yml", settings);
    (Server::start_with(&["--config", config.to_str().unwrap()]), folder)
}

/// The server ends the connection, and says nothing. That it leaves it open shows as a time-out.
fn is_closed(stream: &mut TcpStream) {
    let read = stream.read(&mut [0; 1]);
    let ended = match &read {
        Ok(bytes) => *bytes == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(ended, "it is not closed: {read:?}");
}

#[test]
fn the_slow_and_the_silent_are_ended() {
    let (server, _folder) = impatient();
    let open = |bytes: &str| {
        let mut stream = connect(address(server.url())).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    };
    is_closed(&mut open(""));
    is_closed(&mut open("POST /api/v1/lo"));
    is_closed(&mut open(&HEAD[..60]));
    let stalled = read_answer(&mut BufReader::new(open(&format!("{HEAD}content-length: 100\r\n\r\n{{")))).unwrap();
    assert_eq!((stalled.status, stalled.json()["error"].as_str()), (408, Some("request_timeout")), "{stalled:?}");
    // A byte now and then is no progress.
    let mut dripping = open(&format!("{HEAD}content-length: 100000\r\n\r\n"));
    let mut reader = BufReader::new(dripping.try_clone().unwrap());
    let answer = std::thread::spawn(move || read_answer(&mut reader).unwrap());
    until("the drip is ended", || {
        let _ = dripping.try_clone().and_then(|mut stream| stream.write_all(b" "));
        answer.is_finished()
    });
    let _ = dripping.flush();
    assert_eq!(answer.join().unwrap().status, 408);
    // One that was served and then says nothing.
    let mut idle = open("GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(read_answer(&mut BufReader::new(idle.try_clone().unwrap())).unwrap().status, 200);
    is_closed(&mut idle);
    assert_eq!(stored(&server), 0);
}

#[test]
fn beside_a_thousand_slow_clients_an_honest_one_is_served() {
    let (server, _folder) = impatient();
    let mut slow = Vec::new();
    let mut slowest = Duration::ZERO;
    for number in 0..1_000_u64 {
        // The server may have closed it already: that is what is tested.
        if let Ok(mut stream) = connect(address(server.url())) {
            let start = ["", "POST /api", HEAD, "GET /health HTTP/1.1\r\nhost: t\r\n\r\nGET"][slow.len() % 4];
            let _ = stream.write_all(start.as_bytes());
            slow.push(stream);
        }
        if number % 50 == 0 {
            let begun = Instant::now();
            let answer =
                exchange(server.url(), &request("POST", "/api/v1/logs", &[JSON], GOOD.as_bytes()), Then::Waits);
            assert_eq!(answer.map(|answer| answer.status), Some(200), "beside {number}");
            slowest = slowest.max(begun.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert_eq!(stored(&server), 20);
}
