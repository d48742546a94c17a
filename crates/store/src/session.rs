//! Read-only SQL over `logs` and `runs`. Owns the session's settings, limits and the way from a text to an answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::{DataFusionError, Result as PlanResult};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{
    FunctionRegistry, SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext,
};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use runstone_record::limits::{self, EXPORTS_RUNNING_MAX, EXPORTS_WAITING_MAX};
use runstone_record::params::Params;
use runstone_record::wire::QueryColumn;

use crate::answer::{Cells, unique_names, write_object_within};
use crate::catalog::{CATALOG, Own, SCHEMA, catalogs};
use crate::columns::sql_type_name;
use crate::dialect::respell;
use crate::error::{Phase, QueryError, sort_out};
use crate::foremost::shorten;
use crate::functions::scalars;
use crate::growth::LimitGrowth;
use crate::guard;
use crate::params::bind;
use crate::plan::{check_constants, check_functions};
use crate::recent::{Older, Recent, Snapshot};
use crate::runner::{Runner, Slots};
use crate::sources::SourcesTable;
use crate::table::{LogsTable, RunsSource, RunsTable};
use crate::tables::{TableStores, Tables};
use crate::watch::{Stop, watch};
use crate::weight::batch_rows;

/// Versions of the lake that one query tries.
const SNAPSHOTS_MAX: usize = 5;

/// What queries may take.
#[derive(Debug, Clone, Copy)]
pub struct SqlLimits {
    /// Bytes of memory that all running queries share.
    pub memory_bytes: usize,
    /// How long a query may run, and how long it may wait for its turn.
    pub timeout: Duration,
    /// Rows of an answer.
    pub rows_max: usize,
    /// Bytes of an answer's rows.
    pub answer_bytes_max: usize,
    /// Queries that run at once.
    pub running_max: usize,
    /// Queries that wait for their turn.
    pub waiting_max: usize,
    /// Bytes of records, in memory, that an export sorts together, about.
    pub export_slice_bytes: usize,
    /// How long a client may take for a piece of an export.
    pub export_stall: Duration,
    /// In how long a client must take a mebibyte of an export for which others wait.
    pub export_pace: Duration,
    /// Threads that run them.
    pub threads: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            memory_bytes: limits::QUERY_MEMORY_BYTES_MAX,
            timeout: Duration::from_millis(limits::QUERY_TIMEOUT_MS),
            rows_max: limits::QUERY_ROWS_MAX,
            answer_bytes_max: limits::QUERY_ANSWER_BYTES_MAX,
            running_max: limits::QUERIES_RUNNING_MAX,
            waiting_max: limits::QUERIES_WAITING_MAX,
            export_slice_bytes: limits::EXPORT_SLICE_BYTES,
            export_stall: Duration::from_millis(limits::EXPORT_STALL_MS),
            export_pace: Duration::from_millis(limits::EXPORT_PACE_MS),
            threads: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// The rows of a query.
#[derive(Debug, Clone)]
pub struct QueryAnswer {
    /// The columns, in order, with names that differ.
    pub columns: Vec<QueryColumn>,
    /// The rows: a JSON array of objects, as text.
    pub rows_json: Vec<u8>,
    /// How many.
    pub rows: u64,
    /// Were rows cut off, at the limit of rows or of bytes?
    pub truncated: bool,
    /// From the text to the last row.
    pub elapsed: Duration,
}

impl QueryAnswer {
    /// The body of the API's answer, as `runstone_record::wire::QueryAnswer` reads it.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.rows_json.len() + 256);
        let elapsed_ms = self.elapsed.as_secs_f64() * 1e3;
        body.extend_from_slice(b"{\"columns\":");
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(&mut body, &self.columns);
        body.extend_from_slice(b",\"rows\":");
        body.extend_from_slice(&self.rows_json);
        let stats = format!(
            ",\"stats\":{{\"rows\":{},\"elapsed_ms\":{elapsed_ms:.3},\"truncated\":{}}}}}",
            self.rows, self.truncated
        );
        body.extend_from_slice(stats.as_bytes());
        body
    }
}

/// A statement with all that was said of it.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// One read-only statement.
    pub sql: String,
    /// Values for the `$name`s in it.
    pub params: Params,
    /// How long it may run, where that is less than the limit.
    pub timeout: Option<Duration>,
    /// At most so many rows: an answer is cut there. Without it one that is too large is an error.
    pub max_rows: Option<u64>,
}

impl From<&str> for Question {
    fn from(sql: &str) -> Self {
        Self { sql: sql.to_owned(), ..Self::default() }
    }
}

/// What every query needs.
#[derive(Debug)]
pub(crate) struct Shared {
    recent: Arc<Recent>,
    pub(crate) older: Arc<dyn Older>,
    runs: Arc<dyn RunsSource>,
    tables: Arc<Tables>,
    pub(crate) limits: SqlLimits,
    /// A session without tables; each query's is a copy of it.
    template: SessionState,
}

/// The read-only SQL session.
#[derive(Debug)]
pub struct Sql {
    pub(crate) shared: Arc<Shared>,
    pub(crate) runner: Runner,
    pub(crate) queries: Slots,
    pages: Slots,
    asides: Slots,
    pub(crate) exports: Slots,
    /// Long streamed answers of statements.
    pub(crate) streams: Slots,
}

impl Sql {
    /// A session over these sources, with threads of its own.
    ///
    /// # Errors
    /// [`QueryError::Internal`] where threads cannot be started.
    pub fn new(
        recent: Arc<Recent>,
        older: Arc<dyn Older>,
        runs: Arc<dyn RunsSource>,
        limits: SqlLimits,
    ) -> Result<Self, QueryError> {
        Self::with_tables(recent, older, runs, Tables::default(), limits)
    }

    /// The same with tables of others beside them.
    ///
    /// # Errors
    /// [`QueryError::Internal`] where threads cannot be started.
    pub fn with_tables(
        recent: Arc<Recent>,
        older: Arc<dyn Older>,
        runs: Arc<dyn RunsSource>,
        tables: Tables,
        limits: SqlLimits,
    ) -> Result<Self, QueryError> {
        let tables = Arc::new(tables);
        let template = template(&limits, &tables).map_err(|error| QueryError::Internal(error.strip_backtrace()))?;
        let runner = Runner::new(limits.threads);
        let runner = runner.map_err(|error| QueryError::Internal(format!("start query threads: {error}")))?;
        let shared = Shared { recent, older, runs, tables, limits, template };
        let (setting, streams) = (Some("query.concurrency_max"), "long streamed answers of statements");
        Ok(Self {
            shared: Arc::new(shared),
            runner,
            queries: Slots::new(("query", "queries"), limits.running_max, limits.waiting_max, setting),
            pages: Slots::new(("page", "pages"), limits.running_max, limits.waiting_max, setting),
            asides: Slots::new(("question", "questions"), limits.running_max, limits.waiting_max, setting),
            exports: Slots::new(("export", "exports"), EXPORTS_RUNNING_MAX, EXPORTS_WAITING_MAX, None),
            streams: Slots::new(("streamed answer", streams), EXPORTS_RUNNING_MAX, EXPORTS_WAITING_MAX, None),
        })
    }

    /// Answers one read-only statement, with `max_rows` its first rows. Dropping the future stops the query. Must be
    /// awaited in a Tokio runtime with a timer.
    ///
    /// # Errors
    /// [`QueryError`] says whose fault it is. An answer beyond the limits of rows or bytes is one, unless there are
    /// `max_rows`: then it is cut, and says so.
    pub async fn query(&self, question: impl Into<Question>) -> Result<QueryAnswer, QueryError> {
        let (shared, question) = (Arc::clone(&self.shared), question.into());
        let timeout = self.timeout(&question)?;
        self.runner.run(&self.queries, timeout, |stop| async move { shared.query(&question, stop).await }).await
    }

    /// How long a statement may run.
    pub(crate) fn timeout(&self, question: &Question) -> Result<Duration, QueryError> {
        let most = self.shared.limits.timeout;
        match question.timeout {
            Some(timeout) if timeout.is_zero() || timeout > most => Err(QueryError::Invalid(format!(
                "read timeout_ms: it may be 1 to {} (the setting query.timeout_ms), got {}",
                most.as_millis(),
                timeout.as_millis()
            ))),
            timeout => Ok(timeout.unwrap_or(most)),
        }
    }

    /// Does some work in memory on the threads of queries: no more of it at once than there may be queries, in slots of its own.
    ///
    /// # Errors
    /// [`QueryError::Busy`] where too many wait, or one has waited for as long as a query may take.
    pub async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, QueryError> {
        self.runner.aside(&self.asides, self.shared.limits.timeout, work).await
    }

    /// Runs a page of logs: they have slots of their own, so that pages turn while heavy queries run.
    pub(crate) async fn page<T, F>(&self, page: impl FnOnce(Arc<Shared>, Arc<Stop>) -> F) -> Result<T, QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        self.runner.run(&self.pages, self.shared.limits.timeout, |stop| page(shared, stop)).await
    }
}

fn template(limits: &SqlLimits, tables: &Arc<Tables>) -> PlanResult<SessionState> {
    let mut config = SessionConfig::new()
        .with_target_partitions(limits.threads.max(1))
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        // It is a schema of the catalog instead: without the engine's settings.
        .with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.time_zone = Some("UTC".to_owned());
    let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes)))
        .with_disk_manager_builder(no_disk)
        .with_object_store_registry(Arc::new(TableStores(Arc::clone(tables))))
        .with_metadata_cache_limit(limits::LAKE_FOOTERS_BYTES_MAX)
        .build_arc()?;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_scalar_functions(scalars())
        .with_higher_order_functions(Vec::new())
        .with_table_functions(HashMap::new())
        .with_table_factories(HashMap::new())
        .with_file_formats(Vec::new())
        .build();
    datafusion_functions_json::register_all(&mut state)?;
    state.register_function_rewrite(Arc::new(LimitGrowth))?;
    Ok(state)
}

impl Shared {
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.recent.snapshot()
    }

    /// What running queries share.
    pub(crate) fn runtime(&self) -> Arc<RuntimeEnv> {
        Arc::clone(self.template.runtime_env())
    }

    pub(crate) fn config(&self) -> SessionConfig {
        self.template.config().clone()
    }

    /// A session whose tables stand still.
    pub(crate) fn session(&self, snapshot: Snapshot) -> PlanResult<SessionContext> {
        let logs = LogsTable { snapshot, older: Arc::clone(&self.older) };
        let mut own: Own = vec![("logs", Arc::new(logs)), ("runs", Arc::new(RunsTable::new(Arc::clone(&self.runs))))];
        own.push(("sources", Arc::new(SourcesTable::new(Arc::clone(&self.runs)))));
        if self.tables.are_alone() {
            own.clear();
        }
        let mut state = self.template.clone();
        state.register_catalog_list(catalogs(&own, &self.tables, &self.template)?);
        Ok(SessionContext::new_with_state(state))
    }

    async fn query(&self, question: &Question, stop: Arc<Stop>) -> Result<QueryAnswer, QueryError> {
        let begun = Instant::now();
        let mut answer = self.on_newest(|snapshot| self.answer(question, snapshot, &stop)).await?;
        answer.elapsed = begun.elapsed();
        Ok(answer)
    }

    /// Answers from the newest snapshot, and from a newer one where files of it were deleted meanwhile: other writers
    /// may clean the table up without the time that readers are given.
    pub(crate) async fn on_newest<T, F>(&self, answer: impl Fn(Snapshot) -> F) -> Result<T, QueryError>
    where
        F: Future<Output = Result<T, QueryError>>,
    {
        for _ in 1..SNAPSHOTS_MAX {
            let snapshot = self.snapshot();
            match answer(snapshot.clone()).await {
                Err(QueryError::Unread(_)) if self.recent.newer_than(&snapshot).await => {}
                done => return done,
            }
        }
        answer(self.snapshot()).await
    }

    async fn answer(
        &self,
        question: &Question,
        snapshot: Snapshot,
        stop: &Arc<Stop>,
    ) -> Result<QueryAnswer, QueryError> {
        let checked = checked(question)?;
        let asked = question.max_rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(usize::MAX);
        let rows_max = self.limits.rows_max.min(asked);
        // One row more than the limit tells a full answer from one that was cut.
        let stream = self.plan(checked, Some(rows_max.saturating_add(1)), snapshot, stop).await;
        let stream = stream.map_err(|error| self.sort_out(&error, Phase::Planning))?;
        let answer = self.collect(stream, rows_max).await.map_err(|error| self.sort_out(&error, Phase::Running))?;
        match answer.truncated && question.max_rows.is_none() {
            true => Err(self.too_large(&answer)),
            false => Ok(answer),
        }
    }

    /// Why a query has no answer, with the limits that it met.
    pub(crate) fn sort_out(&self, error: &DataFusionError, phase: Phase) -> QueryError {
        sort_out(error, phase).within(self.limits.memory_bytes)
    }

    /// Why an answer that nobody wanted cut is none.
    fn too_large(&self, answer: &QueryAnswer) -> QueryError {
        let SqlLimits { rows_max, answer_bytes_max, .. } = self.limits;
        let what = match usize::try_from(answer.rows) {
            Ok(rows) if rows >= rows_max => format!("{rows_max} rows (query.rows_max)"),
            _ => format!("{answer_bytes_max} bytes"),
        };
        QueryError::Limit(format!(
            "stop query: its answer has more than {what}; ask for less with a LIMIT, for its beginning with max_rows, \
             or for all of it with a streamed format: ndjson, csv, parquet or arrow"
        ))
    }

    /// Plans and starts a statement that gives at most `limit` rows.
    pub(crate) async fn plan(
        &self,
        checked: guard::Checked,
        limit: Option<usize>,
        snapshot: Snapshot,
        stop: &Arc<Stop>,
    ) -> PlanResult<SendableRecordBatchStream> {
        let session = self.session(snapshot)?;
        let plan = session.state().statement_to_plan(checked.statement).await?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        let plan = match limit.filter(|_| checked.is_query) {
            Some(limit) => LogicalPlanBuilder::from(plan).limit(0, Some(limit))?.build()?,
            None => plan,
        };
        start_bound(&session, &plan, stop, checked.bound_bytes).await
    }

    async fn collect(&self, mut stream: SendableRecordBatchStream, rows_max: usize) -> PlanResult<QueryAnswer> {
        let schema = stream.schema();
        let names = unique_names(schema.fields().iter().map(|field| field.name().as_str()));
        let kinds = schema.fields().iter().map(|field| sql_type_name(field.data_type()));
        let columns = names.iter().zip(kinds).map(|(name, kind)| QueryColumn { name: name.clone(), kind }).collect();
        let (mut json, mut rows, mut truncated) = (vec![b'['], 0, false);
        'batches: while let Some(batch) = stream.try_next().await? {
            let cells = names
                .iter()
                .zip(batch.columns())
                .map(|(name, array)| Ok((name.clone(), Cells::new(array)?)))
                .collect::<PlanResult<Vec<_>>>()?;
            for row in 0..batch.num_rows() {
                let before = json.len();
                if rows > 0 {
                    json.push(b',');
                }
                // A row that does not fit is left as soon as that is known: one may be as large as all memory.
                let fits = rows < rows_max && write_object_within(&cells, row, &mut json, self.limits.answer_bytes_max);
                if !fits {
                    json.truncate(before);
                    truncated = true;
                    break 'batches;
                }
                rows += 1;
            }
        }
        json.push(b']');
        Ok(QueryAnswer { columns, rows_json: json, rows: rows as u64, truncated, elapsed: Duration::ZERO })
    }
}

/// A statement that may be planned, with its values in it.
pub(crate) fn checked(question: &Question) -> Result<guard::Checked, QueryError> {
    let mut checked = guard::check(&question.sql)?;
    checked.bound_bytes = bind(&mut checked.statement, &question.params)?;
    respell(&mut checked.statement);
    Ok(checked)
}

/// Optimises, checks and starts the plan of a statement. So many bytes of its constants are parameters.
async fn start_bound(
    session: &SessionContext,
    plan: &LogicalPlan,
    stop: &Arc<Stop>,
    bound_bytes: usize,
) -> PlanResult<SendableRecordBatchStream> {
    check_functions(plan)?;
    let plan = session.state().optimize(plan)?;
    check_constants(&plan, bound_bytes)?;
    execute(session, &plan, stop).await
}

/// The same for a plan of ours. Its constants come from parameters, whose bytes are limited, and from the configuration.
pub(crate) async fn start_own(
    session: &SessionContext,
    plan: &LogicalPlan,
    stop: &Arc<Stop>,
) -> PlanResult<SendableRecordBatchStream> {
    execute(session, &session.state().optimize(plan)?, stop).await
}

async fn execute(
    session: &SessionContext,
    plan: &LogicalPlan,
    stop: &Arc<Stop>,
) -> PlanResult<SendableRecordBatchStream> {
    let state = session.state();
    let plan = state.query_planner().create_physical_plan(plan, &state).await?;
    let plan = watch(shorten(plan)?, stop)?;
    let config = session.copied_config();
    let rows = batch_rows(&plan, config.batch_size())?;
    let context = TaskContext::from(&state).with_session_config(config.with_batch_size(rows));
    execute_stream(plan, Arc::new(context))
}
