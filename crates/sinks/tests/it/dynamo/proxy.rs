//! A proxy before a service of AWS that fails as networks and services do. Owns the faults, which request meets them, and how often
//! each operation was asked for; refuses to know what a request is for beyond its operation.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None.
    Pass,
    /// `500 InternalServerError`: nothing was done.
    Error,
    /// `503` without a body that anybody could read.
    Unavailable,
    /// `400 ProvisionedThroughputExceededException`: nothing was done.
    Throttled,
    /// `400 ValidationException`: nothing was done, and never will be.
    Refused,
    /// `400` with this code: nothing was done.
    Code(&'static str),
    /// The connection is reset before the request is read.
    Reset,
    /// Nobody answers.
    Silence,
    /// It is done, and the connection ends without an answer.
    Lost,
    /// It is done, and nobody answers.
    LostInSilence,
}

/// What has not ended by then never will.
const QUIET_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Plan {
    is_away: bool,
    next: VecDeque<(&'static str, Fault)>,
    /// Updates of the item of this key are refused, so many more of them.
    refused: (&'static str, usize),
    asked: HashMap<String, usize>,
}

struct Shared {
    /// `host:port` of the service.
    service: String,
    plan: Mutex<Plan>,
    /// DynamoDB looks and writes in one step; its stand-in does not where two requests meet.
    turn: Mutex<()>,
    /// Connections that have not ended.
    open: Mutex<usize>,
    ended: Condvar,
}

impl Shared {
    fn is_refused(&self, operation: &str, body: &[u8]) -> bool {
        let (key, left) = &mut lock(&self.plan).refused;
        let own = format!(r#""run_id":{{"S":"{key}"}}"#);
        let is_refused = *left > 0 && operation == "UpdateItem" && String::from_utf8_lossy(body).contains(&own);
        *left -= usize::from(is_refused);
        is_refused
    }
}

/// A running proxy.
pub(crate) struct Proxy {
    url: String,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Starts one before the service at a URL. It lives as long as the test.
    pub(crate) fn before(url: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url_of_it = format!("http://{}", listener.local_addr().unwrap());
        let service = url.trim_start_matches("http://").to_owned();
        let shared = Arc::new(Shared {
            service,
            plan: Mutex::default(),
            turn: Mutex::default(),
            open: Mutex::default(),
            ended: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepting);
                *lock(&shared.open) += 1;
                // Whatever goes wrong, the client sees its connection end.
                std::thread::spawn(move || {
                    let _ = serve(&shared, client);
                    *lock(&shared.open) -= 1;
                    shared.ended.notify_all();
                });
            }
        });
        Proxy { url: url_of_it, shared }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The next requests for an operation meet these faults, one each.
    pub(crate) fn next(&self, operation: &'static str, faults: &[Fault]) {
        lock(&self.shared.plan).next.extend(faults.iter().map(|fault| (operation, *fault)));
    }

    /// The next updates of the item of this key are refused.
    pub(crate) fn refuse_next_of(&self, key: &'static str, times: usize) {
        lock(&self.shared.plan).refused = (key, times);
    }

    /// No fault is to be met any more.
    pub(crate) fn clear(&self) {
        lock(&self.shared.plan).next.clear();
    }

    /// Faults that no request has met yet.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.shared.plan).next.len()
    }

    /// Waits until all that was sent has been done or has ended, though nobody waits for its answer.
    pub(crate) fn wait_until_quiet(&self) {
        // Connections are taken in their order: once this one is, all before it are counted.
        let mut own = TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        own.shutdown(Shutdown::Write).unwrap();
        let _ = own.read(&mut [0]);
        let open = lock(&self.shared.open);
        let (_open, waited) = self.shared.ended.wait_timeout_while(open, QUIET_DEADLINE, |open| *open > 0).unwrap();
        assert!(!waited.timed_out(), "a connection does not end");
    }

    /// Can the service be reached from now on?
    pub(crate) fn set_away(&self, is_away: bool) {
        lock(&self.shared.plan).is_away = is_away;
    }

    /// Which operations were asked for, in the order of their names.
    pub(crate) fn operations(&self) -> Vec<String> {
        let mut operations: Vec<String> =
            lock(&self.shared.plan).asked.keys().filter(|name| !name.is_empty()).cloned().collect();
        operations.sort_unstable();
        operations
    }

    /// How often an operation was asked for.
    pub(crate) fn asked(&self, operation: &str) -> usize {
        lock(&self.shared.plan).asked.get(operation).copied().unwrap_or(0)
    }
}

/// A request's head but for its last byte: while that is unread, to close the connection resets it.
fn read_head(client: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// One request: the answer ends the connection.
fn serve(shared: &Shared, mut client: TcpStream) -> Option<()> {
    let head = read_head(&mut client)?;
    let operation = field(&head, "x-amz-target").and_then(|target| target.split('.').nth(1)).unwrap_or_default();
    let fault = {
        let mut plan = lock(&shared.plan);
        *plan.asked.entry(operation.to_owned()).or_default() += 1;
        let place = plan.next.iter().position(|(of, _)| *of == operation);
        let planned = place.and_then(|place| plan.next.remove(place)).map(|(_, fault)| fault);
        if plan.is_away { Some(Fault::Reset) } else { planned }
    };
    if fault == Some(Fault::Reset) {
        return None;
    }
    let length: usize = field(&head, "content-length").map_or(Some(0), |length| length.parse().ok())?;
    let mut rest = vec![0; 1 + length];
    client.read_exact(&mut rest).ok()?;
    let request = [head.as_bytes(), &rest].concat();
    match fault {
        None | Some(Fault::Pass) if shared.is_refused(operation, &rest) => {
            refuse(&mut client, "400 Bad Request", "ValidationException")?;
        }
        None | Some(Fault::Pass) => client.write_all(&forward(shared, &request)?).ok()?,
        Some(Fault::Lost) => drop(forward(shared, &request)?),
        Some(fault @ (Fault::Silence | Fault::LostInSilence)) => {
            if fault == Fault::LostInSilence {
                forward(shared, &request)?;
            }
            // It has sent all that it has: what comes is its end.
            let _ = client.read(&mut [0]);
        }
        Some(Fault::Error) => refuse(&mut client, "500 Internal Server Error", "InternalServerError")?,
        Some(Fault::Unavailable) => {
            client.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()?;
        }
        Some(Fault::Throttled) => refuse(&mut client, "400 Bad Request", "ProvisionedThroughputExceededException")?,
        Some(Fault::Refused) => refuse(&mut client, "400 Bad Request", "ValidationException")?,
        Some(Fault::Code(code)) => refuse(&mut client, "400 Bad Request", code)?,
        Some(Fault::Reset) => {}
    }
    client.shutdown(Shutdown::Write).ok()
}

fn refuse(client: &mut TcpStream, status: &str, code: &str) -> Option<()> {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"a fault of the test"}}"#);
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\n");
    client.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).ok()
}

/// What the service answers, to the end of its connection.
fn forward(shared: &Shared, request: &[u8]) -> Option<Vec<u8>> {
    let _turn = lock(&shared.turn);
    let mut service = TcpStream::connect(&shared.service).ok()?;
    let end = request.windows(2).position(|window| window == b"\r\n")? + 2;
    service.write_all(&request[..end]).ok()?;
    service.write_all(b"connection: close\r\n").ok()?;
    service.write_all(&request[end..]).ok()?;
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).ok()?;
    Some(answer)
}
