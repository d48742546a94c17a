//! The Logger function's `main`: the clock, the environment, the log and Lambda's loop, put together.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lambda_runtime::{LambdaEvent, service_fn};
use runstone_lambda::logger::{Invocation, Logger, Secrets};
use serde_json::value::RawValue;
use tokio::sync::Mutex;

fn main() -> ExitCode {
    // One event at a time: one thread is enough, and starts sooner.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    match runtime.block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn run() -> Result<(), lambda_runtime::Error> {
    let mut logger =
        Logger::new(Secrets::new().await, Box::new(variable), Box::new(micros), Box::new(std::io::stdout()));
    logger.prepare().await;
    let logger = Arc::new(Mutex::new(logger));
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let logger = Arc::clone(&logger);
        async move {
            let LambdaEvent { payload, context } = event;
            let invocation = Invocation {
                request_id: context.request_id,
                deadline_ms: context.deadline,
                trace: context.xray_trace_id,
            };
            let answer = logger.lock().await.handle(payload.get().as_bytes(), &invocation).await;
            RawValue::from_string(answer).map_err(lambda_runtime::Error::from)
        }
    }))
    .await
}

#[expect(clippy::disallowed_methods, reason = "a function's settings are its environment, and this is its main")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::disallowed_methods, reason = "the one place where the function reads the clock")]
fn micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
