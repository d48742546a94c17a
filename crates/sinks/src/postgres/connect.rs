//! Connections: what the URL says, TLS, the pool. Owns the time-outs of a connection; refuses to know a statement.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use runstone_record::limits::{
    POSTGRES_BACKOFF_MS, POSTGRES_CONNECT_TIMEOUT_MS, POSTGRES_CONNECTIONS_MAX, POSTGRES_GRACE_MS,
    POSTGRES_LOCK_TIMEOUT_MS, POSTGRES_STATEMENT_TIMEOUT_MS, POSTGRES_TRIES_MAX,
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{self, Trust};
use crate::SinkError;

/// How PostgreSQL is reached, and for how long things are tried.
#[derive(Clone)]
pub struct Options {
    /// `postgres://user:password@host:port/database?sslmode=…`, or libpq's `key=value` pairs.
    pub url: String,
    /// What the names of the tables begin with.
    pub table_prefix: String,
    /// Connections at most.
    pub connections_max: usize,
    /// How long connecting may take, and the look at a connection before it is used again.
    pub connect_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// How long a statement may take.
    pub statement_timeout: Duration,
    /// How much longer its answer is waited for.
    pub grace: Duration,
    /// How often a delivery is tried.
    pub tries_max: usize,
    /// The first and the longest pause between tries.
    pub backoff: (Duration, Duration),
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(url: impl Into<String>, table_prefix: impl Into<String>) -> Self {
        let (first, longest) = POSTGRES_BACKOFF_MS;
        Self {
            url: url.into(),
            table_prefix: table_prefix.into(),
            connections_max: POSTGRES_CONNECTIONS_MAX,
            connect_timeout: Duration::from_millis(POSTGRES_CONNECT_TIMEOUT_MS),
            lock_timeout: Duration::from_millis(POSTGRES_LOCK_TIMEOUT_MS),
            statement_timeout: Duration::from_millis(POSTGRES_STATEMENT_TIMEOUT_MS),
            grace: Duration::from_millis(POSTGRES_GRACE_MS),
            tries_max: POSTGRES_TRIES_MAX,
            backoff: (Duration::from_millis(first), Duration::from_millis(longest)),
        }
    }
}

/// The URL has a password in it.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("table_prefix", &self.table_prefix).finish_non_exhaustive()
    }
}

/// What the URL says.
struct Parsed {
    config: tokio_postgres::Config,
    trust: Trust,
    root_certificate: Option<String>,
}

/// Takes the settings out of the text that the client library does not know.
fn parse(url: &str) -> Result<Parsed, SinkError> {
    let (mut trust, mut root_certificate) = (Trust::Anybody, None);
    let mut setting = |setting: &str| -> Option<String> {
        match setting
            .trim_matches(['\'', ' '])
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim_matches(['\'', ' '])))
        {
            Some(("sslmode", "verify-full")) => trust = Trust::Host,
            Some(("sslmode", "verify-ca")) => trust = Trust::Authority,
            Some(("sslrootcert", path)) => {
                root_certificate = Some(path.replace("%2F", "/"));
                return None;
            }
            _ => return Some(setting.to_owned()),
        }
        Some("sslmode=require".to_owned())
    };
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let known = if is_url {
        match url.rsplit_once('?') {
            Some((address, query)) => {
                let query: Vec<String> = query.split('&').filter_map(&mut setting).collect();
                format!("{address}?{}", query.join("&"))
            }
            None => url.to_owned(),
        }
    } else {
        let pairs: Vec<String> = url.split_ascii_whitespace().filter_map(&mut setting).collect();
        pairs.join(" ")
    };
    // The library's words do not repeat the text, and so no password.
    let config = known.parse().map_err(|error: tokio_postgres::Error| SinkError::Misconfigured {
        problem: "read postgres.url: write postgres://user:password@host:5432/database".to_owned(),
        source: Some(error.into()),
    })?;
    Ok(Parsed { config, trust, root_certificate })
}

/// A pool of connections; none is opened yet.
pub(super) fn pool(options: &Options) -> Result<(Pool, MakeRustlsConnect), SinkError> {
    let Parsed { mut config, trust, root_certificate } = parse(&options.url)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(SinkError::misconfigured("read postgres.url: it names no host"));
    }
    if config.get_application_name().is_none() {
        config.application_name("runstone");
    }
    config.connect_timeout(options.connect_timeout).tcp_user_timeout(options.statement_timeout);
    // In whole seconds, of which there must be one.
    config.keepalives_idle(options.statement_timeout.max(Duration::from_secs(1)));
    // As libpq: a certificate that is named is asked for.
    let is_asked = trust == Trust::Anybody && root_certificate.is_some() && config.get_ssl_mode() == SslMode::Require;
    let trust = if is_asked { Trust::Authority } else { trust };
    let tls = MakeRustlsConnect::new(tls::config(trust, root_certificate.as_deref())?);
    let recycling_method = RecyclingMethod::Verified;
    let manager = Manager::from_config(config, tls.clone(), ManagerConfig { recycling_method });
    let timeout = Some(options.connect_timeout);
    let pool = Pool::builder(manager)
        .max_size(options.connections_max.max(1))
        .runtime(Runtime::Tokio1)
        .wait_timeout(timeout)
        .create_timeout(timeout)
        .recycle_timeout(timeout)
        .build();
    let built = |error: deadpool_postgres::BuildError| SinkError::Misconfigured {
        problem: "make a pool of connections".to_owned(),
        source: Some(error.into()),
    };
    pool.map(|pool| (pool, tls)).map_err(built)
}
