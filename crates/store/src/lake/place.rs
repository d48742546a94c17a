//! Where a lake is: a location's text becomes a store rooted at the table. Owns the kinds of locations, and how long and
//! how often storage is asked; refuses to know what lies there.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use runstone_record::limits;
use url::Url;

use super::LakeError;
use super::local::LocalStore;

/// How storage over the network is asked.
#[derive(Debug, Clone)]
pub struct LakeNetwork {
    /// For one request.
    pub request_timeout: Duration,
    /// For connecting.
    pub connect_timeout: Duration,
    /// From a request's first try to its last retry.
    pub retry_timeout: Duration,
    /// Retries of a request.
    pub retries: usize,
    /// The first pause before a commit is tried again that did not land; the next ones double.
    pub commit_pause: Duration,
}

impl Default for LakeNetwork {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_millis(limits::LAKE_REQUEST_TIMEOUT_MS),
            connect_timeout: Duration::from_millis(limits::LAKE_CONNECT_TIMEOUT_MS),
            retry_timeout: Duration::from_millis(limits::LAKE_RETRY_TIMEOUT_MS),
            retries: limits::LAKE_RETRIES_MAX,
            commit_pause: Duration::from_millis(limits::LAKE_COMMIT_PAUSE_MS),
        }
    }
}

impl LakeNetwork {
    fn retry(&self) -> RetryConfig {
        let (first, longest) = limits::LAKE_BACKOFF_MS;
        RetryConfig {
            // Each pause is drawn at random between the first and thrice the one before, up to the longest.
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(first),
                max_backoff: Duration::from_millis(longest),
                base: 3.0,
            },
            max_retries: self.retries,
            retry_timeout: self.retry_timeout,
        }
    }

    fn client(&self) -> ClientOptions {
        ClientOptions::new().with_timeout(self.request_timeout).with_connect_timeout(self.connect_timeout)
    }
}

/// A lake's storage.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Rooted at the table.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Of the table, ending in `/`.
    pub(crate) url: Url,
    /// The same store where it is a local directory.
    pub(crate) local: Option<LocalStore>,
}

impl Place {
    /// Finds the storage of a location. A local directory is made where it is missing and `create` is set.
    pub(crate) fn find(location: &str, network: &LakeNetwork, create: bool) -> Result<Place, LakeError> {
        match Url::parse(location) {
            Ok(url) if url.scheme() == "file" => {
                let path = url.to_file_path().map_err(|()| wrong(location, "it names no path of this machine"))?;
                Place::directory(&path, create)
            }
            Ok(url) if location.contains("://") => Place::remote(location, url, network),
            _ if location.is_empty() => Err(LakeError::Location("set lake.location: it is empty".to_owned())),
            _ => Place::directory(FsPath::new(location), create),
        }
    }

    fn directory(path: &FsPath, create: bool) -> Result<Place, LakeError> {
        let failed = |action: &str, error: std::io::Error| LakeError::Storage {
            action: format!("{action} {}", path.display()),
            source: error.into(),
        };
        let path: PathBuf = std::path::absolute(path).map_err(|error| failed("find", error))?;
        if create {
            create_durably(&path).map_err(|error| failed("create the directory", error))?;
        } else if !path.is_dir() {
            return Err(LakeError::Location(format!("open the lake: {} is no directory", path.display())));
        }
        let local = LocalStore::new(&path).map_err(|error| failed("open", error))?;
        let url = Url::from_directory_path(local.root())
            .map_err(|()| wrong(&path.display().to_string(), "it is no absolute path"))?;
        Ok(Place { store: Arc::new(local.clone()), url, local: Some(local) })
    }

    fn remote(location: &str, mut url: Url, network: &LakeNetwork) -> Result<Place, LakeError> {
        let (scheme, prefix) =
            ObjectStoreScheme::parse(&url).map_err(|error| wrong(location, &format!("{SUPPORTED} ({error})")))?;
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::AmazonS3 => Arc::new(rooted(s3(location, network)?, prefix)),
            ObjectStoreScheme::MicrosoftAzure => azure(location, network, prefix)?,
            _ => return Err(wrong(location, SUPPORTED)),
        };
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Place { store, url, local: None })
    }
}

const SUPPORTED: &str =
    "use a path, file://, s3://bucket/prefix or abfss://container@account.dfs.core.windows.net/path";

fn wrong(location: &str, why: &str) -> LakeError {
    LakeError::Location(format!("read the lake's location {location}: {why}"))
}

fn rooted<T: ObjectStore>(store: T, prefix: Path) -> PrefixStore<T> {
    PrefixStore::new(store, prefix)
}

fn s3(location: &str, network: &LakeNetwork) -> Result<object_store::aws::AmazonS3, LakeError> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
    let builder = AmazonS3Builder::from_env();
    // Client settings of the environment would be lost with ours in their place.
    let allow_http = builder.get_config_value(&AmazonS3ConfigKey::Client(object_store::ClientConfigKey::AllowHttp));
    let allow_http = allow_http.is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1");
    builder
        .with_url(location)
        .with_client_options(network.client().with_allow_http(allow_http))
        .with_retry(network.retry())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()
        .map_err(|error| wrong(location, &error.to_string()))
}

#[cfg(feature = "azure")]
fn azure(location: &str, network: &LakeNetwork, prefix: Path) -> Result<Arc<dyn ObjectStore>, LakeError> {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    let builder = MicrosoftAzureBuilder::from_env();
    let allow_http = builder.get_config_value(&AzureConfigKey::Client(object_store::ClientConfigKey::AllowHttp));
    let allow_http = allow_http.is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1");
    let store = builder
        .with_url(location)
        .with_client_options(network.client().with_allow_http(allow_http))
        .with_retry(network.retry())
        .build()
        .map_err(|error| wrong(location, &error.to_string()))?;
    Ok(Arc::new(rooted(store, prefix)))
}

#[cfg(not(feature = "azure"))]
fn azure(location: &str, _: &LakeNetwork, _: Path) -> Result<Arc<dyn ObjectStore>, LakeError> {
    Err(wrong(location, "this build has no Azure storage; build it with the cargo feature `azure`"))
}

/// Makes a directory with what is missing above it, each synced into its parent.
fn create_durably(path: &FsPath) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    create_durably(parent)?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::File::open(parent)?.sync_all()
}
