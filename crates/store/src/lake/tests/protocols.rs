//! Tables that need more than this server can do.

use std::path::Path;

use serde_json::{Value, json};

use super::world::{JOURNAL, flush, options};
use crate::lake::{Lake, LakeError};

/// A table with one flush whose next commit changes what it is.
async fn changed(change: &[Value]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(dir.path())).await.unwrap();
    flush(&lake, JOURNAL, None, 9).await;
    let lines: Vec<String> = change.iter().map(Value::to_string).collect();
    std::fs::write(dir.path().join(format!("_delta_log/{:020}.json", 2)), lines.join("\n")).unwrap();
    dir
}

fn protocol(reader: i32, writer: i32, reader_features: &[&str], writer_features: &[&str]) -> Value {
    let mut protocol = json!({ "minReaderVersion": reader, "minWriterVersion": writer });
    if reader == 3 {
        protocol["readerFeatures"] = reader_features.into();
    }
    if writer == 7 {
        protocol["writerFeatures"] = writer_features.into();
    }
    json!({ "protocol": protocol })
}

/// The table's metadata, changed.
fn metadata(change: impl FnOnce(&mut Value, &mut Vec<Value>)) -> Value {
    let schema = crate::lake::support::schema_string();
    let mut schema: Value = serde_json::from_str(&schema).unwrap();
    let mut metadata = json!({
        "id": "x",
        "format": { "provider": "parquet", "options": {} },
        "partitionColumns": ["date"],
        "configuration": {},
    });
    change(&mut metadata, schema["fields"].as_array_mut().unwrap());
    metadata["schemaString"] = schema.to_string().into();
    json!({ "metaData": metadata })
}

fn set(name: &'static str, value: &'static str) -> Value {
    metadata(|metadata, _| metadata["configuration"][name] = value.into())
}

fn field(fields: &mut [Value], name: &str) -> usize {
    fields.iter().position(|field| field["name"] == name).unwrap()
}

async fn refused(open: Result<Lake, LakeError>, what: &str) {
    match open {
        Err(LakeError::Unsupported(text)) => assert!(text.contains(what), "{text}, not {what}"),
        Err(error) => panic!("{error:?}, not {what}"),
        Ok(_) => panic!("not refused: {what}"),
    }
}

async fn open_both(dir: &Path) -> [Result<Lake, LakeError>; 2] {
    [Lake::open_read_only(options(dir)).await, Lake::open(options(dir)).await]
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    for (change, what) in [
        (vec![protocol(3, 7, &["deletionVectors"], &["deletionVectors"])], "deletionVectors"),
        (vec![protocol(3, 7, &["columnMapping"], &["columnMapping"])], "columnMapping"),
        (vec![protocol(2, 5, &[], &[])], "reader version 2"),
        (vec![protocol(3, 7, &["ofTheFuture"], &["ofTheFuture"])], "ofTheFuture"),
        (vec![metadata(|_, fields| fields.retain(|field| field["name"] != "run_id"))], "run_id is missing"),
        (
            vec![metadata(|_, fields| {
                let at = field(fields, "position");
                fields[at]["type"] = "string".into();
            })],
            "position is \"string\", not \"long\"",
        ),
    ] {
        let dir = changed(&change).await;
        for open in open_both(dir.path()).await {
            refused(open, what).await;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_written_can_be_read() {
    let not_null = |name: &'static str| {
        metadata(move |_, fields| match fields.iter().position(|field| field["name"] == name) {
            Some(at) => fields[at]["nullable"] = false.into(),
            None => fields.push(json!({"name": name, "type": "long", "nullable": false, "metadata": {}})),
        })
    };
    let invariant = metadata(|_, fields| {
        let at = field(fields, "position");
        fields[at]["metadata"]["delta.invariants"] = "{\"expression\":{\"expression\":\"position > 3\"}}".into();
    });
    for (change, what) in [
        (protocol(1, 7, &[], &["rowTracking", "domainMetadata"]), "rowTracking"),
        (protocol(1, 7, &[], &["identityColumns"]), "identityColumns"),
        (protocol(1, 4, &[], &[]), "writer version 4"),
        (set("delta.enableChangeDataFeed", "true"), "delta.enableChangeDataFeed"),
        (set("delta.constraints.c", "position > 3"), "delta.constraints.c"),
        (metadata(|metadata, _| metadata["partitionColumns"] = json!(["date", "stage"])), "partitioned by"),
        (not_null("message"), "message is NOT NULL"),
        (not_null("theirs"), "theirs"),
        (invariant, "delta.invariants"),
    ] {
        let dir = changed(&[change]).await;
        let [reader, writer] = open_both(dir.path()).await;
        assert_eq!(reader.unwrap().snapshot().rows(), 10, "{what}");
        refused(writer, what).await;
    }
}

#[tokio::test]
async fn what_asks_for_nothing_is_no_obstacle() {
    let wider = metadata(|_, fields| {
        fields.insert(3, json!({"name": "theirs", "type": "date", "nullable": true, "metadata": {"comment": "x"}}));
        let at = field(fields, "id");
        fields[at]["nullable"] = true.into();
    });
    for change in [
        protocol(1, 1, &[], &[]),
        protocol(1, 7, &[], &["appendOnly", "invariants"]),
        protocol(3, 7, &["timestampNtz"], &["timestampNtz", "appendOnly"]),
        protocol(3, 7, &["vacuumProtocolCheck"], &["vacuumProtocolCheck"]),
        wider,
        set("delta.columnMapping.mode", "none"),
        set("delta.logRetentionDuration", "interval 7 days"),
        set("their.own", "setting"),
    ] {
        let dir = changed(std::slice::from_ref(&change)).await;
        let lake = Lake::open(options(dir.path())).await.unwrap_or_else(|error| panic!("{change}: {error:?}"));
        assert_eq!(flush(&lake, JOURNAL, Some(9), 12).await.rows(), 13);
        // And one that was open already.
        assert_eq!(Lake::open_read_only(options(dir.path())).await.unwrap().snapshot().rows(), 13);
    }
}

#[tokio::test]
async fn a_table_of_v2_checkpoints_gets_them() {
    let dir = changed(&[protocol(3, 7, &["v2Checkpoint"], &["v2Checkpoint"])]).await;
    let lake = Lake::open(options(dir.path())).await.unwrap();
    lake.checkpoint(&lake.snapshot()).await.unwrap();
    for version in 0..=2 {
        std::fs::remove_file(dir.path().join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    let lake = Lake::open(options(dir.path())).await.unwrap();
    assert_eq!((lake.snapshot().version, lake.snapshot().rows()), (2, 10));
    assert_eq!(lake.cursor(&lake.snapshot(), JOURNAL).await.unwrap(), Some(9));
}

#[tokio::test]
async fn an_append_only_table_loses_no_record() {
    let dir = changed(&[set("delta.appendOnly", "true")]).await;
    let lake = Lake::open(options(dir.path())).await.unwrap();
    let snapshot = flush(&lake, JOURNAL, Some(9), 12).await;
    let remove = |data_change| crate::lake::Change {
        journal: None,
        add: Vec::new(),
        remove: vec![std::sync::Arc::clone(&snapshot.files[0])],
        data_change,
        operation: "DELETE",
        metrics: Vec::new(),
    };
    let refused = lake.commit(remove(true)).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Unsupported(text) if text.contains("delta.appendOnly")), "{refused}");
    lake.commit(remove(false)).await.unwrap();
}

#[tokio::test]
async fn a_file_that_lies_elsewhere_is_refused() {
    for path in ["s3://bucket/x.parquet", "/abs/x.parquet", "file:///x.parquet"] {
        let add = json!({"add": {
            "path": path, "partitionValues": {"date": "2026-11-20"}, "size": 1, "modificationTime": 1, "dataChange": true,
        }});
        let dir = changed(&[add]).await;
        for open in open_both(dir.path()).await {
            refused(open, "outside of the table").await;
        }
    }
}
