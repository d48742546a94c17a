//! Storage that loses requests and answers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart,
};
use runstone_record::limits::LAKE_PART_BYTES;

use super::world::{JOURNAL, TODAY, flush, options, paths, write};
use crate::lake::log::commit_path;
use crate::lake::place::Place;
use crate::lake::{Change, Lake, LakeError};

type Result<T, E = object_store::Error> = std::result::Result<T, E>;

/// What happens to one write of a commit.
#[derive(Debug, Clone)]
enum Fault {
    None,
    /// It lands; the answer is lost.
    AnswerLost,
    /// It lands, and a retry inside of the client finds it there.
    TakenByItself,
    /// It does not land, and nobody knows.
    Lost,
    /// It does not land because a rival was at it, whose own write failed.
    Contended,
    /// It lands when the next one comes.
    Late,
    /// A rival is faster.
    Rival(Bytes),
    /// It lands, the answer is lost, and so is the look at what became of it.
    Blind,
    /// It does not land, and nothing can be read.
    BlindLost,
    Forbidden,
}

#[derive(Debug)]
struct Faulty {
    store: InMemory,
    faults: Mutex<VecDeque<Fault>>,
    late: Mutex<Option<(Path, PutPayload, PutOptions)>>,
    blind: Mutex<bool>,
    /// The end of names of files that cannot be read now.
    unreadable: Mutex<Option<&'static str>>,
    /// The part of the next upload that fails; after the last one it is the upload's end.
    part: Mutex<Option<u64>>,
    /// Uploads that were begun and have neither ended nor been given up.
    uploads: Arc<AtomicI64>,
}

/// An upload in parts.
#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    parts: u64,
    fail: Option<u64>,
    uploads: Arc<AtomicI64>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fails = self.fail == Some(self.parts);
        self.parts += 1;
        let part = self.upload.put_part(data);
        if fails { Box::pin(async { Err(timeout()) }) } else { part }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if self.fail == Some(self.parts) {
            return Err(timeout());
        }
        let done = self.upload.complete().await?;
        self.uploads.fetch_sub(1, Ordering::Relaxed);
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.uploads.fetch_sub(1, Ordering::Relaxed);
        self.upload.abort().await
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

fn timeout() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "timed out".into() }
}

fn taken(path: &Path) -> object_store::Error {
    object_store::Error::AlreadyExists { path: path.to_string(), source: "412".into() }
}

impl Faulty {
    fn check_readable(&self, path: &Path) -> Result<()> {
        let unreadable = *self.unreadable.lock().unwrap();
        if unreadable.is_some_and(|end| path.as_ref().ends_with(end)) { Err(timeout()) } else { Ok(()) }
    }

    fn is_commit(path: &Path) -> bool {
        path.as_ref().starts_with("_delta_log/0") && path.as_ref().ends_with(".json")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if !Self::is_commit(path) {
            return self.store.put_opts(path, payload, options).await;
        }
        let late = self.late.lock().unwrap().take();
        if let Some((path, payload, options)) = late {
            self.store.put_opts(&path, payload, options).await.unwrap();
        }
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => self.store.put_opts(path, payload, options).await,
            Fault::AnswerLost => self.store.put_opts(path, payload, options).await.and_then(|_| Err(timeout())),
            Fault::TakenByItself => self.store.put_opts(path, payload, options).await.and_then(|_| Err(taken(path))),
            Fault::Lost => Err(timeout()),
            Fault::Contended => Err(taken(path)),
            Fault::Late => {
                *self.late.lock().unwrap() = Some((path.clone(), payload, options));
                Err(timeout())
            }
            Fault::Rival(bytes) => {
                self.store.put(path, bytes.into()).await.unwrap();
                self.store.put_opts(path, payload, options).await
            }
            Fault::Blind => {
                *self.blind.lock().unwrap() = true;
                self.store.put_opts(path, payload, options).await.and_then(|_| Err(timeout()))
            }
            Fault::BlindLost => {
                *self.blind.lock().unwrap() = true;
                Err(timeout())
            }
            Fault::Forbidden => {
                Err(object_store::Error::PermissionDenied { path: path.to_string(), source: "403".into() })
            }
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.store.put_multipart_opts(path, options).await?;
        self.uploads.fetch_add(1, Ordering::Relaxed);
        let (fail, uploads) = (self.part.lock().unwrap().take(), Arc::clone(&self.uploads));
        Ok(Box::new(FaultyUpload { upload, parts: 0, fail, uploads }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if Self::is_commit(path) && std::mem::take(&mut *self.blind.lock().unwrap()) {
            return Err(timeout());
        }
        self.check_readable(path)?;
        self.store.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.check_readable(path)?;
        self.store.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

/// A lake with one flush, `(0, 9)`, whose next writes of commits meet these faults.
async fn world(faults: impl IntoIterator<Item = Fault>) -> (Lake, Arc<Faulty>) {
    let store = Arc::new(Faulty {
        store: InMemory::new(),
        faults: Mutex::default(),
        late: Mutex::default(),
        blind: Mutex::default(),
        unreadable: Mutex::default(),
        part: Mutex::default(),
        uploads: Arc::default(),
    });
    let lake = open(&store).await;
    flush(&lake, JOURNAL, None, 9).await;
    store.faults.lock().unwrap().extend(faults);
    (lake, store)
}

async fn open(store: &Arc<Faulty>) -> Lake {
    try_open(store).await.unwrap()
}

async fn try_open(store: &Arc<Faulty>) -> Result<Lake, LakeError> {
    let place =
        Place { store: Arc::clone(store) as Arc<dyn ObjectStore>, url: "memory:///".parse().unwrap(), local: None };
    Lake::open_at(place, options(std::path::Path::new("memory"))).await
}

#[tokio::test]
async fn an_upload_that_fails_is_given_up() {
    let (lake, store) = world([]).await;
    let mut bytes = Vec::new();
    (0..4).for_each(|part| bytes.resize(bytes.len() + LAKE_PART_BYTES, part));
    bytes.push(4);
    let bytes = Bytes::from(bytes);
    let put = async || {
        let stats = crate::lake::FileStats::default();
        lake.put(crate::lake::Encoded { bytes: bytes.clone(), stats }, TODAY).await
    };
    // Any of five parts, or the end.
    for part in 0..=5 {
        *store.part.lock().unwrap() = Some(part);
        let refused = put().await.unwrap_err();
        assert!(refused.is_transient(), "{refused:?}");
        assert!(store.part.lock().unwrap().is_none() && store.uploads.load(Ordering::Relaxed) == 0, "part {part}");
    }
    let path = Path::from(put().await.unwrap().path);
    assert_eq!(store.uploads.load(Ordering::Relaxed), 0);
    assert!(store.get(&path).await.unwrap().bytes().await.unwrap() == bytes);
}

#[tokio::test]
async fn storage_that_is_away_is_not_taken_for_damage() {
    let (lake, store) = world([]).await;
    lake.checkpoint(&lake.snapshot()).await.unwrap();
    flush(&lake, JOURNAL, Some(9), 19).await;
    for end in ["_last_checkpoint", "1.checkpoint.parquet", "2.json"] {
        *store.unreadable.lock().unwrap() = Some(end);
        let refused = try_open(&store).await.unwrap_err();
        assert!(refused.is_transient(), "{end}: {refused:?}");
        *store.unreadable.lock().unwrap() = None;
        settled(&lake, &store, 2, 19).await;
    }
    *store.unreadable.lock().unwrap() = Some("2.checkpoint.parquet");
    // A checkpoint that cannot be read back is not pointed to.
    lake.checkpoint(&lake.snapshot()).await.unwrap_err();
    let hint = store.get(&crate::lake::log::hint_path()).await.unwrap().bytes().await.unwrap();
    assert!(String::from_utf8_lossy(&hint).contains("\"version\":1"));
    *store.unreadable.lock().unwrap() = None;
    settled(&lake, &store, 2, 19).await;
}

/// The lake reads the same from its log as it believes.
async fn settled(lake: &Lake, store: &Arc<Faulty>, version: u64, through: u64) {
    let snapshot = lake.refresh().await.unwrap();
    assert_eq!(snapshot.version, version);
    assert_eq!(lake.cursor(&snapshot, JOURNAL).await.unwrap(), Some(through));
    let again = open(store).await;
    assert_eq!(again.snapshot().version, version);
    assert_eq!(paths(&again.snapshot()), paths(&snapshot));
    assert_eq!(again.cursor(&again.snapshot(), JOURNAL).await.unwrap(), Some(through));
    assert!(store.faults.lock().unwrap().is_empty(), "every fault was met");
}

#[tokio::test]
async fn a_commit_lands_once_whatever_the_storage_says() {
    for faults in [
        vec![Fault::AnswerLost],
        vec![Fault::TakenByItself],
        vec![Fault::Lost],
        vec![Fault::Contended],
        vec![Fault::Late, Fault::None],
        vec![Fault::Lost, Fault::Contended, Fault::Lost, Fault::Contended, Fault::AnswerLost],
        vec![Fault::Lost, Fault::Late, Fault::None],
    ] {
        let (lake, store) = world(faults.clone()).await;
        let snapshot = flush(&lake, JOURNAL, Some(9), 19).await;
        assert_eq!((snapshot.version, snapshot.rows()), (2, 20), "{faults:?}");
        settled(&lake, &store, 2, 19).await;
    }
}

#[tokio::test]
async fn an_outcome_that_nobody_knows_is_found_out_next_time() {
    let (lake, store) = world([Fault::Blind]).await;
    let lost = lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap_err();
    assert!(matches!(lost, LakeError::Storage { .. }), "{lost}");
    // It is there: the same again would be twice.
    let again = lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap_err();
    assert!(matches!(&again, LakeError::Conflict(text) if text.contains("through 19")), "{again}");
    settled(&lake, &store, 2, 19).await;

    let (lake, store) = world([Fault::BlindLost]).await;
    lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap_err();
    lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap();
    settled(&lake, &store, 2, 19).await;

    // It comes after the next look, and before the next write.
    let (lake, store) = world(vec![Fault::Lost; 9].into_iter().chain([Fault::Late])).await;
    lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap_err();
    let again = lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap_err();
    assert!(matches!(&again, LakeError::Conflict(text) if text.contains("through 19")), "{again}");
    settled(&lake, &store, 2, 19).await;
}

#[tokio::test]
async fn what_stays_refused_is_reported() {
    let (lake, store) = world(vec![Fault::Lost; 10]).await;
    let refused = lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    settled(&lake, &store, 1, 9).await;
    let (lake, store) = world([Fault::Forbidden]).await;
    lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap_err();
    settled(&lake, &store, 1, 9).await;
}

fn commit(lines: &[&str]) -> Bytes {
    Bytes::from(lines.join("\n"))
}

const FOREIGN_INFO: &str =
    r#"{"commitInfo":{"timestamp":1,"operation":"WRITE","operationParameters":{"a":1},"engineInfo":null,"x":[]}}"#;

#[tokio::test]
async fn commits_of_others_are_no_obstacle() {
    let foreign_add = r#"{"add":{"path":"date=2026-11-20/part%20%25.parquet","partitionValues":{"date":"2026-11-20"},"size":7,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":5}","tags":null}}"#;
    let nullable = r#"{"metaData":METADATA}"#;
    for rival in [commit(&[FOREIGN_INFO, foreign_add]), commit(&[foreign_add]), commit(&[FOREIGN_INFO, nullable])] {
        let (lake, store) = world([]).await;
        let mut metadata = serde_json::to_value(&lake.snapshot().table.metadata).unwrap();
        let mut schema: serde_json::Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
        schema["fields"]
            .as_array_mut()
            .unwrap()
            .push(serde_json::json!({"name": "theirs", "type": "decimal(10,2)", "nullable": true, "metadata": {}}));
        metadata["schemaString"] = schema.to_string().into();
        let rival = String::from_utf8(rival.to_vec()).unwrap().replace("METADATA", &metadata.to_string());
        let adds = rival.contains("\"add\"");
        store.faults.lock().unwrap().extend([Fault::Rival(rival.into()), Fault::AnswerLost]);
        let snapshot = flush(&lake, JOURNAL, Some(9), 19).await;
        assert_eq!(snapshot.version, 3);
        assert_eq!(snapshot.rows(), if adds { 25 } else { 20 });
        settled(&lake, &store, 3, 19).await;
        if adds {
            // Its entry is written in another way than ours would be; it leaves under its own name.
            let theirs = snapshot.files.iter().find(|file| file.path.contains("part %")).unwrap();
            let change = Change {
                journal: None,
                add: Vec::new(),
                remove: vec![Arc::clone(theirs)],
                data_change: true,
                operation: "DELETE",
                metrics: Vec::new(),
            };
            lake.commit(change).await.unwrap();
            let entry = store.get(&commit_path(4)).await.unwrap().bytes().await.unwrap();
            assert!(String::from_utf8_lossy(&entry).contains("part%20%25.parquet"));
            assert_eq!(open(&store).await.snapshot().rows(), 20);
        }
    }
}

#[tokio::test]
async fn commits_of_others_that_matter_are_conflicts() {
    let txn = format!(r#"{{"txn":{{"appId":"{JOURNAL}","version":14}}}}"#);
    let (lake, store) = world([Fault::Rival(commit(&[FOREIGN_INFO, &txn]))]).await;
    let refused = lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Conflict(text) if text.contains("through 14, not 9")), "{refused}");
    settled(&lake, &store, 2, 14).await;

    let (lake, store) = world([]).await;
    let file = Arc::clone(&lake.snapshot().files[0]);
    let gone = format!(r#"{{"remove":{{"path":"{}","dataChange":true}}}}"#, file.path);
    store.faults.lock().unwrap().push_back(Fault::Rival(commit(&[&gone])));
    let change = Change {
        journal: None,
        add: Vec::new(),
        remove: vec![file],
        data_change: false,
        operation: "OPTIMIZE",
        metrics: Vec::new(),
    };
    let refused = lake.commit(change).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Conflict(text) if text.contains("another writer removed")), "{refused}");
    settled(&lake, &store, 2, 9).await;

    let protocol = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#;
    let (lake, _) = world([Fault::Rival(commit(&[FOREIGN_INFO, protocol]))]).await;
    let refused = lake.commit(write(JOURNAL, Some(9), 19, Vec::new())).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Unsupported(text) if text.contains("deletionVectors")), "{refused}");
    assert!(!refused.is_transient());
}
