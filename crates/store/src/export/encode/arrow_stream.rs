//! Arrow's IPC stream (<https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format>): a schema, batches, and an
//! end that tells a whole stream from a cut one.

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;

use super::shape::Shape;
use super::{Encode, failed};
use crate::error::QueryError;

pub(super) struct ArrowStream {
    shape: Shape,
    writer: StreamWriter<Vec<u8>>,
}

impl ArrowStream {
    pub(super) fn new(shape: Shape) -> Result<Self, QueryError> {
        let writer = StreamWriter::try_new(Vec::new(), shape.schema()).map_err(failed)?;
        Ok(Self { shape, writer })
    }

    fn hand_over(&mut self, out: &mut Vec<u8>) -> Result<(), QueryError> {
        self.writer.flush().map_err(failed)?;
        out.append(self.writer.get_mut());
        Ok(())
    }
}

impl Encode for ArrowStream {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), QueryError> {
        self.hand_over(out)
    }

    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), QueryError> {
        self.writer.write(&self.shape.apply(rows)?).map_err(failed)?;
        self.hand_over(out)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), QueryError> {
        self.writer.finish().map_err(failed)?;
        self.hand_over(out)
    }
}
