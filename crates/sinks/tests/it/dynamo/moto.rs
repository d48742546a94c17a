//! AWS on this machine: moto's server, and boto3 as its other client. Owns starting them; refuses to fail: `proxy` does.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use serde_json::Value;

/// A server that is not up by then never will be.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// What every client of it is told: it believes all keys.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")];

/// The interpreter of the virtual environment that scripts/setup.sh makes.
#[expect(clippy::disallowed_methods, reason = "the scripts' cache is found as they find it")]
fn python() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = set("RUNSTONE_CACHE").or_else(|| Some(caches()?.join("runstone"))).expect("HOME is set");
    let python = cache.join("venv/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/setup.sh", python.display());
    python
}

/// moto's server. Killed when dropped.
pub(crate) struct Moto {
    child: Child,
    url: String,
}

impl Moto {
    pub(crate) fn start() -> Moto {
        Self::launch(&["-m", "moto.server"], &[])
    }

    /// Starts it by what Python runs, and what that is told after the server's own arguments.
    pub(crate) fn launch(program: &[&str], told: &[&str]) -> Moto {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(python());
        command.args(program).args(["-H", "127.0.0.1", "-p", "0"]).args(told).stdin(Stdio::null());
        let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        drop(command);
        let (found, url) = sync_channel(1);
        std::thread::spawn(move || {
            // It is read to its end, so that the server never waits for whoever reads its log.
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if let Some(place) = line.find("http://127.0.0.1:") {
                    let url = line[place..].split_whitespace().next().unwrap_or_default();
                    let _ = found.try_send(url.to_owned());
                }
            }
        });
        let url = url.recv_timeout(START_DEADLINE).expect("moto printed no URL");
        Moto { child, url }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "{name}");
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Runs a script of Python with boto3's `client` of a service, and `print(json.dumps(…))`s its `result`.
    pub(crate) fn boto3(&self, service: &str, script: &str) -> Value {
        let program = format!(
            "import boto3, gzip, json, sys\n\
             client = boto3.client(sys.argv[1], endpoint_url=sys.argv[2])\n\
             table = lambda name: boto3.resource('dynamodb', endpoint_url=sys.argv[2]).Table(name)\n\
             {script}\n\
             print(json.dumps(result, default=str))"
        );
        let mut command = Command::new(python());
        command.envs(ENVIRONMENT).env("AWS_DEFAULT_REGION", "us-east-1");
        let output = command.args(["-c", &program, service, &self.url]).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{script}\n{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", text(&output.stdout)))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
