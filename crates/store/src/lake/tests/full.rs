//! A disk that is full in mid-flush: what fails leaves nothing behind, however often it is tried, and works when there is
//! space.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use runstone_record::{Batch, IdMint, parse};
use url::Url;

use super::world::{JOURNAL, NOW_MS, options, versions};
use crate::lake::disk::{Disk, RealDisk};
use crate::lake::local::LocalStore;
use crate::lake::place::Place;
use crate::lake::{Lake, LakeError, LakeWriter, WriterOptions};

const HOUR: i64 = 3_600_000_000;

/// A file system with so many bytes of space.
#[derive(Debug)]
struct Small(AtomicU64);

impl Disk for Small {
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let space = self.0.load(Ordering::Relaxed);
        let written = bytes.len().min(usize::try_from(space).unwrap_or(usize::MAX));
        RealDisk.write(file, &bytes[..written])?;
        self.0.fetch_sub(written as u64, Ordering::Relaxed);
        if written < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let metadata = std::fs::metadata(path)?;
        RealDisk.remove(path)?;
        // The other name of a file that was just given its own frees nothing.
        if std::os::unix::fs::MetadataExt::nlink(&metadata) == 1 {
            self.0.fetch_add(metadata.len(), Ordering::Relaxed);
        }
        Ok(())
    }
}

fn records(arrived: i64) -> Batch {
    let lines: Vec<String> = (0..20).map(|row| format!(r#"{{"message":"row {row}","level":"info"}}"#)).collect();
    let parsed = parse::ndjson(lines.join("\n").as_bytes()).unwrap();
    parsed.builder.stamp(&mut IdMint::new(1, u128::try_from(arrived).unwrap()), arrived, None)
}

async fn open(dir: &Path, disk: &Arc<Small>) -> Lake {
    let local = LocalStore::on(dir, Arc::clone(disk) as Arc<dyn Disk>, &Arc::default()).unwrap();
    let url = Url::from_directory_path(local.root()).unwrap();
    Lake::open_at(Place { store: Arc::new(local.clone()), url, local: Some(local) }, options(dir)).await.unwrap()
}

/// All files of the table but its log, unfinished ones included.
fn data_files(dir: &Path) -> Vec<PathBuf> {
    let days = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let days = days.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("date="));
    days.flat_map(|day| std::fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path())).collect()
}

/// Three files in one flush, with so much space. How many of them lie there after tries that failed.
async fn flush_with(space: u64) -> Option<usize> {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Small(AtomicU64::new(1 << 30)));
    let lake = open(dir.path(), &disk).await;
    let mut writer = LakeWriter::new(lake.clone(), WriterOptions::default());
    for day in 0..3 {
        writer.push(JOURNAL, u64::try_from(day).unwrap() * 20 + 1, records(NOW_MS * 1_000 + day * 24 * HOUR)).unwrap();
    }
    disk.0.store(space, Ordering::Relaxed);
    let mut left = None;
    for _ in 0..4 {
        match writer.flush(None).await {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, LakeError::Storage { .. }), "{error:?}"),
        }
        let there = data_files(dir.path()).len();
        assert!(left.is_none_or(|left| left == there), "with {space} bytes: {left:?} files, then {there}");
        assert_eq!((versions(dir.path()), writer.pending().rows), (vec![0], 60), "with {space} bytes");
        left = Some(there);
    }
    if left.is_some() {
        disk.0.store(1 << 30, Ordering::Relaxed);
        let flushed = writer.flush(None).await.unwrap().unwrap();
        assert_eq!((flushed.rows, flushed.files), (60, 3), "with {space} bytes");
    }
    assert_eq!(data_files(dir.path()).len(), 3, "with {space} bytes");
    let snapshot = open(dir.path(), &disk).await.snapshot();
    assert_eq!((snapshot.rows(), snapshot.files.len()), (60, 3), "with {space} bytes");
    for file in snapshot.files.iter() {
        assert_eq!(lake.check_file(file).await.unwrap(), 20, "with {space} bytes");
    }
    left
}

#[tokio::test]
async fn however_full_the_disk_is_a_failed_flush_leaves_no_litter() {
    let mut seen = Vec::new();
    for space in (0..).step_by(1_500) {
        let left = flush_with(space).await;
        seen.push(left);
        if left.is_none() {
            break;
        }
    }
    // A flush that cannot be uploaded leaves nothing; one that cannot be committed is kept for the next try.
    assert_eq!(seen.first(), Some(&Some(0)));
    assert!(seen.len() > 8 && seen.iter().flatten().all(|left| [0, 3].contains(left)), "{seen:?}");
    assert!(seen.contains(&Some(3)), "no commit failed: {seen:?}");
}
