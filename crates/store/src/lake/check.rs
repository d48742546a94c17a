//! Is a data file what its entry in the log says? Owns reading one to its end, every column of it; refuses to believe
//! its footer.

use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Lake, LakeError, LakeFile, log};

impl Lake {
    /// Reads a data file whole, and gives the number of its records.
    ///
    /// # Errors
    /// [`LakeError::Damaged`] where the file is gone, cannot be read or holds something else than its entry says;
    /// [`LakeError::Storage`] where the storage fails.
    pub async fn check_file(&self, file: &LakeFile) -> Result<u64, LakeError> {
        let damaged = |what: String| LakeError::Damaged(format!("{}: {what}", file.path));
        let path = Path::parse(&file.path).map_err(|error| damaged(error.to_string()))?;
        let answer = match self.store().get(&path).await {
            Ok(answer) => answer.bytes().await,
            Err(object_store::Error::NotFound { .. }) => return Err(damaged("the file is gone".to_owned())),
            Err(error) => Err(error),
        };
        let bytes = answer.map_err(|error| log::failed(&format!("read {}", file.path), error))?;
        if bytes.len() as u64 != file.bytes {
            return Err(damaged(format!("it has {} bytes, the log says {}", bytes.len(), file.bytes)));
        }
        let read = tokio::task::spawn_blocking(move || {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
            let mut rows = 0;
            for batch in reader {
                rows += batch?.num_rows() as u64;
            }
            Ok::<_, parquet::errors::ParquetError>(rows)
        });
        let read = read.await.map_err(|error| LakeError::Internal(format!("read {}: {error}", file.path)))?;
        let rows = read.map_err(|error| damaged(error.to_string()))?;
        match file.stats.rows {
            Some(said) if said != rows => Err(damaged(format!("it has {rows} records, the log says {said}"))),
            _ => Ok(rows),
        }
    }
}
