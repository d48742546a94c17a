//! The log groups and their streams. Owns making them; refuses to change a group that is there, but for its retention where
//! that is set.

use runstone_record::limits::CLOUDWATCH_STREAM_BYTES_MAX;

use super::{Cloudwatch, CloudwatchError};

/// What stands before a source in the names of our own streams leaves room for it.
const _: () = assert!(CLOUDWATCH_STREAM_BYTES_MAX > 128);

impl Cloudwatch {
    /// Makes the log groups where there are none, and sets the retention of the one with events where that is set. That of the
    /// other, with cursors and dead letters, is none. Says whether one was made.
    ///
    /// # Errors
    /// CloudWatch's.
    pub async fn create_groups(&self) -> Result<bool, CloudwatchError> {
        // With both there or none, whoever finds the cursors' finds the other.
        let made = self.create_group(&self.options.group).await?;
        if let Some(days) = self.options.retention_days {
            let days = i32::try_from(days).unwrap_or(i32::MAX);
            let request = self.client.put_retention_policy().log_group_name(&self.options.group);
            let sent = request.retention_in_days(days).send().await;
            sent.map_err(|error| CloudwatchError::request("set retention", &self.options.group, &error))?;
        }
        Ok(self.create_group(&self.state_group()).await? || made)
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
