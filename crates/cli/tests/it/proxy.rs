//! A proxy before object storage that fails as networks and services do: it refuses, throttles, is silent, resets, and loses
//! answers. Owns the faults and which request meets them, by a plan or by a seed; refuses to know what requests are for.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::oracle::Random;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// `500 InternalError`: nothing was done.
    Error,
    /// `503 SlowDown`: nothing was done.
    SlowDown,
    /// `409 ConditionalRequestConflict`: nothing was done.
    Conflict,
    /// `200` with an error in the body: nothing was done. S3 does so where the work takes long: at the end of an upload in parts.
    ErrorBody,
    /// The connection is reset before the request is read.
    Reset,
    /// Nobody answers.
    Silence,
    /// Nobody answers; it is done after the client gave up.
    Late,
    /// It is done, and the connection ends without an answer.
    Lost,
}

/// Faults that any request may meet.
const ANYWHERE: [Fault; 6] = [Fault::Error, Fault::SlowDown, Fault::Reset, Fault::Silence, Fault::Late, Fault::Lost];

/// The head of a request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// It is to be done only where there is nothing yet.
    pub(crate) is_conditional: bool,
    head: Vec<u8>,
    body_bytes: usize,
}

impl Request {
    fn ends_an_upload(&self) -> bool {
        self.method == "POST" && self.path.contains("uploadId=")
    }

    /// Reads the head but for its last byte: while that is unread, to close the connection resets it.
    fn read(from: &mut TcpStream) -> Option<Request> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r") {
            from.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let text = String::from_utf8(head.clone()).ok()?;
        let mut words = text.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let field = |name: &str| {
            let fields = text.lines().filter_map(|line| line.split_once(':'));
            fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
        };
        let body_bytes = field("content-length").map_or(Some(0), |length| length.parse().ok())?;
        let is_conditional = field("if-none-match").is_some();
        Some(Request { method, path, is_conditional, head, body_bytes })
    }

    /// The request as it came, the rest of it included.
    fn finish(self, from: &mut TcpStream) -> Option<Vec<u8>> {
        let mut bytes = self.head;
        let start = bytes.len();
        bytes.resize(start + 1 + self.body_bytes, 0);
        from.read_exact(&mut bytes[start..]).ok()?;
        Some(bytes)
    }
}

type Which = Box<dyn Fn(&Request) -> bool + Send>;

#[derive(Default)]
struct Plan {
    /// Every connection is reset.
    is_away: bool,
    /// The first request of a kind meets it, then it is over.
    next: Vec<(Which, Fault)>,
    /// One request of how many meets a fault.
    random: Option<(Random, u64)>,
    met: HashMap<Fault, usize>,
}

impl Plan {
    fn decide(&mut self, request: &Request) -> Option<Fault> {
        let fault = if self.is_away {
            Some(Fault::Reset)
        } else if let Some(place) = self.next.iter().position(|(which, _)| which(request)) {
            Some(self.next.remove(place).1)
        } else {
            self.draw(request)
        };
        if let Some(fault) = fault {
            *self.met.entry(fault).or_default() += 1;
        }
        fault
    }

    /// A commit is one request of many, and the one whose answer matters most: every other meets something.
    fn draw(&mut self, request: &Request) -> Option<Fault> {
        let (random, one_of) = self.random.as_mut()?;
        let one_of = if request.is_conditional { 2 } else { *one_of };
        if random.below(one_of) != 0 {
            return None;
        }
        let mut faults = ANYWHERE.to_vec();
        if request.is_conditional {
            faults.extend([Fault::Conflict, Fault::Lost, Fault::Lost]);
        }
        if request.ends_an_upload() {
            faults.push(Fault::ErrorBody);
        }
        Some(*random.pick(&faults))
    }
}

struct Shared {
    /// `host:port` of the storage.
    storage: String,
    plan: Mutex<Plan>,
    /// S3 looks and writes in one step; its stand-in does not where two requests meet.
    conditional: Mutex<()>,
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
    /// Starts one before the storage at a URL. It lives as long as the test.
    pub(crate) fn before(url: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url_of_it = format!("http://{}", listener.local_addr().unwrap());
        let storage = url.trim_start_matches("http://").to_owned();
        let shared = Arc::new(Shared { storage, plan: Mutex::default(), conditional: Mutex::default() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepting);
                // Whatever goes wrong, the client sees its connection end.
                std::thread::spawn(move || {
                    let _ = serve(&shared, client);
                });
            }
        });
        Proxy { url: url_of_it, shared }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The next request of a kind meets a fault.
    pub(crate) fn next(&self, fault: Fault, which: impl Fn(&Request) -> bool + Send + 'static) {
        lock(&self.shared.plan).next.push((Box::new(which), fault));
    }

    /// From now on one request of so many meets some fault.
    pub(crate) fn trouble(&self, random: &mut Random, one_of: u64) {
        lock(&self.shared.plan).random = Some((Random(random.next()), one_of));
    }

    /// From now on everything works.
    pub(crate) fn calm(&self) {
        let mut plan = lock(&self.shared.plan);
        plan.next.clear();
        (plan.random, plan.is_away) = (None, false);
    }

    /// The storage cannot be reached from now on.
    pub(crate) fn away(&self) {
        lock(&self.shared.plan).is_away = true;
    }

    /// How many requests met a fault so far.
    pub(crate) fn met(&self, fault: Fault) -> usize {
        lock(&self.shared.plan).met.get(&fault).copied().unwrap_or(0)
    }

    /// Faults that random requests met, for a test that wants to have seen them.
    pub(crate) fn met_all(&self) -> usize {
        lock(&self.shared.plan).met.values().sum()
    }
}

/// One request: the answer ends the connection.
fn serve(shared: &Shared, mut client: TcpStream) -> Option<()> {
    let request = Request::read(&mut client)?;
    let fault = lock(&shared.plan).decide(&request);
    if fault == Some(Fault::Reset) {
        return None;
    }
    let is_conditional = request.is_conditional;
    let bytes = request.finish(&mut client)?;
    match fault {
        None => client.write_all(&forward(shared, is_conditional, &bytes)?).ok()?,
        Some(Fault::Lost) => drop(forward(shared, is_conditional, &bytes)?),
        Some(fault @ (Fault::Silence | Fault::Late)) => {
            // It has sent all that it has: what comes is its end.
            let _ = client.read(&mut [0]);
            if fault == Fault::Late {
                forward(shared, is_conditional, &bytes)?;
            }
        }
        Some(Fault::Error) => refuse(&mut client, "500 Internal Server Error", "InternalError")?,
        Some(Fault::SlowDown) => refuse(&mut client, "503 Slow Down", "SlowDown")?,
        Some(Fault::Conflict) => refuse(&mut client, "409 Conflict", "ConditionalRequestConflict")?,
        Some(Fault::ErrorBody) => refuse(&mut client, "200 OK", "InternalError")?,
        Some(Fault::Reset) => {}
    }
    let _ = client.shutdown(Shutdown::Write);
    Some(())
}

fn refuse(client: &mut TcpStream, status: &str, code: &str) -> Option<()> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>a fault of the test</Message></Error>"
    );
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n");
    client.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).ok()
}

/// What the storage answers, to the end of its connection.
fn forward(shared: &Shared, is_conditional: bool, request: &[u8]) -> Option<Vec<u8>> {
    let _turn = is_conditional.then(|| lock(&shared.conditional));
    let mut storage = TcpStream::connect(&shared.storage).ok()?;
    let end = request.windows(2).position(|window| window == b"\r\n")? + 2;
    storage.write_all(&request[..end]).ok()?;
    storage.write_all(b"connection: close\r\n").ok()?;
    storage.write_all(&request[end..]).ok()?;
    let mut answer = Vec::new();
    storage.read_to_end(&mut answer).ok()?;
    Some(answer)
}
