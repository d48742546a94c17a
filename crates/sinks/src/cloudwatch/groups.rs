//! The log groups and their streams. Owns making them, and how long the group that it makes keeps events; refuses to change a
//! group that was there.

use std::sync::atomic::Ordering;

use runstone_record::limits::{CLOUDWATCH_RETENTION_DAYS, CLOUDWATCH_STREAM_BYTES_MAX};

use super::{Cloudwatch, CloudwatchError};

/// What stands before a source in the names of our own streams leaves room for it.
const _: () = assert!(CLOUDWATCH_STREAM_BYTES_MAX > 128);

/// Days for which CloudWatch cannot keep events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("set retention of log group: must be one of {} days, got {days}", known())]
pub struct RetentionError {
    /// How many.
    pub days: u32,
}

fn known() -> String {
    CLOUDWATCH_RETENTION_DAYS.map(|days| days.to_string()).join(", ")
}

/// Can a log group keep events for so many days?
///
/// # Errors
/// It can for others: see [`CLOUDWATCH_RETENTION_DAYS`].
pub fn check_retention(days: u32) -> Result<(), RetentionError> {
    if CLOUDWATCH_RETENTION_DAYS.contains(&days) { Ok(()) } else { Err(RetentionError { days }) }
}

/// Which of the groups were made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    /// That of the events.
    pub(super) events: bool,
    /// That of the cursors and dead letters.
    pub(super) state: bool,
}

impl Cloudwatch {
    /// Makes the log groups where there are none, and sets the retention of the one with events, where that is set and the group
    /// was not there. That of the other, with cursors and dead letters, is none. Says whether one was made.
    ///
    /// # Errors
    /// CloudWatch's; days that it does not know, before anything is made.
    pub async fn create_groups(&self) -> Result<bool, CloudwatchError> {
        let made = self.create_both().await?;
        Ok(made.events || made.state)
    }

    /// The same, and says of each whether it was made.
    pub(super) async fn create_both(&self) -> Result<Made, CloudwatchError> {
        let days = self.options.retention_days;
        days.map_or(Ok(()), check_retention)?;
        // With both there or none, whoever finds the cursors' finds the other.
        let events = self.create_group(&self.options.group).await?;
        let owes = &self.owes_retention;
        owes.fetch_or(events && days.is_some(), Ordering::Relaxed);
        if let Some(days) = days.filter(|_| owes.load(Ordering::Relaxed)) {
            let days = i32::try_from(days).unwrap_or(i32::MAX);
            let request = self.client.put_retention_policy().log_group_name(&self.options.group);
            let sent = request.retention_in_days(days).send().await;
            sent.map_err(|error| CloudwatchError::request("set retention", &self.options.group, &error))?;
            owes.store(false, Ordering::Relaxed);
        }
        let state = self.create_group(&self.state_group()).await?;
        Ok(Made { events, state })
    }

    async fn create_group(&self, group: &str) -> Result<bool, CloudwatchError> {
        let sent = self.client.create_log_group().log_group_name(group).send().await;
        match sent.map_err(|error| CloudwatchError::request("make log group", group, &error)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_there_already() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a stream, unless somebody else has.
    pub(super) async fn create_stream(&self, group: &str, stream: &str) -> Result<(), CloudwatchError> {
        let sent = self.client.create_log_stream().log_group_name(group).log_stream_name(stream).send().await;
        match sent.map_err(|error| CloudwatchError::request("make log stream", group, &error)) {
            Err(error) if !error.is_there_already() => Err(error),
            _ => Ok(()),
        }
    }

    /// The names of a group's streams that begin so, in their order.
    pub(super) async fn streams(&self, group: &str, prefix: &str) -> Result<Vec<String>, CloudwatchError> {
        let (mut names, mut token) = (Vec::new(), None);
        loop {
            let request = self.client.describe_log_streams().log_group_name(group).log_stream_name_prefix(prefix);
            let answer = request.set_next_token(token).send().await;
            let page = answer.map_err(|error| CloudwatchError::request("list log streams", group, &error))?;
            names.extend(page.log_streams.unwrap_or_default().into_iter().filter_map(|stream| stream.log_stream_name));
            token = page.next_token;
            if token.is_none() {
                names.sort_unstable();
                return Ok(names);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_that_cloudwatch_knows_are_taken() {
        assert!(CLOUDWATCH_RETENTION_DAYS.iter().all(|days| check_retention(*days).is_ok()));
        for days in [0, 2, 31, 364, 366, 730, 3_654, u32::MAX] {
            let error = check_retention(days).unwrap_err().to_string();
            assert!(error.contains(" 1, 3, 5, ") && error.ends_with(&format!("got {days}")), "{error}");
        }
    }
}
