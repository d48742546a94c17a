//! The table of runs on disk, so that a start does not read the whole journal. Owns a small checked file that is
//! replaced as a whole; what it cannot vouch for is rebuilt from journal and lake.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use runstone_record::run::RunFold;
use serde::{Deserialize, Serialize};

use super::Snapshot;
use super::place::Place;
use super::stamps::Stamps;

/// The file's first bytes: what it is, and the version of what follows.
const MAGIC: &[u8; 8] = b"RSRUNS\x04\n";
/// The same of a version that did not say when runs came about.
const MAGIC_WITHOUT_STAMPS: &[u8; 8] = b"RSRUNS\x03\n";
const HEAD_BYTES: usize = MAGIC.len() + 4;

/// The table and how far it goes.
#[derive(Debug, Deserialize)]
pub(crate) struct Saved {
    /// Which records are folded in.
    pub(crate) place: Place,
    /// The runs.
    pub(crate) runs: Vec<(String, RunFold, Stamps)>,
}

/// The same as it is written.
#[derive(Debug, Serialize)]
struct Writing<'a> {
    place: &'a Place,
    runs: Vec<(&'a str, &'a RunFold, Stamps)>,
}

/// Reads the file. None: there is none.
pub(crate) fn load(path: &Path) -> io::Result<Option<Saved>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file is damaged, or another version's");
    let (head, content) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(damaged)?;
    let (magic, sum) = head.split_at(MAGIC.len());
    let is_old = magic == MAGIC_WITHOUT_STAMPS;
    if !(is_old || magic == MAGIC) || sum != crc32c::crc32c(content).to_le_bytes() {
        return Err(damaged());
    }
    if is_old {
        let (place, runs): (_, Vec<(String, RunFold)>) = postcard::from_bytes(content).map_err(|_| damaged())?;
        let runs = runs.into_iter().map(|(id, fold)| (id, fold, Stamps::default())).collect();
        return Ok(Some(Saved { place, runs }));
    }
    postcard::from_bytes(content).map(Some).map_err(|_| damaged())
}

/// Removes the file, if there is one.
pub(crate) fn remove(path: &Path) {
    let removed = fs::remove_file(path).and_then(|()| File::open(path.parent().unwrap_or(path))?.sync_all());
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "remove the saved runs: remove them before the next start");
    }
}

/// Replaces the file: a crash leaves the old one or the new one.
pub(super) fn store(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let runs = snapshot.view.all().map(|run| (&*run.id, &*run.fold, run.stamps)).collect();
    let content = postcard::to_allocvec(&Writing { place: &snapshot.place, runs }).map_err(io::Error::other)?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(MAGIC)?;
    file.write_all(&crc32c::crc32c(&content).to_le_bytes())?;
    file.write_all(&content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
