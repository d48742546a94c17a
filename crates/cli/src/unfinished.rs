//! A file that is being written. Owns that it is whole or not there: it has a name that nobody else has until its end, and is
//! removed if that does not come.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is not whole yet has this behind its name.
const ENDING: &str = ".part";

/// A file on its way to its name. What is dropped before that is removed.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    /// None once it has its name.
    path: Option<PathBuf>,
    target: PathBuf,
}

impl Unfinished {
    /// One in the same directory. A link stays one: what it leads to is written.
    pub(crate) fn beside(target: &Path) -> io::Result<Unfinished> {
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut path = OsString::from(&target);
        path.push(format!(".{:016x}{ENDING}", u64::from_ne_bytes(random)));
        let path = PathBuf::from(path);
        // Whatever has this name already is somebody else's.
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Unfinished { file, path: Some(path), target })
    }

    /// Gives it its name, once it is on disk.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            fs::rename(path, &self.target)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}
