//! A file that arrives in parts: written beside its later name, and named once it is whole and synced.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::durable::Directory;
use super::local::blocking;

/// An upload in parts to a local directory.
#[derive(Debug)]
pub(super) struct LocalUpload {
    state: Arc<State>,
    /// Where the next part begins.
    end: u64,
}

#[derive(Debug)]
struct State {
    directory: Arc<Directory>,
    /// Taken when the file has its name.
    file: Mutex<Option<File>>,
    staged: PathBuf,
    path: PathBuf,
}

impl LocalUpload {
    pub(super) fn new(directory: Arc<Directory>, file: File, staged: PathBuf, path: PathBuf) -> Self {
        Self { state: Arc::new(State { directory, file: Mutex::new(Some(file)), staged, path }), end: 0 }
    }
}

impl State {
    fn write(&self, at: u64, data: &PutPayload) -> std::io::Result<()> {
        use std::io::{Seek, SeekFrom};
        self.directory.check()?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = file.as_mut().ok_or_else(|| std::io::Error::other("the upload has ended"))?;
        file.seek(SeekFrom::Start(at))?;
        data.iter().try_for_each(|bytes| self.directory.disk().write(file, bytes))
    }

    fn complete(&self) -> std::io::Result<()> {
        self.directory.check()?;
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        let file = file.ok_or_else(|| std::io::Error::other("the upload has ended"))?;
        self.directory
            .publish(&file, &self.staged, &self.path, true)
            .inspect_err(|_| self.directory.discard(&self.staged))
    }
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let at = self.end;
        self.end += data.content_length() as u64;
        let state = Arc::clone(&self.state);
        blocking(move || state.write(at, &data)).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let state = Arc::clone(&self.state);
        blocking(move || state.complete()).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.state.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.state.directory.discard(&self.state.staged);
        Ok(())
    }
}

impl Drop for LocalUpload {
    fn drop(&mut self) {
        if self.state.file.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            self.state.directory.discard(&self.state.staged);
        }
    }
}
