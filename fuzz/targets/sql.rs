//! A statement: planned and run over empty tables within a second, or refused; never our own failure.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use runstone_store::{NoRuns, NothingOlder, QueryError, Recent, RecentOptions, Sql, SqlLimits};
use tokio::runtime::{Builder, Runtime};

static ENGINE: LazyLock<(Runtime, Sql)> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let limits = SqlLimits { timeout: Duration::from_secs(1), memory_bytes: 64 << 20, ..SqlLimits::default() };
    let recent = Arc::new(Recent::new(RecentOptions::default()));
    let sql = Sql::new(recent, Arc::new(NothingOlder), Arc::new(NoRuns), limits).expect("an engine");
    (runtime, sql)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (runtime, sql) = &*ENGINE;
    if let Err(QueryError::Internal(error)) = runtime.block_on(sql.query(text)) {
        panic!("our own failure: {error}");
    }
});
