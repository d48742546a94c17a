//! HTTP over plain sockets: a client that keeps its connection, and one that sends whatever bytes a test has.
//! Owns framing; refuses to try anything twice: what a lost answer means is for the test to say.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::harness::Answer;

/// A server that says nothing for so long will not say anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
pub(crate) const GZIP: (&str, &str) = ("content-encoding", "gzip");
pub(crate) const ZSTD: (&str, &str) = ("content-encoding", "zstd");

/// What a header is in a request.
pub(crate) type Header<'a> = (&'a str, &'a str);

/// One kept-alive connection, opened again after it was lost.
pub(crate) struct Client {
    address: String,
    patience: Duration,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(url: &str) -> Client {
        Client::patient(url, PATIENCE)
    }

    /// One that waits so long and no longer for bytes of an answer.
    pub(crate) fn patient(url: &str, patience: Duration) -> Client {
        Client { address: address(url).to_owned(), patience, stream: None }
    }

    /// One request. After an error nobody knows what became of it.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[Header<'_>],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(connect_within(&self.address, self.patience)?),
        };
        stream.get_ref().set_read_timeout(Some(self.patience))?;
        stream.get_mut().write_all(&request(method, path, headers, body))?;
        let answer = read_answer(&mut stream)?;
        if !answer.headers.to_ascii_lowercase().contains("connection: close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    pub(crate) fn post(&mut self, headers: &[Header<'_>], body: &[u8]) -> io::Result<Answer> {
        self.request("POST", "/api/v1/logs", headers, body)
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, &[], b"")
    }

    /// A query, whatever comes of it.
    pub(crate) fn sql(&mut self, sql: &str) -> io::Result<Answer> {
        let body = serde_json::json!({ "sql": sql }).to_string();
        self.request("POST", "/api/v1/query", &[JSON], body.as_bytes())
    }
}

/// What a client does once it has sent its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It waits for the answer.
    Waits,
    /// It sends no more, and says so.
    Ends,
}

/// The answer to these very bytes; none where the connection is closed without one. Silence fails the test.
pub(crate) fn exchange(url: &str, bytes: &[u8], then: Then) -> Option<Answer> {
    let mut stream = connect(address(url)).unwrap();
    // A server that refuses early stops reading.
    let _ = stream.write_all(bytes);
    if then == Then::Ends {
        let _ = stream.shutdown(Shutdown::Write);
    }
    match read_answer(&mut BufReader::new(stream)) {
        Ok(answer) => Some(answer),
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => None,
        Err(error) => panic!("neither an answer nor an end: {error}"),
    }
}

pub(crate) fn connect(address: &str) -> io::Result<TcpStream> {
    connect_within(address, PATIENCE)
}

/// The kernel tries for minutes, and ever more rarely: who has less patience begins anew.
fn connect_within(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let address = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

pub(crate) fn address(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// A request as it travels.
pub(crate) fn request(method: &str, path: &str, headers: &[Header<'_>], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// Reads one answer, interim ones left out.
pub(crate) fn read_answer(reader: &mut impl BufRead) -> io::Result<Answer> {
    loop {
        let head = read_head(reader)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        if status == 100 {
            continue;
        }
        let field = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let body = match field("content-length") {
            Some(length) => exactly(reader, length.parse().map_err(|_| io::ErrorKind::InvalidData)?)?,
            None if field("transfer-encoding").is_some() => chunks(reader)?,
            None => {
                let mut rest = Vec::new();
                reader.read_to_end(&mut rest)?;
                rest
            }
        };
        return Ok(Answer { status, headers: head, body });
    }
}

fn read_head(reader: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head[before..].trim_end().is_empty() {
            return Ok(head);
        }
    }
}

fn exactly(reader: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        body.extend(exactly(reader, size)?);
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
