//! A data directory beside its server, at moments that a command has to be lucky to meet.

use std::sync::Arc;
use std::time::Duration;

use runstone_journal::fs::sim::SimFs;
use runstone_store::lake::{Effort, Lake, Upkeep, UpkeepOptions};

use super::*;
use crate::clock::ManualClock;
use crate::workbench::{self, NOW, NOW_MS, append, lake_options, record};

/// What merges the files of a lake, and deletes them at once.
fn upkeep() -> Upkeep {
    Upkeep::new(UpkeepOptions {
        file_bytes: 1 << 20,
        group_bytes: 1 << 20,
        retention_days: 0,
        vacuum_grace: Duration::ZERO,
        uptime: Arc::new(|| Duration::ZERO),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_server_replaces_while_they_are_verified_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.data = dir.path().to_owned();
    let fs = SimFs::new(1);
    let journal = workbench::journal(&fs, &config.data.join("journal"));
    let lake = Lake::open(lake_options(&config.data.join("lake"))).await.unwrap();
    for position in 1..=4 {
        let batch = record(position, "run");
        append(&journal, &batch).unwrap();
        workbench::flush(&lake, &journal.id().to_string(), position, [batch]).await;
    }
    let world = World { clock: Arc::new(ManualClock::new(NOW)), entropy: Arc::new(|| 7), fs: Arc::new(fs) };
    let offline = Offline::open(&config, &world).await.unwrap();
    let report = upkeep().run(&lake, NOW_MS, Effort::All).await;
    assert_eq!((report.merged_files, report.deleted_files), (4, 4), "{report:?}");
    let verdict = offline.verify_lake().await.unwrap().unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
    assert_eq!((verdict.files, verdict.rows, verdict.compared.same), (1, 4, 4));
    // One that is lost is named all the same.
    let file = lake.snapshot().files[0].path.clone();
    std::fs::remove_file(config.data.join("lake").join(&file)).unwrap();
    let verdict = offline.verify_lake().await.unwrap().unwrap();
    assert!(verdict.damaged.len() == 1 && verdict.damaged[0].contains(&file), "{verdict:?}");
}
