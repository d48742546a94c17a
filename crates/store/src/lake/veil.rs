//! A store in front of another: some files are not there, and the hint to the newest checkpoint is kept back until
//! somebody has checked what it points to.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, future};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::log;

/// A store with less in it.
#[derive(Debug)]
pub(crate) struct Veil {
    store: Arc<dyn ObjectStore>,
    hidden: Arc<HashSet<Path>>,
    hint: Option<Mutex<Option<Bytes>>>,
}

impl std::fmt::Display for Veil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} without {} files", self.store, self.hidden.len())
    }
}

impl Veil {
    /// Nothing of these is there to be read.
    pub(crate) fn hiding(store: Arc<dyn ObjectStore>, hidden: HashSet<Path>) -> Self {
        Self { store, hidden: Arc::new(hidden), hint: None }
    }

    /// The hint is taken and not written.
    pub(crate) fn keeping_hint(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, hidden: Arc::default(), hint: Some(Mutex::default()) }
    }

    /// The hint that was not written.
    pub(crate) fn hint(&self) -> Option<Bytes> {
        self.hint.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn check(&self, location: &Path) -> Result<()> {
        if self.hidden.contains(location) {
            return Err(object_store::Error::NotFound { path: location.to_string(), source: "it is damaged".into() });
        }
        Ok(())
    }

    fn without_hidden(&self, list: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let hidden = Arc::clone(&self.hidden);
        list.try_filter(move |entry| future::ready(!hidden.contains(&entry.location))).boxed()
    }
}

#[async_trait]
impl ObjectStore for Veil {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match &self.hint {
            Some(hint) if *location == log::hint_path() => {
                *hint.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload.into());
                Ok(PutResult { e_tag: None, version: None })
            }
            _ => self.store.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check(location)?;
        self.store.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.check(location)?;
        self.store.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.without_hidden(self.store.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.without_hidden(self.store.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut list = self.store.list_with_delimiter(prefix).await?;
        list.objects.retain(|entry| !self.hidden.contains(&entry.location));
        Ok(list)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check(from)?;
        self.store.copy_opts(from, to, options).await
    }
}
