//! Where a table is: its storage, rooted so that everything in it belongs to the table. Owns telling a file from a
//! directory; refuses to know formats, but for the names that files of them have.

use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use super::TableError;
use super::format::TableFormat;
use crate::lake::{LakeNetwork, Place as LakePlace};

/// A query does not wait for storage as long as the lake may.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);

/// The storage of a table.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The one file that is the table.
    pub(super) file: Option<Path>,
    pub(super) is_local: bool,
}

impl Place {
    pub(super) async fn find(location: &str, network: &LakeNetwork) -> Result<Place, TableError> {
        let network = LakeNetwork { retry_timeout: network.retry_timeout.min(RETRY_TIMEOUT), ..network.clone() };
        let path = match Url::parse(location) {
            Ok(url) if url.scheme() == "file" => {
                url.to_file_path().map_err(|()| TableError::Unfit("its location names no path".to_owned()))?
            }
            Ok(_) if location.contains("://") => return Place::remote(location, &network).await,
            _ => FsPath::new(location).to_owned(),
        };
        Place::local(&path, &network)
    }

    fn local(path: &FsPath, network: &LakeNetwork) -> Result<Place, TableError> {
        // What the operating system says, without the path: whoever asks may not be meant to know it.
        let away = |error: std::io::Error| TableError::Away(format!("its location cannot be read: {}", error.kind()));
        let path = path.canonicalize().map_err(away)?;
        let is_file = path.metadata().map_err(away)?.is_file();
        let (dir, file) = match (is_file, path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (true, Some(dir), Some(name)) => {
                let name = Path::parse(name).map_err(|_| TableError::Unfit("its file has no plain name".to_owned()))?;
                (dir, Some(name))
            }
            (true, ..) => return Err(TableError::Unfit("its file has no plain name".to_owned())),
            _ => (path.as_path(), None),
        };
        let dir = dir.to_str().ok_or_else(|| TableError::Unfit("its location is not UTF-8".to_owned()))?;
        let place = LakePlace::find(dir, network, false, &Arc::default())?;
        Ok(Place { store: place.store, file, is_local: true })
    }

    async fn remote(location: &str, network: &LakeNetwork) -> Result<Place, TableError> {
        let find = |location: &str| LakePlace::find(location, network, false, &Arc::default());
        if TableFormat::of_file(location).is_some()
            && let Some((parent, name)) = location.rsplit_once('/')
            && let Ok(name) = Path::parse(name)
        {
            // A directory may be called as a file is.
            let place = find(&format!("{parent}/"))?;
            match place.store.head(&name).await {
                Ok(_) => return Ok(Place { store: place.store, file: Some(name), is_local: false }),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Place { store: find(location)?.store, file: None, is_local: false })
    }
}
