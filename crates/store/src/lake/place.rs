//! Where a lake is: a location's text becomes a store rooted at the table. Owns the kinds of locations, and how long and
//! how often storage is asked; refuses to know what lies there.

use std::io::ErrorKind;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use runstone_record::limits;
use url::Url;

use super::LakeError;
use super::disk::{Disk, RealDisk};
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

    /// Beside what the environment says of proxies and the like.
    fn client(&self) -> [(ClientConfigKey, String); 2] {
        let millis = |time: Duration| format!("{} ms", time.as_millis());
        [
            (ClientConfigKey::Timeout, millis(self.request_timeout)),
            (ClientConfigKey::ConnectTimeout, millis(self.connect_timeout)),
        ]
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
    pub(crate) fn find(
        location: &str,
        network: &LakeNetwork,
        create: bool,
        unsynced: &Arc<AtomicBool>,
    ) -> Result<Place, LakeError> {
        match Url::parse(location) {
            Ok(url) if url.scheme() == "file" => {
                let path = url.to_file_path().map_err(|()| wrong(location, "it names no path of this machine"))?;
                Place::directory(&path, create, unsynced)
            }
            Ok(url) if location.contains("://") => Place::remote(location, url, network),
            _ if location.is_empty() => Err(LakeError::Location("set lake.location: it is empty".to_owned())),
            _ => Place::directory(FsPath::new(location), create, unsynced),
        }
    }

    fn directory(path: &FsPath, create: bool, unsynced: &Arc<AtomicBool>) -> Result<Place, LakeError> {
        let failed = |action: &str, error: std::io::Error| LakeError::Storage {
            action: format!("{action} {}", path.display()),
            source: error.into(),
        };
        let path: PathBuf = std::path::absolute(path).map_err(|error| failed("find", error))?;
        if create {
            create_durably(&path, &RealDisk).map_err(|error| failed("create the directory", error))?;
        } else if !path.is_dir() {
            return Err(LakeError::Location(format!("open the lake: {} is no directory", path.display())));
        }
        let local = LocalStore::new(&path, unsynced).map_err(|error| failed("open", error))?;
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
    let builder = network.client().into_iter().fold(AmazonS3Builder::from_env(), |builder, (key, value)| {
        builder.with_config(AmazonS3ConfigKey::Client(key), value)
    });
    let endpoints = [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint];
    let allowed = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    for endpoint in endpoints.iter().filter_map(|key| builder.get_config_value(key)) {
        check_endpoint(location, &endpoint, allowed.as_deref(), "AWS_ALLOW_HTTP")?;
    }
    builder
        .with_url(location)
        .with_retry(network.retry())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()
        .map_err(|error| wrong(location, &error.to_string()))
}

/// Without this the first request fails, with words that tell nobody what to do.
fn check_endpoint(location: &str, endpoint: &str, allowed: Option<&str>, variable: &str) -> Result<(), LakeError> {
    let yes = ["1", "true", "on", "yes", "y"];
    let is_allowed = allowed.is_some_and(|value| yes.contains(&value.to_ascii_lowercase().as_str()));
    if endpoint.starts_with("http://") && !is_allowed {
        return Err(wrong(location, &format!("the endpoint has no TLS; set {variable}=true to go there: {endpoint}")));
    }
    Ok(())
}

#[cfg(feature = "azure")]
fn azure(location: &str, network: &LakeNetwork, prefix: Path) -> Result<Arc<dyn ObjectStore>, LakeError> {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    let builder = network.client().into_iter().fold(MicrosoftAzureBuilder::from_env(), |builder, (key, value)| {
        builder.with_config(AzureConfigKey::Client(key), value)
    });
    let allowed = builder.get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp));
    if let Some(endpoint) = builder.get_config_value(&AzureConfigKey::Endpoint) {
        check_endpoint(location, &endpoint, allowed.as_deref(), "AZURE_ALLOW_HTTP")?;
    }
    let store = builder
        .with_url(location)
        .with_retry(network.retry())
        .build()
        .map_err(|error| wrong(location, &error.to_string()))?;
    Ok(Arc::new(rooted(store, prefix)))
}

#[cfg(not(feature = "azure"))]
fn azure(location: &str, _: &LakeNetwork, _: Path) -> Result<Arc<dyn ObjectStore>, LakeError> {
    Err(wrong(location, "this build has no Azure storage; build it with the cargo feature `azure`"))
}

/// Makes a directory with what is missing above it, each synced into its parent. Those that are there are synced as well: a
/// process that was killed may have made them, and whoever made them may not have synced them yet.
fn create_durably(path: &FsPath, disk: &dyn Disk) -> std::io::Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    create_durably(parent, disk)?;
    let is_there = path.is_dir();
    if !is_there {
        match disk.create_dir(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    match disk.sync_dir(parent) {
        // A directory that we may not open, or that cannot be synced, was made by somebody else, and long ago.
        Err(error) if is_there && cannot_sync(error.kind()) => Ok(()),
        done => done,
    }
}

fn cannot_sync(kind: ErrorKind) -> bool {
    use ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(kind, InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(location: &str) -> Result<Place, LakeError> {
        Place::find(location, &LakeNetwork::default(), false, &Arc::default())
    }

    #[test]
    fn a_location_says_where_the_table_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let url = format!("file://{}", path.display());
        for location in [path.to_str().unwrap(), &url, &format!("{url}/")] {
            let place = find(location).unwrap();
            assert_eq!((place.url.as_str(), place.local.is_some()), (format!("{url}/").as_str(), true));
        }
        for location in ["s3://bucket/a/lake", "s3a://bucket/a/lake/"] {
            let place = find(location).unwrap();
            assert!(place.local.is_none());
            assert!(place.url.as_str().ends_with("//bucket/a/lake/"), "{}", place.url);
            assert!(place.store.to_string().contains("a/lake"), "{}", place.store);
        }
        let new = dir.path().join("new/er");
        let made = Place::find(new.to_str().unwrap(), &LakeNetwork::default(), true, &Arc::default()).unwrap();
        assert!(new.is_dir() && made.local.is_some());
    }

    /// Says which directories were made and synced, below the place of the test.
    #[derive(Debug)]
    struct Watched {
        root: PathBuf,
        calls: std::sync::Mutex<Vec<String>>,
        fail: Option<ErrorKind>,
    }

    impl Watched {
        fn call(&self, name: &str, path: &FsPath) -> std::io::Result<()> {
            let Ok(path) = path.strip_prefix(&self.root) else { return Ok(()) };
            self.calls.lock().unwrap().push(format!("{name} /{}", path.display()));
            self.fail.map_or(Ok(()), |kind| Err(kind.into()))
        }
    }

    impl Disk for Watched {
        fn create_dir(&self, path: &FsPath) -> std::io::Result<()> {
            self.call("create", path)?;
            std::fs::create_dir(path)
        }
        fn sync_dir(&self, path: &FsPath) -> std::io::Result<()> {
            self.call("sync", path)
        }
    }

    #[test]
    fn a_directory_that_is_there_is_synced_into_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let create = |fail| {
            let disk = Watched { root: dir.path().to_owned(), calls: Default::default(), fail };
            let done = create_durably(&dir.path().join("data/lake"), &disk);
            (done.map_err(|error| error.kind()), disk.calls.into_inner().unwrap())
        };
        // A process is killed after it made the first of them.
        std::fs::create_dir(dir.path().join("data")).unwrap();
        assert_eq!(create(None), (Ok(()), ["sync /", "create /data/lake", "sync /data"].map(str::to_owned).to_vec()));
        // And the next one after it made both.
        assert_eq!(create(None), (Ok(()), ["sync /", "sync /data"].map(str::to_owned).to_vec()));
        // What others made we may not be able to sync, but where that fails nothing is believed.
        assert_eq!(create(Some(ErrorKind::PermissionDenied)).0, Ok(()));
        assert_eq!(create(Some(ErrorKind::Other)).0, Err(ErrorKind::Other));
        std::fs::remove_dir(dir.path().join("data/lake")).unwrap();
        assert_eq!(create(Some(ErrorKind::PermissionDenied)).0, Err(ErrorKind::PermissionDenied));
    }

    #[test]
    fn azure_is_there_where_it_was_asked_for() {
        for location in [
            "abfss://container@account.dfs.core.windows.net/a/lake",
            "abfss://workspace@onelake.dfs.fabric.microsoft.com/house.Lakehouse/Tables/logs",
            "https://onelake.dfs.fabric.microsoft.com/workspace/house.Lakehouse/Tables/logs",
        ] {
            match find(location) {
                Ok(place) => assert!(cfg!(feature = "azure") && place.url.as_str().ends_with('/')),
                Err(error) => assert!(!cfg!(feature = "azure") && error.to_string().contains("azure"), "{error}"),
            }
        }
    }

    #[test]
    fn an_endpoint_without_tls_needs_leave() {
        let check = |endpoint, allowed| check_endpoint("s3://bucket/lake", endpoint, allowed, "AWS_ALLOW_HTTP");
        for allowed in ["true", "TRUE", "1"] {
            assert!(check("http://127.0.0.1:9000", Some(allowed)).is_ok());
        }
        for allowed in [None, Some("false")] {
            assert!(check("https://127.0.0.1:9000", allowed).is_ok());
            let refused = check("http://127.0.0.1:9000", allowed).unwrap_err().to_string();
            assert!(refused.contains("set AWS_ALLOW_HTTP=true"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for (location, why) in [
            ("", "it is empty"),
            ("gs://bucket/lake", "use a path"),
            ("https://example.org/lake", "use a path"),
            ("x://lake", "use a path"),
            ("s3://", "read the lake's location"),
            ("/missing/lake", "is no directory"),
        ] {
            let refused = find(location).unwrap_err();
            assert!(matches!(&refused, LakeError::Location(text) if text.contains(why)), "{location}: {refused}");
        }
    }
}
