//! The storage of all tables as one: a path begins with the table's name. So files of different tables never have one
//! path, by which the engine keeps what it knows of them, and a plan shows no place that a reader should not know.
//! Refuses to list and to write.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result as PlanResult};
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

use super::Tables;

const SCHEME: &str = "tables";

/// Where a plan finds the files of tables.
pub(super) fn url() -> PlanResult<ObjectStoreUrl> {
    ObjectStoreUrl::parse(format!("{SCHEME}://all"))
}

/// The path of a table's file among all tables.
pub(super) fn path(table: &str, path: &Path) -> Path {
    std::iter::once(table.into()).chain(path.parts()).collect()
}

/// The stores that plans can reach: those of the tables, and no other.
#[derive(Debug)]
pub(crate) struct TableStores(pub(crate) Arc<Tables>);

impl ObjectStoreRegistry for TableStores {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> PlanResult<Arc<dyn ObjectStore>> {
        match url.scheme() {
            SCHEME => Ok(Arc::new(All(Arc::clone(&self.0)))),
            _ => Err(DataFusionError::Internal(format!("nothing can be read from {url}"))),
        }
    }
}

#[derive(Debug)]
struct All(Arc<Tables>);

impl std::fmt::Display for All {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tables")
    }
}

impl All {
    fn resolve(&self, location: &Path) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let mut parts = location.parts();
        let store = parts.next().and_then(|name| self.0.storage(name.as_ref()));
        let missing = || Error::NotFound { path: location.to_string(), source: "no table has it".into() };
        Ok((store.ok_or_else(missing)?, parts.collect()))
    }
}

/// An error that names the file as the plan does.
fn told(error: Error, location: &Path) -> Error {
    match error {
        Error::NotFound { .. } => Error::NotFound { path: location.to_string(), source: "the file is gone".into() },
        other => other,
    }
}

fn refused<T>() -> Result<T> {
    Err(Error::NotSupported { source: "tables are read only".into() })
}

#[async_trait]
impl ObjectStore for All {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        refused()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        refused()
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (store, path) = self.resolve(location)?;
        let mut got = store.get_opts(&path, options).await.map_err(|error| told(error, location))?;
        got.meta.location = location.clone();
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (store, path) = self.resolve(location)?;
        store.get_ranges(&path, ranges).await.map_err(|error| told(error, location))
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::once(async { refused() }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { refused() }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        refused()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        refused()
    }
}
