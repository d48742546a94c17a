//! A new table. Owns what its version 0 says; refuses to replace one that is there.

use std::collections::BTreeMap;

use runstone_record::limits;

use super::actions::{Action, CommitInfo, Format, MetaData, Protocol};
use super::commit::{self, Outcome};
use super::place::Place;
use super::table::{LakeOptions, new_id};
use super::{LakeError, support};

/// Writes version 0. Where another creator is faster, its table is as good.
pub(super) async fn create(place: &Place, options: &LakeOptions) -> Result<(), LakeError> {
    let now_ms = (options.clock_ms)();
    let txn_id = new_id(now_ms, (options.entropy)()).to_string();
    let info = CommitInfo {
        timestamp: now_ms,
        operation: "CREATE TABLE".to_owned(),
        is_blind_append: true,
        engine_info: options.engine_info.clone(),
        txn_id: Some(txn_id.clone()),
        ..Default::default()
    };
    let protocol =
        Protocol { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None };
    let metadata = MetaData {
        id: new_id(now_ms, (options.entropy)()).to_string(),
        name: Some("logs".to_owned()),
        description: None,
        format: Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
        schema_string: support::schema_string(),
        partition_columns: vec![support::PARTITION.to_owned()],
        configuration: BTreeMap::from([(
            // Others write checkpoints, too, when they commit: no more often than this server.
            "delta.checkpointInterval".to_owned(),
            options.log.checkpoint_commits.max(1).to_string(),
        )]),
        created_time: Some(now_ms),
    };
    let lines: [Action; 3] = [info.into(), protocol.into(), metadata.into()];
    for tries in 0..limits::LAKE_COMMIT_REFUSALS_MAX {
        match commit::attempt(place.store.as_ref(), 0, &lines, &txn_id).await? {
            Outcome::Done => {
                tracing::info!(location = %place.url, "created the lake");
                return Ok(());
            }
            Outcome::Taken(_) => return Ok(()),
            Outcome::Free(refusal) if tries + 1 == limits::LAKE_COMMIT_REFUSALS_MAX || commit::is_final(&refusal) => {
                return Err(LakeError::Storage { action: "create the lake".to_owned(), source: refusal.into() });
            }
            Outcome::Free(_) => {
                tokio::time::sleep(commit::pause(options.network.commit_pause, tries, (options.entropy)())).await;
            }
        }
    }
    Ok(())
}
