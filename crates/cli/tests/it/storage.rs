//! Object storage on this machine: moto's S3 and Azurite. Owns starting them, with a bucket in which a lake can be, and how
//! the server and foreign readers are told of it; refuses to fail: `proxy` does.

use std::process::{Child, Command, Stdio};

use crate::client::Client;
use crate::foreign::python;
use crate::harness::{START_DEADLINE, watch};

pub(crate) const BUCKET: &str = "logs-of-tests";
const PREFIX: &str = "team/lake";
/// Azurite's only account, and its key, as its documentation has them.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// The stand-in believes every signature.
const SIGNED: (&str, &str) = (
    "authorization",
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
);

/// A service that prints its URL once it listens. Killed when dropped.
struct Service {
    child: Child,
    url: String,
}

impl Service {
    fn start(command: &mut Command) -> Service {
        let (reader, writer) = std::io::pipe().unwrap();
        let started = command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer).spawn();
        let child = started.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed = std::sync::Arc::default();
        let urls = watch(reader, std::sync::Arc::clone(&printed));
        let mut service = Service { child, url: String::new() };
        service.url = urls.recv_timeout(START_DEADLINE).unwrap_or_else(|_| {
            panic!("{command:?} printed no URL:\n{}", printed.lock().unwrap());
        });
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Storage with a lake's place in it.
pub(crate) trait Storage {
    /// Places of one and the same lake, as an operator may write them.
    fn locations(&self) -> Vec<String>;
    /// What the server's environment says of it.
    fn env(&self) -> Vec<(&'static str, String)>;
    /// The lake as readers are told of it.
    fn reader_location(&self) -> String;
    /// By deltalake's names.
    fn reader_options(&self) -> Vec<(&'static str, String)>;
    /// What is stored, relative to the lake.
    fn list(&self) -> Vec<String>;
}

/// S3, played by moto.
pub(crate) struct S3 {
    service: Service,
}

impl S3 {
    pub(crate) fn start() -> S3 {
        let mut command = Command::new(python());
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
        let s3 = S3 { service: Service::start(&mut command) };
        let made = s3.client().request("PUT", &format!("/{BUCKET}"), &[SIGNED], b"").unwrap();
        assert_eq!(made.status, 200, "{made:?}");
        s3
    }

    pub(crate) fn url(&self) -> &str {
        &self.service.url
    }

    fn client(&self) -> Client {
        Client::new(&self.service.url)
    }

    /// The same storage reached through another address.
    pub(crate) fn env_at(url: &str) -> Vec<(&'static str, String)> {
        let mut env = vec![("AWS_ENDPOINT_URL", url.to_owned()), ("AWS_ALLOW_HTTP", "true".to_owned())];
        env.extend(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| (name, "test".to_owned())));
        env.push(("AWS_REGION", "us-east-1".to_owned()));
        env
    }

    /// The content of what is stored under the lake, past every proxy.
    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        let path = format!("/{BUCKET}/{PREFIX}/{path}");
        let answer = self.client().request("GET", &path, &[SIGNED], b"").unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }
}

impl Storage for S3 {
    fn locations(&self) -> Vec<String> {
        vec![format!("s3://{BUCKET}/{PREFIX}"), format!("s3a://{BUCKET}/{PREFIX}/")]
    }

    fn env(&self) -> Vec<(&'static str, String)> {
        S3::env_at(self.url())
    }

    fn reader_location(&self) -> String {
        format!("s3://{BUCKET}/{PREFIX}")
    }

    fn reader_options(&self) -> Vec<(&'static str, String)> {
        let names = ["aws_endpoint_url", "aws_allow_http", "aws_access_key_id", "aws_secret_access_key", "aws_region"];
        names.into_iter().zip(self.env().into_iter().map(|(_, value)| value)).collect()
    }

    fn list(&self) -> Vec<String> {
        let (mut names, mut more) = (Vec::new(), String::new());
        loop {
            let path = format!("/{BUCKET}?list-type=2&prefix={PREFIX}/{more}");
            let answer = self.client().request("GET", &path, &[SIGNED], b"").unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            let text = String::from_utf8(answer.body).unwrap();
            names.extend(between(&text, "Key"));
            match between(&text, "NextContinuationToken").first() {
                Some(token) => more = format!("&continuation-token={token}"),
                None => break,
            }
        }
        names.iter().filter_map(|name| name.strip_prefix(&format!("{PREFIX}/")).map(str::to_owned)).collect()
    }
}

/// Azure's blobs, played by Azurite.
pub(crate) struct Azure {
    service: Service,
}

impl Azure {
    pub(crate) fn start() -> Azure {
        let tools = python().ancestors().nth(3).unwrap().join("tools");
        let folders = std::fs::read_dir(&tools).unwrap().map(|entry| entry.unwrap().path());
        let mut azurites: Vec<_> = folders.filter(|path| path.join("complete").exists()).collect();
        azurites.retain(|path| path.join("node_modules/azurite").exists());
        let azurite =
            azurites.pop().unwrap_or_else(|| panic!("{} has no Azurite: run scripts/setup.sh", tools.display()));
        let mut command = Command::new("node");
        command
            .arg(azurite.join("node_modules/azurite/dist/src/blob/main.js"))
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"])
            .arg("--skipApiVersionCheck");
        let azure = Azure { service: Service::start(&mut command) };
        // Public, so that a test can list it without signing.
        let make = "import sys; from azure.storage.blob import BlobServiceClient as Blobs; \
                    Blobs(sys.argv[1], sys.argv[2]).create_container(sys.argv[3], public_access='container')";
        let made = Command::new(python()).args(["-c", make, &azure.endpoint(), KEY, BUCKET]).output().unwrap();
        assert!(made.status.success(), "{}", crate::harness::stderr(&made));
        azure
    }

    fn endpoint(&self) -> String {
        format!("{}/{ACCOUNT}", self.service.url)
    }
}

impl Storage for Azure {
    fn locations(&self) -> Vec<String> {
        vec![format!("abfss://{BUCKET}@{ACCOUNT}.dfs.core.windows.net/{PREFIX}"), format!("az://{BUCKET}/{PREFIX}")]
    }

    fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AZURE_STORAGE_ENDPOINT", self.endpoint()),
            ("AZURE_ALLOW_HTTP", "true".to_owned()),
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
            ("AZURE_STORAGE_ACCOUNT_KEY", KEY.to_owned()),
        ]
    }

    fn reader_location(&self) -> String {
        format!("az://{BUCKET}/{PREFIX}")
    }

    fn reader_options(&self) -> Vec<(&'static str, String)> {
        let names =
            ["azure_storage_endpoint", "azure_allow_http", "azure_storage_account_name", "azure_storage_account_key"];
        names.into_iter().zip(self.env().into_iter().map(|(_, value)| value)).collect()
    }

    fn list(&self) -> Vec<String> {
        let path = format!("/{ACCOUNT}/{BUCKET}?restype=container&comp=list");
        let answer = Client::new(&self.service.url).get(&path).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = String::from_utf8(answer.body).unwrap();
        let names = between(&text, "Name");
        names.iter().filter_map(|name| name.strip_prefix(&format!("{PREFIX}/")).map(str::to_owned)).collect()
    }
}

/// The texts of an element of XML.
fn between(text: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let parts = text.split(&open).skip(1);
    parts.filter_map(|part| part.split_once(&close).map(|(inside, _)| inside.replace("&amp;", "&"))).collect()
}
