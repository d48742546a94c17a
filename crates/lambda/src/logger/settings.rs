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
    #[error("read setting {name}: must be {wanted}, got {value}")]
    Value {
        /// Which.
        name: &'static str,
        /// What it may be.
        wanted: String,
        /// What it is.
        value: String,
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
        let get = |name: &str| {
            let member = members.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            environment(name).or(member).filter(|value| !value.is_empty())
        };
        Ok(Self { options: options(get)?, has_secret: secret.is_some() })
    }
}

fn options(get: impl Fn(&str) -> Option<String>) -> Result<Options, SettingsError> {
    let defaults = Options::default();
    let key = get(KEY).unwrap_or(defaults.key);
    let attribute = get(TTL_ATTRIBUTE).unwrap_or_else(|| "expires_at".to_owned());
    check_names(&key, &attribute).map_err(refused)?;
    let number = |name: &'static str, default: usize, (least, most): (usize, usize)| {
        let Some(value) = get(name) else { return Ok(default) };
        let number = value.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| SettingsError::Value { name, wanted: format!("a number from {least} to {most}"), value })
    };
    let days = number(TTL_DAYS, 0, (0, TTL_DAYS_MAX))?;
    let ttl = (days > 0).then(|| Ttl { attribute, days: u32::try_from(days).unwrap_or(u32::MAX) });
    Ok(Options {
        table: get(TABLE).unwrap_or(defaults.table),
        key,
        endpoint: get(ENDPOINT),
        item_bytes_max: number(ITEM_BYTES_MAX, defaults.item_bytes_max, (BYTES_MIN, DYNAMO_ITEM_BYTES_LIMIT))?,
        entry_bytes_max: number(ENTRY_BYTES_MAX, defaults.entry_bytes_max, (BYTES_MIN, DYNAMO_ITEM_BYTES_LIMIT))?,
        ttl,
        // Terraform makes the table, and the function's role may not.
        create: false,
    })
}

fn refused(error: NameError) -> SettingsError {
    const FREE: &str = "a name that items do not use themselves";
    let (name, wanted, value) = match error {
        NameError::Key { name } => (KEY, FREE, name),
        NameError::Ttl { name } => (TTL_ATTRIBUTE, FREE, name),
        NameError::TtlIsKey { name } => (TTL_ATTRIBUTE, "another name than the key's", name),
    };
    SettingsError::Value { name, wanted: wanted.to_owned(), value }
}

/// AWS Secrets Manager, and what is known of region and credentials.
#[derive(Debug)]
pub struct Secrets {
    shared: SdkConfig,
}

impl Secrets {
    /// With what the environment says. Asks for nothing.
    pub async fn new() -> Self {
        Self { shared: aws_config::defaults(BehaviorVersion::latest()).load().await }
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
        let get = |name: &str| pairs.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        options(get).map_err(|error| error.to_string())
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
}
