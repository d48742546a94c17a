//! Connections: what the URL says, TLS, the pool. Owns the time-outs of a connection; refuses to know a statement.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use percent_encoding::percent_decode_str;
use runstone_record::limits::{
    POSTGRES_BACKOFF_MS, POSTGRES_CONNECT_TIMEOUT_MS, POSTGRES_CONNECTIONS_MAX, POSTGRES_GRACE_MS,
    POSTGRES_LOCK_TIMEOUT_MS, POSTGRES_STATEMENT_TIMEOUT_MS, POSTGRES_TRIES_MAX,
};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
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
    /// The setting that the URL comes from, for messages.
    pub setting: &'static str,
    /// Of several hosts, must it be one that can be written to?
    pub writes: bool,
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
            setting: "postgres.url",
            writes: true,
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
fn parse(url: &str, from: &str) -> Result<Parsed, SinkError> {
    let (mut trust, mut root_certificate) = (Trust::Anybody, None);
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let mut setting = |setting: &str| -> Option<String> {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        match (name, value.trim_matches('\'')) {
            ("sslmode", "verify-full") => trust = Trust::Host,
            ("sslmode", "verify-ca") => trust = Trust::Authority,
            ("sslrootcert", path) if is_url => {
                root_certificate = Some(percent_decode_str(path).decode_utf8_lossy().into_owned());
                return None;
            }
            ("sslrootcert", path) => {
                root_certificate = Some(path.to_owned());
                return None;
            }
            _ => return Some(setting.to_owned()),
        }
        Some("sslmode=require".to_owned())
    };
    let known = if !url.contains("verify-") && !url.contains("sslrootcert") {
        url.to_owned()
    } else if is_url {
        let (address, query) = url.rsplit_once('?').unwrap_or((url, ""));
        let query: Vec<String> = query.split('&').filter_map(&mut setting).collect();
        format!("{address}?{}", query.join("&"))
    } else {
        let pairs: Vec<String> = url.split(' ').filter_map(&mut setting).collect();
        pairs.join(" ")
    };
    // The library's words name what it takes for an option: where a password has a blank, & or @, a piece of it.
    let config = known.parse().map_err(|_| {
        SinkError::misconfigured(format!(
            "read {from}: write postgres://user:password@host:5432/database, with %XX for what is no letter or digit of a \
             password, or host=… user=… password='…'",
        ))
    })?;
    Ok(Parsed { config, trust, root_certificate })
}

/// A pool of connections; none is opened yet.
pub(super) fn pool(options: &Options) -> Result<(Pool, MakeRustlsConnect), SinkError> {
    let Parsed { mut config, trust, root_certificate } = parse(&options.url, options.setting)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(SinkError::misconfigured(format!("read {}: it names no host", options.setting)));
    }
    if config.get_application_name().is_none() {
        config.application_name("runstone");
    }
    if options.writes && config.get_target_session_attrs() == TargetSessionAttrs::Any {
        // Of several hosts, the one that can be written to.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_does_not_know_is_taken_out() {
        use SslMode::{Disable, Prefer, Require};
        use Trust::{Anybody, Authority, Host};
        for (url, mode, trust, root) in [
            ("postgres://u:p@h:5433/d", Prefer, Anybody, None),
            ("postgres://u:p@h/d?sslmode=disable", Disable, Anybody, None),
            ("postgresql://u@h1,h2:6000/d?sslmode=verify-full&connect_timeout=3", Require, Host, None),
            (
                "postgres://u@h/d?sslrootcert=/a%20b/ca%2Bx.pem&sslmode=verify-ca",
                Require,
                Authority,
                Some("/a b/ca+x.pem"),
            ),
            ("host=h user=u password='a  b' sslmode=require", Require, Anybody, None),
            ("host=h user=u sslmode='verify-full' sslrootcert=/ca.pem", Require, Host, Some("/ca.pem")),
        ] {
            let parsed = parse(url, "postgres.url").unwrap();
            let found = (parsed.config.get_ssl_mode(), parsed.trust, parsed.root_certificate.as_deref());
            assert_eq!(found, (mode, trust, root), "{url}");
        }
        assert_eq!(parse("host=h password='a  b'", "postgres.url").unwrap().config.get_password(), Some(&b"a  b"[..]));
    }

    #[test]
    fn no_piece_of_a_password_is_said() {
        for url in [
            "host=h password=my secret=word",
            "host=h password=my secret=word sslmode=verify-full",
            "host=h password='my secret",
            "host=h password=it's secret",
            "postgres://u:my@h?secret@h/d",
            "postgres://h/d?user=u&password=my&secret",
            "postgres://h/d?user=u&password=my&secret=word&sslmode=verify-ca",
            "postgres://u:my@h:secret@h/d",
            "mysql://u:secret@h/d",
        ] {
            let error = parse(url, "postgres.url").err().map(crate::Cause::from);
            let error = error.unwrap_or_else(|| panic!("{url}"));
            let mut link: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
            while let Some(said) = link {
                let (shown, inside) = (said.to_string(), format!("{said:?}"));
                assert!(!shown.contains("secret") && !inside.contains("secret"), "{url}: {shown}: {inside}");
                link = said.source();
            }
        }
    }
}
