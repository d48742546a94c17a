//! How far CloudWatch has a source's records: the last line of a stream of its own. Owns that line; refuses to move it back.
//!
//! A line is added for each delivery. It bears the time of now, or a millisecond more than the one before where the clock went
//! back, so that the last ones are read first; of these the highest counts.

use runstone_record::limits::CLOUDWATCH_CURSORS_READ;
use serde::{Deserialize, Serialize};

use super::{Cloudwatch, CloudwatchError};

/// What is known of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Up to where all its records are there.
    pub(super) position: u64,
    /// When its first record was brought, in microseconds since 1970: of those that were taken before then another source
    /// may have brought the same. None: it never was.
    pub(super) began: Option<i64>,
    /// The time of its last line, in milliseconds.
    at_ms: i64,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    journal: &'a str,
    position: u64,
    began: i64,
}

fn stream(source: &str) -> String {
    format!("cursor/{source}")
}

impl Cloudwatch {
    /// What CloudWatch says of a source (`uuid/epoch`).
    pub(super) async fn find_state(&self, source: &str) -> Result<State, CloudwatchError> {
        let (group, stream) = (self.state_group(), stream(source));
        if self.client.config().region().is_none() {
            return Err(CloudwatchError::no_region(&group));
        }
        let mut token: Option<String> = None;
        loop {
            let answer = self
                .client
                .get_log_events()
                .log_group_name(&group)
                .log_stream_name(&stream)
                .limit(CLOUDWATCH_CURSORS_READ)
                .set_next_token(token.clone())
                .send()
                .await;
            let page = match answer.map_err(|error| CloudwatchError::request("read cursor", &group, &error)) {
                Ok(page) => page,
                Err(error) if error.is_missing() => {
                    // Is it the stream, or the group? This fails without a group.
                    self.streams(&group, &stream).await?;
                    return Ok(State::default());
                }
                Err(error) => return Err(error),
            };
            let lines = page.events().iter().filter_map(|event| {
                let line: Line<'_> = serde_json::from_str(event.message()?).ok()?;
                let at_ms = event.timestamp()?;
                Some(State { position: line.position, began: Some(line.began), at_ms })
            });
            if let Some(state) = lines.max_by_key(|state| (state.position, state.at_ms)) {
                return Ok(state);
            }
            if page.next_backward_token.is_none() || page.next_backward_token == token {
                return Ok(State::default());
            }
            token = page.next_backward_token;
        }
    }

    /// Moves a source's cursor, once all its records up to there are in CloudWatch or dead letters.
    pub(super) async fn move_cursor(&self, source: &str, from: State, through: u64) -> Result<State, CloudwatchError> {
        let began = from.began.unwrap_or_else(|| (self.clock)());
        let at_ms = self.now_ms().max(from.at_ms.saturating_add(1));
        let line = Line { journal: source, position: through, began };
        // It is made of a text and numbers.
        let line = serde_json::to_string(&line).unwrap_or_default();
        self.note(&stream(source), at_ms, vec![line]).await?;
        Ok(State { position: through, began: Some(began), at_ms })
    }
}
