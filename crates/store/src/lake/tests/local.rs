//! The store on a local directory: what it promises is durable, in the order in which it must become so.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, WriteMultipart};

use super::world::{JOURNAL, NOW_MS, TODAY, encoded, flush, options, write};
use crate::lake::disk::{Disk, RealDisk};
use crate::lake::local::LocalStore;
use crate::lake::place::Place;
use crate::lake::{Effort, Lake, Upkeep, UpkeepOptions};

/// The file system, told on; the call at which it fails is a setting.
#[derive(Debug, Default)]
struct Watched {
    calls: Mutex<Vec<String>>,
    fail: Mutex<Option<&'static str>>,
    /// A directory that another server removes right before it is synced.
    removed: Mutex<Option<PathBuf>>,
    unsynced: Arc<AtomicBool>,
}

impl Watched {
    fn call(&self, name: &str, path: &Path) -> io::Result<()> {
        let shown = path.file_name().unwrap().to_str().unwrap();
        let shown =
            shown.split('#').next().map(|name| if shown.contains('#') { format!("{name}#") } else { name.into() });
        self.calls.lock().unwrap().push(format!("{name} {}", shown.unwrap()));
        match *self.fail.lock().unwrap() {
            Some(fail) if fail == name => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Disk for Watched {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.call("create", path)?;
        RealDisk.create(path)
    }
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.call("write", Path::new("it"))?;
        RealDisk.write(file, bytes)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.call("sync", Path::new("it"))?;
        RealDisk.sync(file)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link", to)?;
        RealDisk.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", to)?;
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path)?;
        RealDisk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call("create_dir", path)?;
        RealDisk.create_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call("sync_dir", path)?;
        if let Some(removed) = self.removed.lock().unwrap().take_if(|removed| removed == path) {
            std::fs::remove_dir_all(removed)?;
        }
        RealDisk.sync_dir(path)
    }
}

fn world() -> (tempfile::TempDir, LocalStore, Arc<Watched>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    let disk = Arc::new(Watched::default());
    let store = LocalStore::on(&dir.path().join("root"), Arc::clone(&disk) as Arc<dyn Disk>, &disk.unsynced).unwrap();
    (dir, store, disk)
}

fn files(store: &LocalStore) -> Vec<String> {
    let mut names = Vec::new();
    let mut dirs = vec![store.root().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                names.push(path.strip_prefix(store.root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_file_has_its_name_after_its_bytes_are_synced() {
    let (_dir, store, disk) = world();
    let path = Location::from("a/b/x");
    store.put(&path, "one".into()).await.unwrap();
    let first = ["create_dir a", "sync_dir root", "create_dir b", "sync_dir a"];
    let replaced = ["create x#", "write it", "sync it", "rename x", "sync_dir b"];
    assert_eq!(disk.calls(), [&first[..], &replaced].concat());
    store.put(&path, "two".into()).await.unwrap();
    assert_eq!(disk.calls(), replaced);
    let once = Location::from("a/b/y");
    store.put_opts(&once, "three".into(), PutMode::Create.into()).await.unwrap();
    assert_eq!(disk.calls(), ["create y#", "write it", "sync it", "link y", "remove y#", "sync_dir b"]);
    // Who finds it there can count on it, too.
    let refused = store.put_opts(&once, "four".into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(refused, object_store::Error::AlreadyExists { .. }), "{refused}");
    let found = ["create y#", "write it", "sync it", "link y", "remove y#", "sync it", "sync_dir b"];
    assert_eq!(disk.calls(), found);
    assert_eq!(store.get(&once).await.unwrap().bytes().await.unwrap(), "three");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "two");
    assert_eq!(files(&store), ["a/b/x", "a/b/y"]);
}

#[tokio::test]
async fn a_file_in_parts_has_its_name_after_all_are_synced() {
    let (_dir, store, disk) = world();
    let path = Location::from("x");
    let mut write = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await.unwrap(), 3);
    write.write(b"onetwothree");
    assert!(matches!(store.get(&path).await, Err(object_store::Error::NotFound { .. })));
    write.finish().await.unwrap();
    let calls = disk.calls();
    assert_eq!(calls.iter().filter(|call| *call == "write it").count(), 4);
    assert_eq!(calls[calls.len() - 3..], ["sync it", "rename x", "sync_dir root"]);
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "onetwothree");
    // One that is given up leaves nothing.
    let mut upload = store.put_multipart(&Location::from("y")).await.unwrap();
    upload.put_part("half".into()).await.unwrap();
    upload.abort().await.unwrap();
    drop(store.put_multipart(&Location::from("z")).await.unwrap());
    assert_eq!(files(&store), ["x"]);
}

#[tokio::test]
async fn a_failure_leaves_no_file_and_no_answer() {
    for fail in ["create", "write", "sync", "link"] {
        let (_dir, store, disk) = world();
        *disk.fail.lock().unwrap() = Some(fail);
        store.put_opts(&Location::from("x"), "one".into(), PutMode::Create.into()).await.unwrap_err();
        assert_eq!(files(&store), Vec::<String>::new(), "{fail}");
        *disk.fail.lock().unwrap() = None;
        store.put_opts(&Location::from("x"), "two".into(), PutMode::Create.into()).await.unwrap();
        assert_eq!(store.get(&Location::from("x")).await.unwrap().bytes().await.unwrap(), "two");
    }
}

#[tokio::test]
async fn after_a_directory_failed_to_sync_nothing_is_believed() {
    let (_dir, store, disk) = world();
    let path = Location::from("x");
    store.put(&path, "one".into()).await.unwrap();
    let commit = Location::from("_delta_log/1.json");
    store.put(&Location::from("_delta_log/0.json"), "zero".into()).await.unwrap();
    *disk.fail.lock().unwrap() = Some("sync_dir");
    store.put_opts(&commit, "two".into(), PutMode::Create.into()).await.unwrap_err();
    *disk.fail.lock().unwrap() = None;
    // It is there, and may be gone after a power cut: who reads it back must not take it for done.
    assert_eq!(files(&store), ["_delta_log/0.json", "_delta_log/1.json", "x"]);
    let refused = store.get(&commit).await.unwrap_err().to_string();
    assert!(refused.contains("could not be synced"), "{refused}");
    // Queries go on.
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");
    assert!(store.put(&Location::from("z"), "three".into()).await.is_err());
    assert_eq!(files(&store).len(), 3);
    // Opened again by the same process it is the same directory.
    let again = LocalStore::on(store.root(), Arc::clone(&disk) as Arc<dyn Disk>, &disk.unsynced).unwrap();
    assert!(again.get(&commit).await.is_err() && disk.unsynced.load(Ordering::Acquire));
    let anew = LocalStore::on(store.root(), disk as Arc<dyn Disk>, &Arc::default()).unwrap();
    assert_eq!(anew.get(&commit).await.unwrap().bytes().await.unwrap(), "two");
}

#[tokio::test]
async fn deletes_are_synced() {
    let (_dir, store, disk) = world();
    for name in ["a/1", "a/2", "b/3"] {
        store.put(&Location::from(name), name.into()).await.unwrap();
    }
    disk.calls();
    let names = ["a/1", "b/3", "a/missing"].map(|name| Ok(Location::from(name)));
    let deleted: Vec<_> = store.delete_stream(futures::stream::iter(names).boxed()).collect().await;
    assert_eq!(disk.calls(), ["remove 1", "remove 3", "remove missing", "sync_dir a", "sync_dir b"]);
    assert!(deleted[0].is_ok() && deleted[1].is_ok());
    assert!(matches!(deleted[2], Err(object_store::Error::NotFound { .. })), "{deleted:?}");
    assert_eq!(files(&store), ["a/2"]);
    store.rename(&Location::from("a/2"), &Location::from("c/4")).await.unwrap();
    assert_eq!(disk.calls(), ["create_dir c", "sync_dir root", "rename 4", "sync_dir c", "sync_dir a"]);
    assert_eq!(files(&store), ["c/4"]);
}

#[tokio::test]
async fn a_day_whose_directory_was_removed_gets_files_again() {
    let (_dir, store, disk) = world();
    let lake = open(&store).await;
    // Late records of days before, beside one that lasts.
    let put = async |day: i32| store.root().join(lake.put(encoded(JOURNAL, 0, 9), day).await.unwrap().path);
    let (old, new) = (put(TODAY - 5).await, put(TODAY).await);
    let (old_day, new_day) = (old.parent().unwrap(), new.parent().unwrap());
    let options = UpkeepOptions {
        file_bytes: 1 << 20,
        group_bytes: 1 << 20,
        retention_days: 0,
        vacuum_grace: std::time::Duration::from_secs(3_600),
        uptime: Arc::new(|| std::time::Duration::ZERO),
    };
    let upkeep = Upkeep::new(options);
    let clean = async || assert_eq!(upkeep.run(&lake, NOW_MS, Effort::Usual).await.failures, []);
    clean().await;
    assert!(old.exists(), "it is not empty");
    std::fs::remove_file(&old).unwrap();
    std::fs::remove_file(&new).unwrap();
    clean().await;
    assert!(!old_day.exists() && new_day.exists());
    assert!(put(TODAY - 5).await.exists());
    // It may be removed by another process, too, and is as durable when it is there again.
    std::fs::remove_dir_all(old_day).unwrap();
    disk.calls();
    assert!(put(TODAY - 5).await.exists());
    let calls = disk.calls();
    let name = old_day.file_name().unwrap().to_str().unwrap();
    assert!(calls[0].starts_with("create "), "{calls:?}");
    assert_eq!(calls[1..3], [format!("create_dir {name}"), "sync_dir root".to_owned()]);
    assert_eq!(calls.last().unwrap(), &format!("sync_dir {name}"));
    // Without the root there is no table.
    std::fs::remove_dir_all(store.root()).unwrap();
    assert!(lake.put(encoded(JOURNAL, 0, 9), TODAY).await.is_err());
    assert!(!store.root().exists());
}

#[tokio::test]
async fn a_day_that_another_server_removes_meanwhile_is_not_one_that_cannot_be_synced() {
    let (_dir, store, disk) = world();
    let lake = open(&store).await;
    flush(&lake, JOURNAL, None, 9).await;
    let day = store.root().join("date=2026-11-20");
    let is_removed = || assert!(disk.removed.lock().unwrap().is_none() && !day.exists());
    // A vacuum of ours deletes the last file of a day, and one of theirs the directory.
    let files: Vec<_> = lake.snapshot().files.iter().map(|file| Ok(Location::from(file.path.as_str()))).collect();
    *disk.removed.lock().unwrap() = Some(day.clone());
    let deleted: Vec<_> = store.delete_stream(futures::stream::iter(files).boxed()).collect().await;
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    is_removed();
    // What they committed to a day is gone with it before we have seen the commit.
    std::fs::create_dir(&day).unwrap();
    foreign(&store, 2);
    *disk.removed.lock().unwrap() = Some(day.clone());
    assert_eq!(lake.refresh().await.unwrap().version, 2);
    is_removed();
    // All is believed as before, and goes on.
    assert!(!disk.unsynced.load(Ordering::Acquire));
    assert_eq!(flush(&lake, JOURNAL, Some(9), 19).await.version, 3);
}

#[tokio::test]
async fn unfinished_files_are_not_listed() {
    let (_dir, store, _) = world();
    for name in ["2", "1", "10"] {
        store.put(&Location::from(name), name.into()).await.unwrap();
    }
    std::fs::write(store.root().join("3#77"), b"half").unwrap();
    let listed: Vec<_> = store.list(None).map(|entry| entry.unwrap().location.to_string()).collect().await;
    assert_eq!(listed, ["1", "10", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_many_that_create_a_file_one_does() {
    let (_dir, store, _) = world();
    for round in 0..20 {
        let path = Location::from(format!("dir{round}/x"));
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let (store, path) = (store.clone(), path.clone());
                tokio::spawn(async move {
                    let bytes = format!("{racer}").repeat(10_000);
                    (racer, store.put_opts(&path, bytes.into(), PutMode::Create.into()).await)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                (racer, Ok(_)) => winners.push(racer),
                (_, Err(object_store::Error::AlreadyExists { .. })) => {}
                (racer, Err(error)) => panic!("{racer}: {error}"),
            }
        }
        assert_eq!(winners.len(), 1);
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, format!("{}", winners[0]).repeat(10_000));
    }
    assert_eq!(files(&store).len(), 20);
}

async fn open(store: &LocalStore) -> Lake {
    let url = url::Url::from_directory_path(store.root()).unwrap();
    let place = Place { store: Arc::new(store.clone()), url, local: Some(store.clone()) };
    Lake::open_at(place, options(store.root())).await.unwrap()
}

/// A commit of a writer that syncs nothing, with one file.
fn foreign(store: &LocalStore, version: u64) {
    let name = format!("date=2026-11-20/{version}.parquet");
    let add = serde_json::json!({"add": {
        "path": name, "partitionValues": {"date": "2026-11-20"}, "size": 1, "modificationTime": 1, "dataChange": true,
    }});
    std::fs::write(store.root().join(&name), b"x").unwrap();
    std::fs::write(store.root().join(format!("_delta_log/{version:020}.json")), add.to_string()).unwrap();
}

#[tokio::test]
async fn what_a_commit_stands_on_is_synced_before_it() {
    let (_dir, store, disk) = world();
    let lake = open(&store).await;
    flush(&lake, JOURNAL, None, 9).await;
    let commit = |version: u64| {
        let name = format!("{version:020}.json");
        let named = [format!("link {name}"), format!("remove {name}#"), "sync_dir _delta_log".to_owned()];
        [vec![format!("create {name}#"), "write it".to_owned(), "sync it".to_owned()], named.to_vec()].concat()
    };
    let synced = ["sync it", "sync it", "sync_dir _delta_log", "sync_dir date=2026-11-20"].map(str::to_owned);
    // It meets another writer's version when it has written its own.
    foreign(&store, 2);
    disk.calls();
    lake.commit(write(JOURNAL, Some(9), 9, Vec::new())).await.unwrap();
    let found = [commit(2)[..5].to_vec(), vec!["sync it".to_owned(), "sync_dir _delta_log".to_owned()]].concat();
    assert_eq!(disk.calls(), [found, synced.to_vec(), commit(3)].concat());
    // It has seen another writer's before.
    foreign(&store, 4);
    lake.refresh().await.unwrap();
    lake.commit(write(JOURNAL, Some(9), 9, Vec::new())).await.unwrap();
    assert_eq!(disk.calls(), [synced.to_vec(), commit(5)].concat());
    // And so does the next process, which knows nobody's commits: those from 0 to 6.
    foreign(&store, 6);
    open(&store).await;
    let opened = disk.calls();
    assert_eq!(opened[..7], vec!["sync it".to_owned(); 7]);
    assert_eq!(opened[7..], ["sync_dir _delta_log".to_owned()]);
}
