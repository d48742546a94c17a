//! Following: what arrives after a position, in the order in which it arrived.
//!
//! Owns which positions were read. Pages by timestamp cannot be followed: a record that comes late belongs before the end
//! of the last page, and nobody would see it. A position says when a record came: its journal gives positions in order
//! and shows them in order, so that what lies beyond the last one read is all that came since, each record once. Several
//! journals may write one lake; each has a mark of its own, and a journal that nobody heard of begins at 0. A round asks how
//! far each journal has come, then reads up to there with the filter: what the filter leaves out is read once too.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use runstone_record::limits::PAGE_ROWS_MAX;
use runstone_record::wire::RunBody;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::Client;
use crate::conditions::{of_logs, of_runs, quoted};
use crate::error::ClientError;
use crate::filter::{LogsFilter, RunsFilter};
use crate::row::Row;
use crate::walk::Items;

const INTERVAL: Duration = Duration::from_secs(1);
/// The code of an answer that would be too large.
const TOO_LARGE: &str = "query_limit";

/// The states of so many runs are remembered; then those of the ones that ended are forgotten.
const STATES_MAX: usize = 100_000;
/// Runs that one statement names.
const RUNS_AT_ONCE: usize = 100;
/// The state of a run that nothing closed yet.
const RUNNING: &str = "running";

/// How far each journal was read: its last position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<String, u64>);

#[derive(Deserialize)]
struct Mark {
    journal: String,
    position: u64,
}

impl Marks {
    /// Was the record there when these marks were made?
    #[must_use]
    pub fn cover(&self, record: &Row) -> bool {
        let mark = record.text("journal").and_then(|journal| self.0.get(&journal));
        let position = record.integer("position").and_then(|position| u64::try_from(position).ok());
        mark.zip(position).is_some_and(|(mark, position)| position <= *mark)
    }

    /// Moves on to a record that was read: a program that stops here goes on behind it.
    pub fn pass(&mut self, record: &Row) {
        if let (Some(journal), Some(position)) = (record.text("journal"), record.integer("position")) {
            let mark = self.0.entry(journal).or_default();
            *mark = (*mark).max(u64::try_from(position).unwrap_or(0));
        }
    }

    /// What lies beyond the marks, as a condition.
    fn beyond(&self) -> String {
        let beyond =
            |(journal, mark): (&String, &u64)| format!("(journal <> {} OR position > {mark})", quoted(journal));
        let all: Vec<_> = self.0.iter().map(beyond).collect();
        if all.is_empty() { "true".to_owned() } else { all.join(" AND ") }
    }
}

/// A part of a journal that is still to be read.
#[derive(Debug, Clone)]
struct Stretch {
    journal: String,
    after: u64,
    through: u64,
}

impl Stretch {
    fn condition(&self) -> String {
        let Stretch { journal, after, through } = self;
        format!("(journal = {} AND position > {after} AND position <= {through})", quoted(journal))
    }
}

/// Where a follower is.
struct Follower {
    client: Client,
    /// None until the first round where it begins with what comes next.
    marks: Option<Marks>,
    interval: Duration,
}

impl Follower {
    /// What has come since the marks; waits until there is something.
    async fn news(&mut self) -> Result<Vec<Stretch>, ClientError> {
        loop {
            let known = match &self.marks {
                Some(marks) => marks,
                None => self.marks.insert(self.client.marks().await?),
            };
            let news = self.client.marks_beyond(known).await?;
            if !news.0.is_empty() {
                let after = |journal: &String| known.0.get(journal).copied().unwrap_or(0);
                let stretch = |(journal, through): (String, u64)| Stretch { after: after(&journal), through, journal };
                return Ok(news.0.into_iter().map(stretch).collect());
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    fn passed(&mut self, journal: &str, position: u64) {
        self.marks.get_or_insert_default().0.insert(journal.to_owned(), position);
    }
}

/// Follows records: see [`Client::tail`].
pub struct Tail {
    follower: Follower,
    filter: LogsFilter,
}

impl Tail {
    /// From there on, instead of from now on. [`Marks::default`] is the very beginning: all that the filter matches, in the
    /// order in which it arrived, and then what arrives.
    #[must_use]
    pub fn from(mut self, marks: Marks) -> Tail {
        self.follower.marks = Some(marks);
        self
    }

    /// How long to wait where nothing has arrived; a second unless set.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Tail {
        self.follower.interval = interval;
        self
    }

    /// The records, without an end. A server that is away is waited for until the client's deadline.
    pub fn stream(self) -> Items<Row> {
        let Tail { follower, filter } = self;
        let walk = Arrivals { follower, filter, open: VecDeque::new(), rows: PAGE_ROWS_MAX };
        let records = stream::try_unfold(walk, |mut walk| async move {
            let records = walk.next().await?;
            Ok(Some((stream::iter(records).map(Ok), walk)))
        });
        records.try_flatten().boxed()
    }
}

/// Records as they arrived, in pieces.
struct Arrivals {
    follower: Follower,
    filter: LogsFilter,
    open: VecDeque<Stretch>,
    /// How many to ask for at once: fewer where so many would make too large an answer.
    rows: usize,
}

impl Arrivals {
    async fn next(&mut self) -> Result<Vec<Row>, ClientError> {
        let conditions = of_logs(&self.filter)?;
        loop {
            let Some(stretch) = self.open.front_mut() else {
                self.open = self.follower.news().await?.into();
                continue;
            };
            let wanted = format!("{}{conditions}", stretch.condition());
            let sql = format!("SELECT * FROM logs WHERE {wanted} ORDER BY position LIMIT {}", self.rows);
            let client = &self.follower.client;
            let answer = match client.patiently(|| client.query(sql.as_str())).await {
                Err(error) if error.code() == Some(TOO_LARGE) && self.rows > 1 => {
                    self.rows /= 2;
                    continue;
                }
                answer => answer?,
            };
            let is_whole = answer.rows.len() < self.rows && !answer.stats.truncated;
            let last = answer.rows.last().and_then(|row| u64::try_from(row.integer("position")?).ok());
            match last {
                Some(last) if !is_whole => {
                    stretch.after = last;
                    let journal = stretch.journal.clone();
                    self.follower.passed(&journal, last);
                }
                _ => {
                    let Stretch { journal, through, .. } = stretch.clone();
                    self.follower.passed(&journal, through);
                    self.open.pop_front();
                }
            }
            self.rows = (self.rows * 2).min(PAGE_ROWS_MAX);
            if !answer.rows.is_empty() {
                return Ok(answer.rows.into_iter().map(as_record).collect());
            }
        }
    }
}

/// A row as the API's pages have it: only what it has, and the field that is JSON in SQL as the object that it is.
fn as_body(mut row: Row, json: &str) -> Row {
    row.retain(|_, value| value.get() != "null");
    if let Some(object) = row.text(json).and_then(|text| RawValue::from_string(text).ok()) {
        row.replace(json, object);
    }
    row
}

fn as_record(mut row: Row) -> Row {
    row.retain(|name, _| name != "date");
    as_body(row, "metadata")
}

/// Follows runs: see [`Client::tail_runs`].
pub struct RunsTail {
    follower: Follower,
    filter: RunsFilter,
    /// What state runs were in when they were seen last.
    states: HashMap<String, String>,
}

impl RunsTail {
    /// From there on, instead of from now on.
    #[must_use]
    pub fn from(mut self, marks: Marks) -> RunsTail {
        self.follower.marks = Some(marks);
        self
    }

    /// How long to wait where nothing has arrived; a second unless set.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> RunsTail {
        self.follower.interval = interval;
        self
    }

    /// These were seen already, as they are here: [`RunsTail::turns`] has them when their state is another.
    #[must_use]
    pub fn knowing<'a>(mut self, runs: impl IntoIterator<Item = &'a RunBody>) -> RunsTail {
        runs.into_iter().for_each(|run| self.know(run));
        self
    }

    /// The runs as they are each time that records of theirs have arrived, without an end.
    pub fn stream(self) -> Items<RunBody> {
        let runs = stream::try_unfold(self, |mut tail| async move {
            loop {
                let (news, runs) = tail.round().await?;
                tail.pass(news);
                if !runs.is_empty() {
                    return Ok(Some((stream::iter(runs).map(Ok), tail)));
                }
            }
        });
        runs.try_flatten().boxed()
    }

    /// The runs as they begin and as they end, without an end: none for a record that changes nothing of that.
    pub fn turns(self) -> Items<RunBody> {
        let runs = stream::try_unfold(self, |mut tail| async move {
            loop {
                let (news, runs) = tail.round().await?;
                let turned = tail.turned(&news, runs).await?;
                tail.pass(news);
                if !turned.is_empty() {
                    return Ok(Some((stream::iter(turned).map(Ok), tail)));
                }
            }
        });
        runs.try_flatten().boxed()
    }

    /// What has arrived, and the runs of it.
    async fn round(&mut self) -> Result<(Vec<Stretch>, Vec<RunBody>), ClientError> {
        let conditions = of_runs(&self.filter)?;
        let news = self.follower.news().await?;
        let runs = self.follower.client.changed_runs(&any_of(&news), &conditions).await?;
        Ok((news, runs))
    }

    fn pass(&mut self, news: Vec<Stretch>) {
        news.into_iter().for_each(|Stretch { journal, through, .. }| self.follower.passed(&journal, through));
    }

    fn know(&mut self, run: &RunBody) {
        if self.states.len() >= STATES_MAX {
            self.states.retain(|_, state| state == RUNNING);
        }
        self.states.insert(run.run_id.clone(), run.state.clone());
    }

    /// Those of the runs that began or ended with what arrived.
    async fn turned(&mut self, news: &[Stretch], runs: Vec<RunBody>) -> Result<Vec<RunBody>, ClientError> {
        let unknown = || runs.iter().filter(|run| !self.states.contains_key(&run.run_id));
        let (running, ended): (Vec<_>, Vec<_>) = unknown().partition(|run| run.state == RUNNING);
        let marks = self.follower.marks.as_ref().map_or_else(|| "true".to_owned(), Marks::beyond);
        // One that has a record from before began before.
        let begun = |ids: &str| format!("SELECT DISTINCT run_id FROM logs WHERE run_id IN ({ids}) AND NOT ({marks})");
        let begun = self.follower.client.runs_that(&running, begun).await?;
        // And one that ended did so with the record that has the time of its end.
        let arrived = any_of(news);
        let closed = |ids: &str| {
            format!(
                "SELECT DISTINCT runs.run_id FROM runs JOIN logs ON coalesce(logs.run_id, logs.id) = runs.run_id \
                 AND logs.timestamp = runs.ended_at WHERE runs.run_id IN ({ids}) AND ({arrived}) \
                 AND (logs.type IN ('success', 'end', 'error', 'activity') OR logs.status IS NOT NULL)"
            )
        };
        let closed = self.follower.client.runs_that(&ended, closed).await?;
        let mut turned = Vec::new();
        for run in runs {
            let is_news = match self.states.get(&run.run_id) {
                Some(state) => *state != run.state,
                None if run.state == RUNNING => !begun.contains(&run.run_id),
                None => closed.contains(&run.run_id),
            };
            // The record that ended it may have come behind these: then it is news in the next round.
            if is_news || run.state == RUNNING {
                self.know(&run);
            }
            if is_news {
                turned.push(run);
            }
        }
        Ok(turned)
    }
}

fn any_of(news: &[Stretch]) -> String {
    news.iter().map(Stretch::condition).collect::<Vec<_>>().join(" OR ")
}

impl Client {
    /// How far every journal has come: what is there now lies before these marks, what comes later beyond them.
    ///
    /// # Errors
    /// What kept it from the server, until the deadline.
    pub async fn marks(&self) -> Result<Marks, ClientError> {
        self.marks_beyond(&Marks::default()).await
    }

    async fn marks_beyond(&self, known: &Marks) -> Result<Marks, ClientError> {
        let sql =
            format!("SELECT journal, max(position) AS position FROM logs WHERE {} GROUP BY journal", known.beyond());
        let answer = self.patiently(|| self.query(sql.as_str())).await?;
        let marks = answer.rows_as::<Mark>().map_err(ClientError::Row)?;
        Ok(Marks(marks.into_iter().map(|mark| (mark.journal, mark.position)).collect()))
    }

    /// The records that arrive from now on and that the filter matches, each once, in the order in which they arrive. How
    /// pages are ordered and cut plays no part; times are RFC 3339.
    #[must_use]
    pub fn tail(&self, filter: &LogsFilter) -> Tail {
        let follower = Follower { client: self.clone(), marks: None, interval: INTERVAL };
        Tail { follower, filter: filter.clone() }
    }

    /// The runs that get records from now on and that the filter matches, as they are then: once for all records that
    /// arrive together, or, with [`RunsTail::turns`], only when they begin and end.
    #[must_use]
    pub fn tail_runs(&self, filter: &RunsFilter) -> RunsTail {
        let follower = Follower { client: self.clone(), marks: None, interval: INTERVAL };
        RunsTail { follower, filter: filter.clone(), states: HashMap::new() }
    }

    /// The runs of the records that `arrived` describes, those that began first before the others.
    async fn changed_runs(&self, arrived: &str, conditions: &str) -> Result<Vec<RunBody>, ClientError> {
        // An activity without a run is one itself.
        let ids = format!("SELECT coalesce(run_id, id) FROM logs WHERE {arrived}");
        let mut runs: Vec<RunBody> = Vec::new();
        loop {
            // By what never changes: a start may move while the pages are read.
            let last = runs.last().map_or("", |run| &run.run_id);
            let sql = format!(
                "SELECT * FROM runs WHERE run_id IN ({ids}) AND run_id > {}{conditions} ORDER BY run_id LIMIT {PAGE_ROWS_MAX}",
                quoted(last)
            );
            let answer = self.patiently(|| self.query(sql.as_str())).await?;
            let is_last = answer.rows.len() < PAGE_ROWS_MAX;
            for row in answer.rows {
                runs.push(as_body(row, "labels").parse().map_err(ClientError::Row)?);
            }
            if is_last {
                runs.sort_by(|one, other| (&one.started_at, &one.run_id).cmp(&(&other.started_at, &other.run_id)));
                return Ok(runs);
            }
        }
    }

    /// Those of the runs that a statement finds among ids that it is given.
    async fn runs_that(
        &self,
        runs: &[&RunBody],
        statement: impl Fn(&str) -> String,
    ) -> Result<HashSet<String>, ClientError> {
        let mut found = HashSet::new();
        for some in runs.chunks(RUNS_AT_ONCE) {
            let ids: Vec<_> = some.iter().map(|run| quoted(&run.run_id)).collect();
            let sql = statement(&ids.join(", "));
            let answer = self.patiently(|| self.query(sql.as_str())).await?;
            found.extend(answer.rows.iter().filter_map(|row| row.text("run_id")));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn marks_say_what_was_there() {
        let mut marks = Marks::default();
        assert_eq!(marks.beyond(), "true");
        marks.pass(&row(r#"{"journal":"a/1","position":7}"#));
        marks.pass(&row(r#"{"journal":"a/1","position":5}"#));
        marks.pass(&row(r#"{"journal":"b/1","position":2}"#));
        assert_eq!(marks.beyond(), "(journal <> 'a/1' OR position > 7) AND (journal <> 'b/1' OR position > 2)");
        assert!(marks.cover(&row(r#"{"journal":"a/1","position":7}"#)));
        assert!(!marks.cover(&row(r#"{"journal":"a/1","position":8}"#)));
        assert!(!marks.cover(&row(r#"{"journal":"c/1","position":1}"#)));
    }

    #[test]
    fn a_row_becomes_a_record() {
        let row = row(r#"{"id":"x","date":"2026-01-01","stage":null,"metadata":"{\"n\":123456789012345678901}"}"#);
        assert_eq!(as_record(row).to_string(), r#"{"id":"x","metadata":{"n":123456789012345678901}}"#);
    }
}
