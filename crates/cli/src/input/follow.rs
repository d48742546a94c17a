//! Following a file: what is appended, and what takes its place when it is rotated or cut.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Closed, Feed, READ_BYTES, Stop, read_some, stopped};

/// What stands at the path, compared with the open file.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// The same file; or none for now, while a rotation is under way.
    None,
    /// The same file, shorter than what was read.
    Cut,
    /// Another file.
    Replaced,
}

/// Reads until told to stop. The file may appear later.
pub(super) fn run(path: &Path, feed: &mut Feed, stop: &Stop) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if stopped(stop) {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        match one(path, &mut file, &mut buffer, feed, stop)? {
            Ok(true) => {}
            Ok(false) | Err(Closed) => return Ok(()),
        }
    }
}

/// Reads one file until another takes its place (true) or it is time to stop (false).
fn one(
    path: &Path,
    file: &mut File,
    buffer: &mut [u8],
    feed: &mut Feed,
    stop: &Stop,
) -> io::Result<Result<bool, Closed>> {
    loop {
        if let Err(closed) = drain(file, buffer, feed)? {
            return Ok(Err(closed));
        }
        match change(path, file)? {
            Change::None if stopped(stop) => {
                return Ok(drain(file, buffer, feed)?.and_then(|()| feed.finish()).map(|()| false));
            }
            Change::None => {}
            Change::Cut => {
                file.seek(SeekFrom::Start(0))?;
                if let Err(closed) = feed.finish() {
                    return Ok(Err(closed));
                }
            }
            // Its writer may have appended a last time before it let go.
            Change::Replaced => {
                return Ok(drain(file, buffer, feed)?.and_then(|()| feed.finish()).map(|()| true));
            }
        }
    }
}

fn drain(file: &mut File, buffer: &mut [u8], feed: &mut Feed) -> io::Result<Result<(), Closed>> {
    loop {
        match read_some(file, buffer)? {
            0 => return Ok(Ok(())),
            bytes => {
                if let Err(closed) = feed.feed(&buffer[..bytes]) {
                    return Ok(Err(closed));
                }
            }
        }
    }
}

fn change(path: &Path, file: &mut File) -> io::Result<Change> {
    let open = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(found) if !same(&open, &found) => Ok(Change::Replaced),
        Ok(found) if found.len() < file.stream_position()? => Ok(Change::Cut),
        Ok(_) => Ok(Change::None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Change::None),
        Err(error) => Err(error),
    }
}

fn same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}
