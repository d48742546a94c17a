//! The function's settings: variables of the environment, else members of a secret of AWS Secrets Manager under the same
//! names, else defaults. Owns their names and bounds.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{DisplayErrorContext, ProvideErrorMetadata};
use runstone_record::limits::{DYNAMO_ITEM_BYTES_LIMIT, LAMBDA_SECRET_TIMEOUT_MS};
use runstone_sinks::dynamo::{NameError, Options, Ttl, check_names};
use serde_json::{Map, Value};

use super::Environment;

/// The secret's name or ARN.
const SECRET: &str = "RUNSTONE_LOGGER_SECRET";
const TABLE: &str = "RUNSTONE_DYNAMODB_TABLE";
const KEY: &str = "RUNSTONE_DYNAMODB_KEY";
const ENDPOINT: &str = "RUNSTONE_DYNAMODB_ENDPOINT";
const ITEM_BYTES_MAX: &str = "RUNSTONE_DYNAMODB_ITEM_BYTES_MAX";
const ENTRY_BYTES_MAX: &str = "RUNSTONE_DYNAMODB_ENTRY_BYTES_MAX";
const TTL_ATTRIBUTE: &str = "RUNSTONE_DYNAMODB_TTL_ATTRIBUTE";
const TTL_DAYS: &str = "RUNSTONE_DYNAMODB_TTL_DAYS";
/// Bytes of an item below which there would be one for nearly each entry.
const BYTES_MIN: usize = 1 << 10;
const TTL_DAYS_MAX: usize = 36_500;

/// Why settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The secret could not be had.
    #[error("read secret: {name}: {reason}")]
    Secret {
        /// Its name.
        name: String,
        /// In AWS's words.
        reason: String,
    },
    /// A value is none.
    #[error("read setting {name}: must be {wanted}, {found}")]
    Value {
        /// Which.
        name: &'static str,
        /// What it may be.
        wanted: String,
        /// What it is, unless that is in the secret: that stays there.
        found: String,
    },
    /// There are none yet.
    #[error("read settings: there are none")]
    Missing,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The table.
    pub options: Options,
    /// May they change while the function runs?
    pub has_secret: bool,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// Says what cannot be read or used.
    pub async fn read(environment: &Environment, secrets: &Secrets) -> Result<Self, SettingsError> {
        let secret = environment(SECRET).filter(|name| !name.is_empty());
        let members = match &secret {
            Some(name) => secrets.read(name).await?,
            None => Map::new(),
        };
        Ok(Self { options: options(|name| find(environment, &members, name))?, has_secret: secret.is_some() })
    }
}

/// A value, and where it was.
#[derive(Debug, Clone)]
struct Found {
    value: String,
    is_secret: bool,
}

impl Found {
    fn wrong(&self, name: &'static str, wanted: impl Into<String>) -> SettingsError {
        let found = if self.is_secret { "the secret has another".to_owned() } else { format!("got {}", self.value) };
        SettingsError::Value { name, wanted: wanted.into(), found }
    }
}

/// Looks in the environment and then in the secret. What is empty is not there.
fn find(environment: &Environment, members: &Map<String, Value>, name: &str) -> Option<Found> {
    let is_set = |value: &String| !value.is_empty();
    let of_environment = environment(name).filter(is_set).map(|value| Found { value, is_secret: false });
    of_environment.or_else(|| {
        let value = members.get(name)?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(value).filter(is_set).map(|value| Found { value, is_secret: true })
    })
}

fn options(find: impl Fn(&str) -> Option<Found>) -> Result<Options, SettingsError> {
    let defaults = Options::default();
    let or =
        |name: &str, value: &str| find(name).unwrap_or_else(|| Found { value: value.to_owned(), is_secret: false });
    let (key, attribute) = (or(KEY, &defaults.key), or(TTL_ATTRIBUTE, "expires_at"));
    check_names(&key.value, &attribute.value).map_err(|error| refused(&error, &key, &attribute))?;
    let number = |name: &'static str, default: usize, (least, most): (usize, usize)| {
        let Some(found) = find(name) else { return Ok(default) };
        let number = found.value.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| found.wrong(name, format!("a number from {least} to {most}")))
    };
    let days = number(TTL_DAYS, 0, (0, TTL_DAYS_MAX))?;
    let ttl = (days > 0).then(|| Ttl { attribute: attribute.value, days: u32::try_from(days).unwrap_or(u32::MAX) });
    Ok(Options {
        table: or(TABLE, &defaults.table).value,
        key: key.value,
        endpoint: find(ENDPOINT).map(|found| found.value),
        item_bytes_max: number(ITEM_BYTES_MAX, defaults.item_bytes_max, (BYTES_MIN, DYNAMO_ITEM_BYTES_LIMIT))?,
        entry_bytes_max: number(ENTRY_BYTES_MAX, defaults.entry_bytes_max, (BYTES_MIN, DYNAMO_ITEM_BYTES_LIMIT))?,
        ttl,
        // Terraform makes the table, and the function's role may not.
        create: false,
    })
}

fn refused(error: &NameError, key: &Found, attribute: &Found) -> SettingsError {
    let free = "a name that items do not use themselves";
    match error {
        NameError::Key { .. } => key.wrong(KEY, free),
        NameError::Ttl { .. } => attribute.wrong(TTL_ATTRIBUTE, free),
        // To say the one is to say the other.
        NameError::TtlIsKey { .. } => {
            let both = Found { is_secret: key.is_secret || attribute.is_secret, ..attribute.clone() };
            both.wrong(TTL_ATTRIBUTE, "another name than the key's")
        }
    }
}

/// AWS Secrets Manager, and what is known of region and credentials.
#[derive(Debug)]
pub struct Secrets {
    shared: SdkConfig,
}

impl Secrets {
    /// With what the environment says. Asks for nothing.
    pub async fn new() -> Self {
        Self::with(aws_config::defaults(BehaviorVersion::latest()).load().await)
    }

    /// With this region, these credentials, and where the services are.
    #[must_use]
    pub fn with(shared: SdkConfig) -> Self {
        Self { shared }
    }

    pub(super) fn shared(&self) -> &SdkConfig {
        &self.shared
    }

    async fn read(&self, name: &str) -> Result<Map<String, Value>, SettingsError> {
        let failed = |reason: String| SettingsError::Secret { name: name.to_owned(), reason };
        let asked = Client::new(&self.shared).get_secret_value().secret_id(name).send();
        let limit = Duration::from_millis(LAMBDA_SECRET_TIMEOUT_MS);
        let answer = tokio::time::timeout(limit, asked).await.map_err(|_| failed("no answer in time".to_owned()))?;
        let secret = answer.map_err(|error| {
            let code = error.as_service_error().and_then(|error| error.code().zip(error.message()));
            failed(code.map_or_else(
                || DisplayErrorContext(&error).to_string(),
                |(code, message)| format!("{code}: {message}"),
            ))
        })?;
        // Its content stays out of messages.
        match serde_json::from_str(secret.secret_string().unwrap_or_default()) {
            Ok(Value::Object(members)) => Ok(members),
            _ => Err(failed("it is no JSON object".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Options, String> {
        read(pairs, &serde_json::json!({}))
    }

    fn read(pairs: &[(&str, &str)], secret: &Value) -> Result<Options, String> {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment: Environment =
            Box::new(move |name| pairs.iter().find(|(of, _)| of == name).map(|(_, value)| value.clone()));
        let members = secret.as_object().unwrap();
        options(|name| find(&environment, members, name)).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_documented_table() {
        let options = of(&[]).unwrap();
        assert_eq!(options, Options::default());
        assert_eq!(
            (options.table.as_str(), options.key.as_str(), options.item_bytes_max),
            ("dmdb_logs", "run_id", 350_000)
        );
    }

    #[test]
    fn values_are_read_and_held_to_their_bounds() {
        let options = of(&[(TABLE, "t"), (ITEM_BYTES_MAX, "2048"), (TTL_DAYS, "90")]).unwrap();
        assert_eq!((options.table.as_str(), options.item_bytes_max), ("t", 2048));
        assert_eq!(options.ttl, Some(Ttl { attribute: "expires_at".to_owned(), days: 90 }));
        for (name, value) in
            [(ITEM_BYTES_MAX, "1"), (ITEM_BYTES_MAX, "500000"), (ENTRY_BYTES_MAX, "x"), (TTL_DAYS, "-1")]
        {
            let error = of(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(&format!("read setting {name}: must be a number from ")), "{error}");
        }
    }

    /// With any of them every append would be refused.
    #[test]
    fn names_that_items_use_are_refused() {
        for (key, attribute, reason) in [
            ("run_id", "logs", "TTL_ATTRIBUTE: must be a name that items do not use themselves, got logs"),
            ("log_bytes", "ttl", "KEY: must be a name that items do not use themselves, got log_bytes"),
            ("ttl", "ttl", "TTL_ATTRIBUTE: must be another name than the key's, got ttl"),
        ] {
            let error = of(&[(KEY, key), (TTL_ATTRIBUTE, attribute), (TTL_DAYS, "9")]).unwrap_err();
            assert_eq!(error, format!("read setting RUNSTONE_DYNAMODB_{reason}"));
        }
    }
    #[test]
    fn the_environment_comes_before_the_secret_where_it_has_something() {
        let secret = serde_json::json!({TABLE: "secret", ENDPOINT: "", ITEM_BYTES_MAX: 2048});
        for (set, table) in [(&[][..], "secret"), (&[(TABLE, "")], "secret"), (&[(TABLE, "own")], "own")] {
            let options = read(set, &secret).unwrap();
            assert_eq!((options.table.as_str(), options.endpoint, options.item_bytes_max), (table, None, 2048));
        }
    }

    /// Callers see the message, and the secret is none of theirs.
    #[test]
    fn what_the_secret_has_is_not_said() {
        for (set, secret, name) in [
            (&[][..], serde_json::json!({ITEM_BYTES_MAX: "hidden"}), ITEM_BYTES_MAX),
            (&[(TTL_DAYS, "")], serde_json::json!({TTL_DAYS: {"hidden": 1}}), TTL_DAYS),
            (&[], serde_json::json!({KEY: "position hidden"}), KEY),
            (&[], serde_json::json!({TTL_ATTRIBUTE: "position hidden"}), TTL_ATTRIBUTE),
            (&[(TTL_ATTRIBUTE, "hidden")], serde_json::json!({KEY: "hidden"}), TTL_ATTRIBUTE),
        ] {
            let error = read(set, &secret).unwrap_err();
            assert!(error.starts_with(&format!("read setting {name}: must be ")), "{error}");
            assert!(error.ends_with(", the secret has another") && !error.contains("hidden"), "{error}");
        }
    }
}
