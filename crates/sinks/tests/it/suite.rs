//! The contract's checks as tests of one target.

/// A test for each check; `$target` makes a fresh target.
macro_rules! contract {
    ($target:expr) => {
        $crate::suite::contract!(
            $target, order, resume, duplicate_delivery, poison_record, target_down, slow_target, restart,
            cursor_never_ahead
        );
    };
    ($target:expr, $($check:ident),*) => {
        mod contract {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    runstone_sinks::contract::$check(&$target).await;
                }
            )*
        }
    };
}

pub(crate) use contract;
