//! Every limit of the system, with its unit in its name. Owns the numbers; refuses to know who enforces them.
//!
//! A limit that a user can change is the default here and a setting in the server's configuration.

/// Bytes of a request body as they travel, before decompression.
pub const BODY_WIRE_BYTES_MAX: usize = 8 << 20;
/// Bytes of a request body after decompression.
pub const BODY_DECODED_BYTES_MAX: usize = 32 << 20;
/// Records in one request.
pub const REQUEST_RECORDS_MAX: usize = 10_000;
/// Bytes of one record's JSON text.
pub const RECORD_BYTES_MAX: usize = 256 << 10;
/// Nesting depth of a record's JSON, the record itself being 1.
pub const RECORD_DEPTH_MAX: usize = 32;
/// Keys in one record, nested ones included.
pub const RECORD_KEYS_MAX: usize = 256;
/// Bytes of one key.
pub const KEY_BYTES_MAX: usize = 128;
/// Bytes of the text of one JSON number.
pub const NUMBER_BYTES_MAX: usize = 1_000;
/// Characters of an identifier (`source_system`, `stage`, `run_id`).
pub const IDENTIFIER_CHARS_MAX: usize = 128;
/// Hexadecimal digits of a trace or span id.
pub const TRACE_DIGITS_MAX: usize = 64;
/// Bytes of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Visible ASCII characters of an `X-Request-Id`.
pub const REQUEST_ID_CHARS_MAX: usize = 128;
/// Item errors that one answer lists; all are counted.
pub const ANSWER_ERRORS_MAX: usize = 100;
/// Bytes of a run's title and of its failure's message; what is longer is cut in the run, not in the record.
pub const RUN_TEXT_BYTES_MAX: usize = 1_024;
/// Rows of one frame that the decoder accepts: a column of equal values costs no byte a row, so that a damaged count must not
/// become an allocation beyond what a request's body may have.
pub const FRAME_ROWS_MAX: usize = 1 << 17;

/// Bytes of a request's line and headers.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Bytes of request bodies, decoded, that the server holds at once.
pub const IN_FLIGHT_BYTES_MAX: usize = 128 << 20;
/// Bytes of answers that are held for clients that have not read them yet.
pub const ANSWERS_BYTES_MAX: usize = 256 << 20;
/// Open connections.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Milliseconds for a request's headers to arrive.
pub const HEADER_TIMEOUT_MS: u64 = 10_000;
/// Milliseconds for a request's body to arrive.
pub const BODY_TIMEOUT_MS: u64 = 30_000;
/// Milliseconds that a kept-alive connection may be idle.
pub const IDLE_TIMEOUT_MS: u64 = 75_000;
/// Milliseconds that a graceful stop may take.
pub const STOP_TIMEOUT_MS: u64 = 10_000;

/// Bytes of an answer from which on it is compressed, where the client takes that.
pub const COMPRESS_BYTES_MIN: u64 = 1 << 10;

/// Bytes of recent records held in memory.
pub const RECENT_BYTES_MAX: usize = 128 << 20;
/// Bytes of remembered record ids and idempotency keys.
pub const IDS_BYTES_MAX: usize = 256 << 20;
/// Bytes of payload waiting for the journal's writer.
pub const JOURNAL_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes of a journal segment.
pub const JOURNAL_SEGMENT_BYTES: u64 = 128 << 20;

/// Bytes of the journal beyond which nothing is taken.
pub const JOURNAL_BYTES_MAX: u64 = 64 << 30;
/// Bytes of the journal that are kept although the lake has them.
pub const JOURNAL_KEEP_BYTES: u64 = 256 << 20;
/// Milliseconds that a journal's file is kept although the lake has it.
pub const JOURNAL_KEEP_MS: u64 = 3_600_000;

/// Milliseconds after which a record is in the lake.
pub const LAKE_FLUSH_INTERVAL_MS: u64 = 300_000;
/// Bytes of payload that are brought to the lake at once.
pub const LAKE_FLUSH_BYTES: u64 = 64 << 20;
/// Milliseconds that a file stays after it has left the lake's table.
pub const LAKE_VACUUM_GRACE_MS: u64 = 3_600_000;
/// The same, at most: checkpoints of a Delta table forget after a week which files have left it, and when.
pub const LAKE_VACUUM_GRACE_MS_MAX: u64 = 7 * 86_400_000;
/// Rows of a row group in a file of the lake.
pub const LAKE_GROUP_ROWS: usize = 1 << 15;
/// Bytes of the records in a row group, in memory: readers hold the texts of one at once.
pub const LAKE_GROUP_BYTES: usize = 64 << 20;
/// Bytes of a file that compaction aims at.
pub const LAKE_FILE_BYTES: u64 = 128 << 20;
/// Milliseconds between looks at what the lake needs.
pub const LAKE_UPKEEP_INTERVAL_MS: u64 = 60_000;

/// Bytes of a SQL text.
pub const SQL_BYTES_MAX: usize = 32 << 10;
/// Parameters of a SQL statement.
pub const SQL_PARAMS_MAX: usize = 100;
/// Bytes of a parameter's name.
pub const SQL_PARAM_NAME_BYTES_MAX: usize = 63;
/// Items of a parameter that is a list.
pub const SQL_PARAM_ITEMS_MAX: usize = 1_000;
/// Bytes of all parameters' values, counted wherever a statement names them; a number counts as eight.
pub const SQL_PARAM_BYTES_MAX: usize = 64 << 10;
/// Nesting of parentheses and subqueries in a SQL text.
pub const SQL_PARSE_DEPTH_MAX: usize = 50;
/// Nesting of operators in one SQL expression; a chain of a hundred `OR`s is a hundred deep.
pub const SQL_EXPRESSION_DEPTH_MAX: usize = 500;
/// `SELECT`s in one SQL statement.
pub const SQL_SELECTS_MAX: usize = 64;
/// Tables that a SQL statement reads once every `WITH` is put in where it is used.
pub const SQL_RELATIONS_MAX: usize = 64;
/// How often one column may be put into another through nested queries: each level multiplies.
pub const SQL_SUBSTITUTIONS_MAX: usize = 100_000;
/// Columns of one step of a query's plan.
pub const SQL_COLUMNS_MAX: usize = 4_096;
/// Bytes of a regular expression in SQL.
pub const SQL_REGEX_BYTES_MAX: usize = 1_024;
/// Bytes of all long text constants of a query: each is written out for every row of a batch.
pub const SQL_CONSTANT_BYTES_MAX: usize = 16 << 10;
/// Bytes that one call of a SQL function may make for a batch of rows.
pub const SQL_CALL_BYTES_MAX: usize = 64 << 20;
/// Bytes that one step of a query makes at once, about: it is given few enough rows for that.
pub const SQL_STEP_BYTES: usize = 8 << 20;
/// Bytes of a JSON file that its columns are found from.
pub const TABLE_JSON_GUESS_BYTES: u64 = 4 << 20;
/// Bytes of a JSON file that is one array: it is read whole.
pub const TABLE_JSON_ARRAY_BYTES_MAX: u64 = 16 << 20;
/// Files of a table of others.
pub const TABLE_FILES_MAX: usize = 10_000;
/// Milliseconds that a query may run.
pub const QUERY_TIMEOUT_MS: u64 = 30_000;
/// Bytes of memory that all running queries share.
pub const QUERY_MEMORY_BYTES_MAX: usize = 256 << 20;
/// Bytes of the lake's file footers that queries keep.
pub const LAKE_FOOTERS_BYTES_MAX: usize = 16 << 20;
/// Rows of a query's answer.
pub const QUERY_ROWS_MAX: usize = 10_000;
/// Bytes of a query's answer.
pub const QUERY_ANSWER_BYTES_MAX: usize = 32 << 20;
/// Queries running at once; more wait.
pub const QUERIES_RUNNING_MAX: usize = 4;
/// Queries waiting for their turn; more are told to come back.
pub const QUERIES_WAITING_MAX: usize = 32;
/// Rows of a page of logs or runs, and the default.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Bytes of a page of logs: it ends early, and the cursor goes on from there.
pub const PAGE_BYTES_MAX: usize = 16 << 20;
/// Groups of an answer of metrics, those of all buckets together.
pub const METRICS_GROUPS_MAX: usize = 10_000;
/// Percentiles of one answer of metrics.
pub const METRICS_PERCENTILES_MAX: usize = 10;
/// Newest records whose metadata is looked at to say which keys there are.
pub const METADATA_SAMPLE_RECORDS: usize = 1_000;
/// Source systems that the configuration describes.
pub const SOURCES_MAX: usize = 10_000;
/// Labels of one of them.
pub const SOURCE_LABELS_MAX: usize = 32;
/// Bytes of its environment, its owner and of each label's value.
pub const SOURCE_TEXT_BYTES_MAX: usize = 256;
/// Rows of a page when the caller names no limit.
pub const PAGE_ROWS_DEFAULT: usize = 100;
/// Journals whose reach a cursor remembers: those that were written to last.
pub const CURSOR_JOURNALS_MAX: usize = 23;
/// Words and phrases that one page of logs looks for, and conditions on its metadata.
pub const LOGS_TERMS_MAX: usize = 16;
/// Bytes of one query parameter's value.
pub const PARAMETER_BYTES_MAX: usize = 1_024;

/// Exports running at once, and as many streamed answers of statements; more wait. They have places of their own: one may run
/// for as long as its client reads.
pub const EXPORTS_RUNNING_MAX: usize = 2;
/// Exports waiting for their turn; more are told to come back.
pub const EXPORTS_WAITING_MAX: usize = 16;
/// Bytes of an export that are sent at once, about.
pub const EXPORT_PIECE_BYTES: usize = 64 << 10;
/// Pieces of an export that wait for its client.
pub const EXPORT_PIECES_MAX: usize = 8;
/// Milliseconds in which a client must take a piece of an export.
pub const EXPORT_STALL_MS: u64 = 60_000;
/// Bytes that the client of an export takes in `EXPORT_PACE_MS` of waiting for it, at least, while others wait for its place.
pub const EXPORT_PACE_BYTES: usize = 1 << 20;
/// Milliseconds in which a client must take `EXPORT_PACE_BYTES`.
pub const EXPORT_PACE_MS: u64 = 10_000;
/// Bytes of rows, in memory, that are made ahead of what an export writes.
pub const EXPORT_AHEAD_BYTES: usize = 8 << 20;
/// Bytes of records, in memory, that an export sorts together, about; it never holds more than four times as many.
pub const EXPORT_SLICE_BYTES: usize = 16 << 20;
/// Rows of a row group in an exported Parquet file.
pub const EXPORT_GROUP_ROWS: usize = 1 << 16;
/// Bytes of a row group in an exported Parquet file: one is held in memory until it is complete.
pub const EXPORT_GROUP_BYTES: usize = 16 << 20;

/// Milliseconds that one request to object storage may take, an upload's part included.
pub const LAKE_REQUEST_TIMEOUT_MS: u64 = 30_000;
/// Milliseconds to connect to object storage.
pub const LAKE_CONNECT_TIMEOUT_MS: u64 = 5_000;
/// Milliseconds from the first try of a request to object storage to its last retry.
pub const LAKE_RETRY_TIMEOUT_MS: u64 = 60_000;
/// Retries of one request to object storage.
pub const LAKE_RETRIES_MAX: usize = 8;
/// Milliseconds of the first and of the longest pause between them.
pub const LAKE_BACKOFF_MS: (u64, u64) = (100, 10_000);
/// Bytes of a data file that goes to object storage as one request; a larger one goes in parts of this size.
pub const LAKE_PART_BYTES: usize = 8 << 20;
/// Parts of one data file in flight.
pub const LAKE_PARTS_IN_FLIGHT_MAX: usize = 4;
/// How often one commit is tried: for a version that others took first, or whose outcome had to be looked up.
pub const LAKE_COMMIT_TRIES_MAX: u32 = 64;
/// Milliseconds of the first pause before a commit is tried again that did not land.
pub const LAKE_COMMIT_PAUSE_MS: u64 = 20;
/// How often a version that stays free is tried; the storage has tried each of them for long itself.
pub const LAKE_COMMIT_REFUSALS_MAX: u32 = 10;
/// Bytes of a foreign commit that is read.
pub const LAKE_COMMIT_BYTES_MAX: u64 = 256 << 20;
/// Milliseconds after which nobody goes on writing an unfinished file in a local lake.
pub const LAKE_UNFINISHED_MS: i64 = 3_600_000;
/// Commits from one checkpoint of the lake's log to the next.
pub const LAKE_CHECKPOINT_COMMITS: u64 = 100;
/// Days that entries of the lake's log are kept behind a checkpoint, where the table does not say.
pub const LAKE_LOG_RETENTION_DAYS: u64 = 30;
/// Entries of the lake's log that are kept behind a checkpoint, however young: a commit a second makes 86,400 a day.
pub const LAKE_LOG_VERSIONS_MAX: u64 = 20_000;
/// Milliseconds after which a file that was uploaded and not committed is uploaded again: vacuum may remove it.
pub const LAKE_UPLOADED_MS_MAX: i64 = 600_000;

/// Files of the lake that are merged at least, while records of their day still arrive.
pub const LAKE_MERGE_FILES_MIN: usize = 8;
/// Files that are merged at once.
pub const LAKE_MERGE_FILES_MAX: usize = 256;
/// Rows that are merged at once: finding where to cut them in time takes 16 bytes each.
pub const LAKE_MERGE_ROWS_MAX: u64 = 4 << 20;
/// Merges of one look at what the lake needs that may come too late because another writer was faster.
pub const LAKE_MERGE_CONFLICTS_MAX: usize = 16;
/// Milliseconds without a new file after which a day of the lake is over.
pub const LAKE_QUIET_MS: i64 = 3_600_000;
/// Data files that are opened at a time.
pub const LAKE_FILES_OPENING_MAX: usize = 8;
/// Bytes of a data file that is read whole rather than in parts.
pub const LAKE_READ_WHOLE_BYTES: u64 = 1 << 20;
/// Bytes of a small data file that have one checksum: who reads less reads all of them.
pub const LAKE_SUM_BLOCK_BYTES: usize = 4 << 10;
/// Checksums of a data file; where it would have more, each is of twice as many bytes.
pub const LAKE_SUM_BLOCKS_MAX: usize = 1 << 10;
/// Files that leave the lake in one commit because they are old enough.
pub const LAKE_RETIRE_FILES_MAX: usize = 1_000;
/// Files that are deleted at a time after they left the lake's table.
pub const LAKE_DELETE_FILES_MAX: usize = 1_000;
/// Milliseconds by which a clock may be off before nothing is deleted by it.
pub const LAKE_CLOCK_JUMP_MS: i64 = 86_400_000;
/// Milliseconds between two arrivals that may be a jump of a clock that wrote both; what arrives once a day is none.
pub const LAKE_CLOCK_PAUSE_MS: i64 = 2 * 86_400_000;
/// Milliseconds that an uploaded file may wait for its commit, at least, before it may be taken for an orphan.
pub const LAKE_ORPHAN_MS: i64 = 3_600_000;
/// The same for a file of another writer: a long job uploads for days and commits once.
pub const LAKE_FOREIGN_ORPHAN_MS: i64 = 7 * 86_400_000;

/// Bytes of filters of the lake's files that are kept in memory to recognise records that are there already.
pub const LAKE_FILTERS_BYTES_MAX: usize = 32 << 20;
/// Questions to filters that one flush asks for random ids, which may be anywhere in the lake.
pub const LAKE_COPY_PROBES_MAX: u64 = 32 << 20;
/// Files of the lake that one flush opens for their filters for random ids, apart from those in which a record may be by its
/// time: far away each costs two requests, and a flush has a second or two.
pub const LAKE_COPY_FILES_MAX: usize = 32;
/// Row groups that one flush reads for random ids, apart from those in which a record may be by its time.
pub const LAKE_COPY_GROUPS_MAX: usize = 64;

/// Bytes of a line in the file of the sink `console`.
pub const CONSOLE_LINE_BYTES_MAX: usize = 1 << 20;

/// Records that are brought to a sink at once; a frame is never divided.
pub const SINK_DELIVERY_RECORDS_MAX: usize = 5_000;
/// Bytes of the frames that are brought to a sink at once, likewise.
pub const SINK_DELIVERY_BYTES_MAX: usize = 8 << 20;
/// Bytes of the reason why a sink is not ready, where it is shown.
pub const SINK_REASON_BYTES_MAX: usize = 1_000;
/// Logs of runs that are read from targets at once; others wait.
pub const TARGET_LOGS_MAX: usize = 4;
/// Bytes of a log in DynamoDB that are put into the order of their times; a longer log comes as it was appended.
pub const TARGET_LOG_SORTED_BYTES_MAX: usize = 16 << 20;
/// Bytes of entries in one piece of the answer for such a log, and those of one entry more.
pub const TARGET_LOG_PIECE_BYTES: usize = 1 << 20;
/// Records of a log in PostgreSQL that are in memory at once.
pub const TARGET_LOG_PAGE_ROWS: usize = 64;
/// Milliseconds that a target may take to find the log of a run that the server does not know, or to read on in it.
pub const TARGET_LOG_TIMEOUT_MS: u64 = 10_000;
/// Items of a target's table that are looked at together for runs.
pub const TARGET_RUNS_LOOKED_AT: usize = 64;
/// Runs of them whose logs are read at once.
pub const TARGET_RUNS_READ_AT_ONCE: usize = 4;
/// Pages of a target's runs that are made at once; others wait.
pub const TARGET_RUNS_WALKS_MAX: usize = 2;
/// Milliseconds after which a page of a target's runs ends with what it has.
pub const TARGET_RUNS_PAGE_MS: u64 = 5_000;

/// Bytes of the prefix that the names of PostgreSQL's tables begin with: with ours behind it they stay below its 63.
pub const POSTGRES_PREFIX_BYTES_MAX: usize = 30;
/// Connections to PostgreSQL.
pub const POSTGRES_CONNECTIONS_MAX: usize = 4;
/// Milliseconds to connect to PostgreSQL.
pub const POSTGRES_CONNECT_TIMEOUT_MS: u64 = 10_000;
/// Milliseconds that a statement waits for a lock in PostgreSQL.
pub const POSTGRES_LOCK_TIMEOUT_MS: u64 = 5_000;
/// Milliseconds that a statement may take in PostgreSQL.
pub const POSTGRES_STATEMENT_TIMEOUT_MS: u64 = 30_000;
/// Milliseconds beyond that after which its answer is no longer waited for: then the server does not keep time itself.
pub const POSTGRES_GRACE_MS: u64 = 5_000;
/// Milliseconds that an index may take to be built in PostgreSQL, on a table that has rows: nobody waits for it.
pub const POSTGRES_INDEX_TIMEOUT_MS: u64 = 3_600_000;
/// How often a delivery to PostgreSQL is tried before its caller is told to come again later.
pub const POSTGRES_TRIES_MAX: usize = 5;
/// Milliseconds of the first and of the longest pause between them.
pub const POSTGRES_BACKOFF_MS: (u64, u64) = (100, 5_000);
/// Rows that one statement brings to PostgreSQL; fewer where they take too long.
pub const POSTGRES_COPY_ROWS_MAX: usize = 5_000;
/// Rows that are made ready for PostgreSQL at once, while it works on those before.
pub const POSTGRES_PIECE_ROWS: usize = 256;
/// Bytes that are sent to PostgreSQL at once.
pub const POSTGRES_PIECE_BYTES: usize = 128 << 10;
/// Rows that leave PostgreSQL in one statement because they are old enough.
pub const POSTGRES_RETIRE_ROWS_MAX: i64 = 5_000;

/// Connections of the gateway to the database that it asks.
pub const GATEWAY_CONNECTIONS_MAX: usize = 4;
/// Requests of the gateway that wait for one of them; more are told to come back.
pub const GATEWAY_WAITING_MAX: usize = 32;
/// Milliseconds that the database may take for a request of the gateway.
pub const GATEWAY_TIMEOUT_MS: u64 = 30_000;
/// Milliseconds beyond that after which it is told to stop and its connection is closed: then it does not keep time itself.
pub const GATEWAY_GRACE_MS: u64 = 2_000;
/// Tables of one request of the gateway.
pub const GATEWAY_TABLES_MAX: usize = 100;
/// Characters of a table's name in a request of the gateway, its schema included.
pub const GATEWAY_NAME_CHARS_MAX: usize = 256;
/// Names of tables among which the nearest is looked for.
pub const GATEWAY_NAMES_MAX: i64 = 10_000;
/// Rows of a sample when the caller names no limit, and the most that it may name.
pub const GATEWAY_SAMPLE_ROWS: (u64, u64) = (10, 1_000);
/// Bytes of a row of a sample; a larger one is left out.
pub const GATEWAY_SAMPLE_ROW_BYTES_MAX: usize = 1 << 20;
/// Pages of a table beyond which a sample is drawn from some of them and not from all rows.
pub const GATEWAY_SMALL_TABLE_PAGES: i64 = 8_192;
/// Pages that such a sample is drawn from, about.
pub const GATEWAY_SAMPLE_PAGES: i64 = 256;
/// Rows of a view, the first ones, that its sample is drawn from.
pub const GATEWAY_VIEW_ROWS: u64 = 10_000;
/// Rows of the answer to a statement of the gateway's callers.
pub const GATEWAY_ROWS_MAX: u64 = 10_000;
/// Bytes of the stack on which a statement of the gateway's callers is read.
pub const GATEWAY_PARSE_STACK_BYTES: usize = 16 << 20;
/// Bytes of rows in an answer of the gateway.
pub const GATEWAY_ANSWER_BYTES_MAX: usize = 8 << 20;

/// Bytes of an item in DynamoDB beyond which a run's log goes on in another; DynamoDB itself takes 400 KiB.
pub const DYNAMO_ITEM_BYTES_MAX: usize = 350_000;
/// The most that may be set for it: what DynamoDB takes, less what stands in an item beside its entries.
pub const DYNAMO_ITEM_BYTES_LIMIT: usize = 396 << 10;
/// Bytes of an entry in DynamoDB beyond which it is stored compressed.
pub const DYNAMO_ENTRY_BYTES_MAX: usize = 64 << 10;
/// Bytes of an entry's title that are readable beside its compressed text.
pub const DYNAMO_TITLE_BYTES_MAX: usize = 256;
/// Bytes that a compressed entry may become: what is longer was not written here.
pub const DYNAMO_UNPACKED_BYTES_MAX: u64 = 16 << 20;
/// Nesting depth of an item in DynamoDB, the list of entries being 1.
pub const DYNAMO_DEPTH_MAX: usize = 32;
/// Digits of a number in DynamoDB.
pub const DYNAMO_NUMBER_DIGITS_MAX: usize = 38;
/// The exponent of ten of a number in DynamoDB, in either direction.
pub const DYNAMO_NUMBER_EXPONENT_MAX: i64 = 125;
/// Ids of appended entries that an item keeps at least, where there were as many; it never keeps more than twice as many.
pub const DYNAMO_IDS_KEPT: usize = 16;
/// Runs of which it is remembered in which item their logs go on.
pub const DYNAMO_PARTS_REMEMBERED_MAX: usize = 10_000;
/// How often one update of an item is worded anew because the item had changed.
pub const DYNAMO_REWORDINGS_MAX: u32 = 16;
/// Runs whose logs in DynamoDB are appended to at once.
pub const DYNAMO_APPENDS_MAX: usize = 16;
/// Dead letters of one source that DynamoDB keeps: with more of them nothing goes on until some are gone.
pub const DYNAMO_LETTERS_MAX: usize = 10_000;
/// Attempts of one request to DynamoDB.
pub const DYNAMO_ATTEMPTS_MAX: u32 = 3;
/// Milliseconds of the longest first pause between them, and of the longest of all; each is a random part of that.
pub const DYNAMO_BACKOFF_MS: (u64, u64) = (200, 2_000);
/// Milliseconds to connect to DynamoDB.
pub const DYNAMO_CONNECT_TIMEOUT_MS: u64 = 1_000;
/// Milliseconds that one attempt may take.
pub const DYNAMO_ATTEMPT_TIMEOUT_MS: u64 = 3_000;
/// Milliseconds that one request may take, its attempts and pauses together.
pub const DYNAMO_REQUEST_TIMEOUT_MS: u64 = 10_000;
/// Milliseconds that an append may take, all its requests together.
pub const DYNAMO_APPEND_TIMEOUT_MS: u64 = 20_000;
/// Milliseconds for a new table to become usable, and between two looks at it.
pub const DYNAMO_TABLE_TIMEOUT_MS: (u64, u64) = (120_000, 500);

/// Bytes of one call of CloudWatch Logs that brings events: their messages, and `CLOUDWATCH_EVENT_OVERHEAD_BYTES` for each.
pub const CLOUDWATCH_BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes that CloudWatch Logs counts for an event beside its message.
pub const CLOUDWATCH_EVENT_OVERHEAD_BYTES: usize = 26;
/// Events of one call.
pub const CLOUDWATCH_BATCH_EVENTS_MAX: usize = 10_000;
/// Milliseconds between the first and the last event of one call: less than that.
pub const CLOUDWATCH_BATCH_SPAN_MS: i64 = 86_400_000;
/// Days for which a log group can keep events.
pub const CLOUDWATCH_RETENTION_DAYS: [u32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
/// Bytes of an event's message beyond which the long texts of its record are cut: what one call has room for.
pub const CLOUDWATCH_EVENT_BYTES_MAX: usize = CLOUDWATCH_BATCH_BYTES_MAX - CLOUDWATCH_EVENT_OVERHEAD_BYTES;
/// The least that may be set for it: what is short in a record has room in it, and stays whole.
pub const CLOUDWATCH_EVENT_BYTES_MIN: usize = 16 << 10;
/// Bytes of a field of a record, as JSON, that is never cut.
pub const CLOUDWATCH_SHORT_BYTES_MAX: usize = 256;
/// Bytes of the name of a log stream.
pub const CLOUDWATCH_STREAM_BYTES_MAX: usize = 512;
/// Log streams that are appended to at once.
pub const CLOUDWATCH_STREAMS_MAX: usize = 8;
/// Events of cursors that are read at once: the highest counts.
pub const CLOUDWATCH_CURSORS_READ: i32 = 16;
/// Attempts of one request to CloudWatch Logs.
pub const CLOUDWATCH_ATTEMPTS_MAX: u32 = 3;
/// Milliseconds of the first pause between them, about, and of the longest.
pub const CLOUDWATCH_BACKOFF_MS: (u64, u64) = (200, 2_000);
/// Milliseconds to connect to CloudWatch Logs.
pub const CLOUDWATCH_CONNECT_TIMEOUT_MS: u64 = 1_000;
/// Milliseconds that one attempt may take.
pub const CLOUDWATCH_ATTEMPT_TIMEOUT_MS: u64 = 5_000;
/// Milliseconds that one request may take, its attempts and pauses together.
pub const CLOUDWATCH_REQUEST_TIMEOUT_MS: u64 = 15_000;
/// Milliseconds after which events whose answer was lost are taken for not being there, where they cannot be seen.
pub const CLOUDWATCH_SETTLE_MS: u64 = 5_000;
/// Milliseconds of the first and of the longest pause between two looks for such events.
pub const CLOUDWATCH_LOOK_MS: (u64, u64) = (100, 1_000);

/// Milliseconds that settings from a secret are used before they are read again.
pub const LAMBDA_SECRET_MS: u64 = 300_000;
/// Milliseconds that reading a secret may take.
pub const LAMBDA_SECRET_TIMEOUT_MS: u64 = 5_000;
/// Milliseconds before a function's deadline at which it answers, done or not.
pub const LAMBDA_ANSWER_MS: u64 = 500;
