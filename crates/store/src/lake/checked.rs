//! A store as the reader of one data file sees it: what it gives is what was written, or an error. Owns reading whole blocks
//! where a part of one is wanted; the sums are compared in `sums`.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::sums::{Damage, Sums, part};

const STORE: &str = "lake";

/// A store of which one file is read.
#[derive(Debug)]
pub(crate) struct CheckedStore {
    store: Arc<dyn ObjectStore>,
    sums: Sums,
}

impl std::fmt::Display for CheckedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, checked", self.store)
    }
}

/// The store to read a file through whose entry has these sums, or none.
pub(crate) fn checked(store: &Arc<dyn ObjectStore>, sums: Option<&Sums>) -> Arc<dyn ObjectStore> {
    match sums {
        Some(sums) => Arc::new(CheckedStore { store: Arc::clone(store), sums: sums.clone() }),
        None => Arc::clone(store),
    }
}

/// Does a store complain of a damaged file?
pub(crate) fn damage(error: &Error) -> Option<&Damage> {
    match error {
        Error::Generic { source, .. } => source.downcast_ref(),
        _ => None,
    }
}

fn refusal(damage: Damage) -> Error {
    Error::Generic { store: STORE, source: damage.into() }
}

impl CheckedStore {
    /// Stores answer in many ways to who asks for more than a file has; asking again will not help.
    async fn explain(&self, location: &Path, error: Error) -> Error {
        let said = self.sums.length();
        match self.store.head(location).await {
            Ok(meta) if meta.size != said => refusal(Damage::Length { found: meta.size, said }),
            _ => error,
        }
    }
}

#[async_trait]
impl ObjectStore for CheckedStore {
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let spans = self.sums.spans(ranges).map_err(refusal)?;
        let bytes = match self.store.get_ranges(location, &spans).await {
            Ok(bytes) => bytes,
            Err(error) => return Err(self.explain(location, error).await),
        };
        for (span, bytes) in spans.iter().zip(&bytes) {
            self.sums.check(span, bytes).map_err(refusal)?;
        }
        let of = |range: &Range<u64>| {
            // Each range lies in one of them.
            let place = spans.partition_point(|span| span.start <= range.start).saturating_sub(1);
            bytes.get(place).map_or_else(Bytes::new, |bytes| part(bytes, spans[place].start, range))
        };
        Ok(ranges.iter().map(of).collect())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            return self.store.get_opts(location, options).await;
        }
        let all = GetRange::Bounded(0..self.sums.length());
        let range = options.range.as_ref().unwrap_or(&all).as_range(self.sums.length());
        let range = range.map_err(|error| Error::Generic { store: STORE, source: error.into() })?;
        let wide = self.sums.spans(std::slice::from_ref(&range)).map_err(refusal)?;
        let span = wide.into_iter().next().unwrap_or_default();
        let wider = GetOptions { range: Some(GetRange::Bounded(span.clone())), ..options };
        let answer = match self.store.get_opts(location, wider).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.explain(location, error).await),
        };
        let (meta, attributes) = (answer.meta.clone(), answer.attributes.clone());
        let bytes = answer.bytes().await?;
        self.sums.check(&span, &bytes).map_err(refusal)?;
        let bytes = part(&bytes, span.start, &range);
        let payload = GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
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
