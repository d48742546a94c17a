//! A server in an empty directory, the command line against it, and raw HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A server that is not up by then never will be.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(60);
const HTTP_DEADLINE: Duration = Duration::from_secs(30);

/// The built binary, without settings from the caller's environment.
pub(crate) fn runstone() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runstone"));
    for (name, _) in std::env::vars_os() {
        if ["RUNSTONE_", "AWS_", "AZURE_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    command
}

/// The same, run by another program, whose last arguments it becomes.
pub(crate) fn runstone_under(mut program: Command) -> Command {
    // The clean environment is the server's, and so the other's too.
    let server = runstone();
    program.arg(server.get_program());
    for (name, _) in server.get_envs() {
        program.env_remove(name);
    }
    program
}

/// Runs it to its end with something on standard input.
pub(crate) fn with_stdin(command: &mut Command, stdin: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that refuses its arguments does not read.
        let _ = pipe.write_all(&stdin);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running server. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
    dir: TempDir,
    /// What it printed so far, for messages of failing tests.
    printed: Arc<Mutex<String>>,
}

impl Server {
    /// Starts one in an empty directory on a free port.
    pub(crate) fn start() -> Server {
        Server::start_with(&[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Server {
        Server::start_in(TempDir::new().unwrap(), flags)
    }

    /// Starts one in a directory that may hold data of an earlier one.
    pub(crate) fn start_in(dir: TempDir, flags: &[&str]) -> Server {
        Server::start_at(dir, "127.0.0.1:0", flags)
    }

    /// The same at an address.
    pub(crate) fn start_at(dir: TempDir, address: &str, flags: &[&str]) -> Server {
        Server::start_among(dir, address, flags, &[])
    }

    /// The same with variables of the environment.
    pub(crate) fn start_among(dir: TempDir, address: &str, flags: &[&str], env: &[(&'static str, String)]) -> Server {
        let mut command = runstone();
        command.args(["serve", "--listen", address]).args(flags);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        let started = Server::launch(dir, command);
        started.unwrap_or_else(|dead| panic!("the server printed no URL:\n{}", dead.printed()))
    }

    /// Starts what serves a directory: `--data` is added. `Err` is one that ended, or hangs, before it printed its URL.
    pub(crate) fn launch(dir: TempDir, mut command: Command) -> Result<Server, Server> {
        let (reader, writer) = std::io::pipe().unwrap();
        command.arg("--data").arg(dir.path().join("data")).stdin(Stdio::null());
        let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        // It holds the pipe's other end too: what is printed would never end.
        drop(command);
        let printed = Arc::new(Mutex::new(String::new()));
        let urls = watch(reader, Arc::clone(&printed));
        let mut server = Server { child, url: String::new(), dir, printed };
        match urls.recv_timeout(START_DEADLINE) {
            Ok(url) => {
                server.url = url;
                Ok(server)
            }
            Err(_) => Err(server),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// Kills it as a power cut would, as far as a process can be, and gives back its directory.
    pub(crate) fn kill(mut self) -> TempDir {
        self.end();
        std::mem::replace(&mut self.dir, TempDir::new().unwrap())
    }

    /// Asks it to stop and waits; its exit code and its directory.
    pub(crate) fn terminate(mut self) -> (Option<i32>, TempDir) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, std::mem::replace(&mut self.dir, TempDir::new().unwrap()))
    }

    /// Waits for it to end by itself; its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The command line against this server.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        self.cli_with_stdin(args, b"")
    }

    /// The same with something on standard input.
    pub(crate) fn cli_with_stdin(&self, args: &[&str], stdin: &[u8]) -> Output {
        with_stdin(runstone().arg("--url").arg(&self.url).args(args), stdin)
    }

    /// The rows of a query, read by the command line; the test fails if it does.
    pub(crate) fn query(&self, sql: &str) -> Vec<Value> {
        let output = self.cli(&["query", "--json", sql]);
        assert!(output.status.success(), "{sql}: {}", stderr(&output));
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// One raw HTTP request on its own connection.
    pub(crate) fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let address = self.url.trim_start_matches("http://");
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(HTTP_DEADLINE)).unwrap();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        // A server that refuses early stops reading.
        let _ = connection.write_all(&request);
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer);
        Answer::parse(&answer)
    }

    /// `POST /api/v1/logs` with a JSON body.
    pub(crate) fn post(&self, body: &str) -> Answer {
        self.http("POST", "/api/v1/logs", &[("content-type", "application/json")], body.as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "the server printed:\n{}", self.printed());
        }
    }
}

/// Keeps what the server prints and hands on the first URL in it.
pub(crate) fn watch(from: impl Read + Send + 'static, printed: Arc<Mutex<String>>) -> Receiver<String> {
    let (send, urls) = sync_channel(1);
    std::thread::spawn(move || {
        let mut send = Some(send);
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if let Some(url) = ending_url(&line)
                && let Some(send) = send.take()
            {
                let _ = send.send(url.to_owned());
            }
            let mut printed = printed.lock().unwrap();
            printed.push_str(&line);
            printed.push('\n');
        }
    });
    urls
}

/// The URL that a line ends with. What is logged may name the URLs of others inside, and may stand before it on its line.
fn ending_url(line: &str) -> Option<&str> {
    let url = line[line.rfind("http://")?..].trim_end_matches('/');
    (!url.contains([' ', '"', ',', '}'])).then_some(url)
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Answer {
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an HTTP answer");
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let raw = &bytes[split + 4..];
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunk(raw) } else { raw.to_vec() };
        Answer { status, headers: head, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
    body
}

/// Is this the long form of a test? `make soak` runs it under this profile.
#[expect(clippy::disallowed_methods, reason = "how long a test takes is no setting of the server")]
pub(crate) fn is_soaked() -> bool {
    std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "soak")
}

/// Says something that is shown where a test fails. What begins with `skipped: ` is shown at the end of `make test`, too.
#[expect(clippy::print_stdout, reason = "what a test prints is shown when it fails")]
pub(crate) fn say(words: impl std::fmt::Display) {
    println!("{words}");
}

/// Writes a file in a directory.
pub(crate) fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Waits for a condition. The one place here that looks again after a while.
#[expect(clippy::disallowed_methods, reason = "the polling helper: nothing tells a client when a condition is met")]
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + START_DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
