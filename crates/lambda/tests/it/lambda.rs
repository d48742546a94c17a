//! A stand-in of Lambda: the runtime API (2018-06-01) that a function asks for events and gives answers to. Owns one running
//! function; refuses to know what it does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// An answer that is not there by then never will be.
const DEADLINE: Duration = Duration::from_secs(60);

/// An event on its way to the function.
struct Event {
    request_id: String,
    trace: String,
    deadline_ms: u128,
    body: Vec<u8>,
}

/// What the function said to an event.
#[derive(Debug)]
pub(crate) enum Said {
    Response(Value),
    /// It failed: its caller would see no answer of it.
    Error(Value),
}

/// A running function. Killed when dropped.
pub(crate) struct Function {
    child: Child,
    events: SyncSender<Event>,
    said: Receiver<Said>,
    /// Lines of its log.
    lines: Receiver<String>,
    pub(crate) trace: String,
    pub(crate) time_limit: Duration,
}

impl Function {
    /// Starts the Logger with these variables and no others of AWS.
    pub(crate) fn start(env: &[(&str, &str)]) -> Function {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = listener.local_addr().unwrap().to_string();
        let (events, waiting) = sync_channel(1);
        let (answers, said) = sync_channel(1);
        let waiting = Arc::new(Mutex::new(waiting));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (waiting, answers) = (Arc::clone(&waiting), answers.clone());
                std::thread::spawn(move || while serve(&client, &waiting, &answers).is_some() {});
            }
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_logger"));
        command.env_clear().envs(crate::moto::ENVIRONMENT).env("AWS_LAMBDA_RUNTIME_API", api);
        command.env("AWS_LAMBDA_FUNCTION_NAME", "datamorph-logger").env("AWS_LAMBDA_FUNCTION_VERSION", "1");
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128").envs(env.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        let (lines_in, lines) = sync_channel(1_000);
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(lines_in.try_send(line))));
        let time_limit = Duration::from_secs(30);
        Function { child, events, said, lines, trace: "Root=1-0-0;Sampled=0".to_owned(), time_limit }
    }

    /// Sends an event under a request id, and waits for what it says.
    pub(crate) fn invoke_as(&self, request_id: &str, event: &[u8]) -> Said {
        #[expect(clippy::disallowed_methods, reason = "Lambda's deadlines are times of the day")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let deadline_ms = (now + self.time_limit).as_millis();
        let event =
            Event { request_id: request_id.to_owned(), trace: self.trace.clone(), deadline_ms, body: event.to_vec() };
        self.events.send(event).unwrap();
        self.said.recv_timeout(DEADLINE).expect("the function does not answer")
    }

    /// The same under an id of its own; it must answer.
    pub(crate) fn invoke(&self, event: &Value) -> Value {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let request_id = format!("01980000-0000-4000-8000-{number:012x}");
        match self.invoke_as(&request_id, event.to_string().as_bytes()) {
            Said::Response(answer) => answer,
            Said::Error(error) => panic!("{event}: {error}"),
        }
    }

    /// The next line of its log.
    pub(crate) fn line(&self) -> Value {
        let line = self.lines.recv_timeout(DEADLINE).expect("the function logs nothing");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }

    /// Has it logged nothing that was not looked at?
    pub(crate) fn is_quiet(&self) -> bool {
        self.lines.try_recv().is_err()
    }

    /// Kilobytes of memory that it has ever held.
    pub(crate) fn peak_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request of the function on a connection that stays open.
fn serve(mut client: &TcpStream, waiting: &Mutex<Receiver<Event>>, answers: &SyncSender<Said>) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let body = read_body(client, &head)?;
    let answer = if path == "/2018-06-01/runtime/invocation/next" {
        let Event { request_id, trace, deadline_ms, body } =
            waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()?;
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:datamorph-logger";
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlambda-runtime-aws-request-id: {request_id}\r\n\
             lambda-runtime-deadline-ms: {deadline_ms}\r\nlambda-runtime-invoked-function-arn: {arn}\r\n\
             lambda-runtime-trace-id: {trace}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    } else {
        let said =
            serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{path}: {}", String::from_utf8_lossy(&body)));
        let said = if path.ends_with("/response") { Said::Response(said) } else { Said::Error(said) };
        answers.send(said).ok()?;
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 15\r\n\r\n{\"status\":\"OK\"}".to_vec()
    };
    client.write_all(&answer).ok()
}

/// A body of a known length, or in chunks.
fn read_body(mut client: &TcpStream, head: &str) -> Option<Vec<u8>> {
    let fields = || head.lines().filter_map(|line| line.split_once(':'));
    let field =
        |name: &str| fields().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    if let Some(length) = field("content-length") {
        let mut body = vec![0; length.parse().ok()?];
        client.read_exact(&mut body).ok()?;
        return Some(body);
    }
    if field("transfer-encoding") != Some("chunked") {
        return Some(Vec::new());
    }
    let mut body = Vec::new();
    loop {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n") {
            client.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        client.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
