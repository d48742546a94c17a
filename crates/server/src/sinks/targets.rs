//! The targets that the settings name, as their own crate takes them. Owns that translation; refuses to connect.

use std::sync::Arc;

use runstone_sinks::cloudwatch::{Cloudwatch, Options as CloudwatchOptions, check_retention};
use runstone_sinks::dynamo::{Dynamo, Options as DynamoOptions, Ttl, check_names};
use runstone_sinks::postgres::{Options as PostgresOptions, Postgres};
use runstone_sinks::{DeadLetters, SinkError};

use crate::clock::Clock;
use crate::config::{CloudwatchSettings, Config, CreatePolicy, DynamoSettings, PostgresSettings, as_usize};

/// What the targets that the settings name could not take. Nothing is connected to yet.
///
/// # Errors
/// Settings that can never do.
pub async fn dead_letters(config: &Config, clock: &Arc<dyn Clock>) -> Result<Vec<Box<dyn DeadLetters>>, SinkError> {
    let mut sinks: Vec<Box<dyn DeadLetters>> = Vec::new();
    if let Some(sink) = postgres(&config.postgres)? {
        sinks.push(Box::new(sink));
    }
    if let Some(options) = dynamo_options(&config.dynamodb)? {
        sinks.push(Box::new(Dynamo::connect(options).await));
    }
    if let Some(options) = cloudwatch_options(&config.cloudwatch)? {
        sinks.push(Box::new(Cloudwatch::connect(options, micros(clock)).await));
    }
    Ok(sinks)
}

/// The log group of CloudWatch Logs, where one is set.
pub(crate) fn cloudwatch_options(settings: &CloudwatchSettings) -> Result<Option<CloudwatchOptions>, SinkError> {
    if settings.group.is_empty() {
        return Ok(None);
    }
    let retention_days = u32::try_from(settings.retention_days).ok().filter(|days| *days > 0);
    if let Some(days) = retention_days {
        check_retention(days)
            .map_err(|error| SinkError::misconfigured(format!("read cloudwatch.retention_days: {error}")))?;
        if settings.create == CreatePolicy::Never {
            let wrong = "read cloudwatch.retention_days: it is for a group that is made; set cloudwatch.create: if_missing, or \
                         no days";
            return Err(SinkError::misconfigured(wrong));
        }
    }
    Ok(Some(CloudwatchOptions {
        group: settings.group.clone(),
        endpoint: Some(settings.endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
        retention_days,
        // It was read once before.
        stream: settings.stream.parse().unwrap_or_default(),
        create: settings.create == CreatePolicy::IfMissing,
        ..CloudwatchOptions::default()
    }))
}

/// The clock as sinks take it.
pub(crate) fn micros(clock: &Arc<dyn Clock>) -> runstone_sinks::cloudwatch::Clock {
    let clock = Arc::clone(clock);
    Arc::new(move || clock.now_micros())
}

/// PostgreSQL, where a URL is set.
pub(crate) fn postgres(settings: &PostgresSettings) -> Result<Option<Postgres>, SinkError> {
    if settings.url.is_empty() {
        return Ok(None);
    }
    Postgres::new(PostgresOptions::new(&settings.url, &settings.table_prefix)).map(Some)
}

/// The table of DynamoDB, where one is set.
pub(crate) fn dynamo_options(settings: &DynamoSettings) -> Result<Option<DynamoOptions>, SinkError> {
    if settings.table.is_empty() {
        return Ok(None);
    }
    check_names(&settings.key, &settings.ttl_attribute)
        .map_err(|error| SinkError::misconfigured(format!("read dynamodb.key and dynamodb.ttl_attribute: {error}")))?;
    let ttl = u32::try_from(settings.ttl_days).ok().filter(|days| *days > 0);
    Ok(Some(DynamoOptions {
        table: settings.table.clone(),
        key: settings.key.clone(),
        endpoint: Some(settings.endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
        item_bytes_max: as_usize(settings.item_bytes_max),
        entry_bytes_max: as_usize(settings.entry_bytes_max),
        create: settings.create == CreatePolicy::IfMissing,
        ttl: ttl.map(|days| Ttl { attribute: settings.ttl_attribute.clone(), days }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_could_never_take_is_refused_at_the_start() {
        let mut config = Config::default();
        assert_eq!(dynamo_options(&config.dynamodb).unwrap(), None);
        assert_eq!(cloudwatch_options(&config.cloudwatch).unwrap(), None);
        config.dynamodb.table = "dmdb_logs".to_owned();
        config.cloudwatch.group = "/runstone/logs".to_owned();
        assert!(dynamo_options(&config.dynamodb).unwrap().is_some());
        for attribute in ["logs", "run_id", "updated_at"] {
            config.dynamodb.ttl_attribute = attribute.to_owned();
            let error = dynamo_options(&config.dynamodb).unwrap_err().to_string();
            assert!(error.contains("dynamodb.ttl_attribute") && error.contains(attribute), "{error}");
        }
        for (days, create, refused) in [
            (0, CreatePolicy::Never, false),
            (7, CreatePolicy::IfMissing, false),
            (7, CreatePolicy::Never, true),
            (2, CreatePolicy::IfMissing, true),
        ] {
            (config.cloudwatch.retention_days, config.cloudwatch.create) = (days, create);
            let made = cloudwatch_options(&config.cloudwatch);
            assert_eq!(made.is_err(), refused, "{days}: {made:?}");
        }
    }
}
