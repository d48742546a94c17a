//! One partition of a scan: units one after the other, a few thousand rows at a time, filtered first, then only the
//! columns that were asked for. Owns reading evicted records back frame by frame; files are read by `lake/scan.rs`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::RecordBatchStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count};
use futures::Stream;
use runstone_record::{Batch, Column, ColumnSet};

use crate::chunk::Chunk;
use crate::error::{Carried, QueryError};
use crate::filter::{Filter, Verdict, mask_words, narrow};
use crate::lake::{FileReader, LakeFile};
use crate::recent::{Evicted, Frames, Older, OlderError};
use crate::rows::Rows;
use crate::unit::{Unit, may_pass};

/// Rows of small frames that are read back before they are passed on together.
const READ_ROWS: usize = 8 << 10;
/// Bytes of them: what a reader holds is not counted as the query's memory.
const READ_BYTES: usize = 1 << 20;

/// What every partition of a scan does.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) older: Arc<dyn Older>,
    pub(crate) schema: SchemaRef,
    pub(crate) projection: Vec<Column>,
    pub(crate) filters: Vec<Filter>,
    /// The opposite of each, where there is one.
    pub(crate) opposites: Vec<Option<Filter>>,
    pub(crate) files: Option<Files>,
    /// Within a chunk too: its rows are in the order of their arrival, and so nearly in that of their times.
    pub(crate) newest_first: bool,
    pub(crate) rows_per_batch: usize,
    /// What nobody has begun to read: whoever is idle takes the next.
    pub(crate) queue: Mutex<VecDeque<Unit>>,
}

/// How files are read.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) reader: FileReader,
    /// The columns that come from it, the projection's first.
    pub(crate) columns: Vec<Column>,
    /// Filters that it does not apply.
    pub(crate) rest: Vec<Filter>,
}

impl Task {
    fn columns(&self) -> ColumnSet {
        let read = self.filters.iter().flat_map(|filter| filter.columns.iter());
        ColumnSet::of(&self.projection.iter().chain(read).copied().collect::<Vec<_>>())
    }

    fn next(&self) -> Option<Unit> {
        // Nothing is left half-done under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Files {
    /// The rows of a batch that pass, in the columns that were asked for.
    fn finish(&self, mut batch: RecordBatch, task: &Task) -> Result<RecordBatch> {
        for filter in &self.rest {
            let place = |column| self.columns.iter().position(|read| *read == column);
            let values = filter.columns.iter().filter_map(|column| place(*column));
            let values = values.map(|place| Arc::clone(batch.column(place))).collect();
            batch = filter_record_batch(&batch, &filter.evaluate(values, batch.num_rows())?)?;
        }
        let columns = batch.columns().get(..task.projection.len()).unwrap_or_default().to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&task.schema), columns, &options)?)
    }
}

/// What a partition counts.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Chunks and ranges that filters ruled out while the query ran.
    pub(crate) skipped: Count,
    /// Files, or parts of large ones, that were opened.
    pub(crate) files: Count,
    /// Those that filters ruled out while the query ran.
    pub(crate) files_skipped: Count,
}

/// The records of one partition.
pub(crate) struct Reading {
    task: Arc<Task>,
    left: usize,
    metrics: BaselineMetrics,
    counts: Counts,
    open: Option<Open>,
    frames: Option<FrameReader>,
    file: Option<SendableRecordBatchStream>,
    file_name: Option<Arc<LakeFile>>,
}

/// A chunk that is being read.
struct Open {
    chunk: Arc<Chunk>,
    verdicts: Vec<Verdict>,
    next: usize,
    end: usize,
}

enum Step {
    Rows(RecordBatch),
    /// Worked, but no row passed.
    Nothing,
    /// The storage will wake us.
    Wait,
    End,
}

impl Reading {
    pub(crate) fn new(task: Arc<Task>, limit: Option<usize>, metrics: BaselineMetrics, counts: Counts) -> Self {
        let left = limit.unwrap_or(usize::MAX);
        Self { task, left, metrics, counts, open: None, frames: None, file: None, file_name: None }
    }

    fn step(&mut self, context: &mut Context<'_>) -> Result<Step> {
        if self.left == 0 {
            return Ok(Step::End);
        }
        if let Some(open) = &mut self.open {
            if open.next < open.end {
                let len = self.task.rows_per_batch.min(open.end - open.next);
                let start = if self.task.newest_first {
                    open.end -= len;
                    open.end
                } else {
                    open.next += len;
                    open.next - len
                };
                return self.rows(Rows::Range(start, len));
            }
            self.open = None;
        }
        if let Some(frames) = &mut self.frames {
            if let Some((chunk, start, end)) = frames.next_chunk(self.task.columns())? {
                return self.begin(Arc::new(chunk), start, end);
            }
            self.frames = None;
        }
        if let Some(file) = &mut self.file {
            return match file.as_mut().poll_next(context) {
                Poll::Pending => Ok(Step::Wait),
                Poll::Ready(Some(Err(error))) => Err(match &self.file_name {
                    Some(file) => unread(file, &error),
                    None => error,
                }),
                Poll::Ready(Some(Ok(batch))) => self.file_rows(batch),
                Poll::Ready(None) => {
                    self.file = None;
                    Ok(Step::Nothing)
                }
            };
        }
        match self.task.next() {
            Some(unit) => self.open(unit),
            None => Ok(Step::End),
        }
    }

    fn open(&mut self, unit: Unit) -> Result<Step> {
        let narrowed: Vec<&Filter> = self.task.filters.iter().filter(|filter| filter.is_dynamic()).collect();
        let is_skipped = may_pass(&narrowed, std::slice::from_ref(&unit))? == [false];
        match unit {
            Unit::File(..) if is_skipped => self.counts.files_skipped.add(1),
            _ if is_skipped => self.counts.skipped.add(1),
            Unit::Chunk(chunk) => {
                let rows = chunk.rows;
                return self.begin(chunk, 0, rows);
            }
            Unit::Evicted(evicted) => self.frames = Some(FrameReader::new(self.task.older.as_ref(), evicted)?),
            Unit::File(file, part) => {
                if let Some(files) = &self.task.files {
                    // Filters that come after the reader may leave fewer rows than it gives.
                    let limit = Some(self.left).filter(|left| *left < usize::MAX && files.rest.is_empty());
                    self.counts.files.add(1);
                    let opened = files.reader.open(&file, part, limit);
                    self.file = Some(opened.map_err(|error| unread(&file, &error))?);
                    self.file_name = Some(file);
                }
            }
        }
        Ok(Step::Nothing)
    }

    fn file_rows(&mut self, batch: RecordBatch) -> Result<Step> {
        let Some(files) = &self.task.files else {
            return Ok(Step::Nothing);
        };
        let batch = files.finish(batch, &self.task)?;
        if batch.num_rows() == 0 {
            return Ok(Step::Nothing);
        }
        let batch = batch.slice(0, batch.num_rows().min(self.left));
        self.left -= batch.num_rows();
        Ok(Step::Rows(batch))
    }

    fn begin(&mut self, chunk: Arc<Chunk>, start: usize, end: usize) -> Result<Step> {
        let mut verdicts = Vec::with_capacity(self.task.filters.len());
        let unit = [Unit::Chunk(Arc::clone(&chunk))];
        for (filter, opposite) in self.task.filters.iter().zip(&self.task.opposites) {
            let all_pass = opposite.as_ref().map(|opposite| may_pass(&[opposite], &unit)).transpose()?;
            let verdict =
                if all_pass.is_some_and(|may| may == [false]) { Verdict::All } else { filter.judge(&chunk)? };
            if matches!(verdict, Verdict::None) {
                self.counts.skipped.add(1);
                return Ok(Step::Nothing);
            }
            verdicts.push(verdict);
        }
        self.open = Some(Open { chunk, verdicts, next: start, end });
        Ok(Step::Nothing)
    }

    fn rows(&mut self, mut rows: Rows) -> Result<Step> {
        let Some(open) = &self.open else {
            return Ok(Step::Nothing);
        };
        for verdict in &open.verdicts {
            if let Verdict::Words(column, words, nulls) = verdict {
                rows = narrow(&rows, &mask_words(&open.chunk, *column, words, *nulls, &rows)?)?;
            }
        }
        for (filter, verdict) in self.task.filters.iter().zip(&open.verdicts) {
            if matches!(verdict, Verdict::Rows) && rows.len() > 0 {
                rows = narrow(&rows, &filter.mask(&open.chunk, &rows)?)?;
            }
        }
        if rows.len() == 0 {
            return Ok(Step::Nothing);
        }
        if rows.len() > self.left {
            rows = rows.first(self.left);
        }
        self.left -= rows.len();
        let columns = self
            .task
            .projection
            .iter()
            .map(|column| open.chunk.column(*column, &rows))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.task.schema), columns, &options)?;
        Ok(Step::Rows(batch))
    }
}

impl Stream for Reading {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let timer = self.metrics.elapsed_compute().clone();
        let _timing = timer.timer();
        let answer = match self.step(context) {
            Ok(Step::Nothing) => {
                // Others get their turn, and a cancelled query ends here.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Ok(Step::Wait) => return Poll::Pending,
            Ok(Step::Rows(batch)) => Poll::Ready(Some(Ok(batch))),
            Ok(Step::End) => Poll::Ready(None),
            Err(error) => {
                self.left = 0;
                Poll::Ready(Some(Err(error)))
            }
        };
        self.metrics.record_poll(answer)
    }
}

impl RecordBatchStream for Reading {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.task.schema)
    }
}

/// Reads a range of positions back, some frames at a time.
pub(crate) struct FrameReader {
    range: Evicted,
    frames: Frames,
    next: u64,
}

impl FrameReader {
    pub(crate) fn new(older: &dyn Older, range: Evicted) -> Result<Self> {
        let frames = older.frames(range.first, range.last).map_err(unreadable)?;
        Ok(Self { next: range.first, range, frames })
    }

    /// The next records, with the first and the last row but one that belong to the range.
    pub(crate) fn next_chunk(&mut self, columns: ColumnSet) -> Result<Option<(Chunk, usize, usize)>> {
        let mut parts: Vec<Arc<Chunk>> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let from = self.next;
        while rows < READ_ROWS && bytes < READ_BYTES && self.next <= self.range.last {
            let (first, payload) = self.frames.next().ok_or_else(|| self.gap())?.map_err(unreadable)?;
            let batch =
                Batch::decode_columns(&payload, columns).map_err(|error| unreadable(OlderError(error.into())))?;
            let chunk = Chunk::from_batch(Arc::clone(&self.range.journal), first, batch)?;
            // Only the first frame may begin before the range: between two frames nothing may be missing.
            let follows = first == self.next || (self.next == self.range.first && first < self.next);
            if !follows || chunk.last() < self.next {
                return Err(self.gap());
            }
            self.next = chunk.last() + 1;
            rows += chunk.rows;
            bytes += chunk.bytes;
            parts.push(Arc::new(chunk));
        }
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        let row = |position: u64| usize::try_from(position - first.first).unwrap_or(usize::MAX);
        let (start, end) = (row(from), row(self.next.min(self.range.last + 1)));
        let chunk = match parts.len() {
            1 => parts.pop().and_then(Arc::into_inner),
            _ => None,
        };
        let chunk = chunk.map_or_else(|| Chunk::merge(&parts), Ok)?;
        Ok(Some((chunk, start, end)))
    }

    fn gap(&self) -> DataFusionError {
        let (journal, next) = (&self.range.journal, self.next);
        unreadable(OlderError(format!("position {next} of journal {journal} is missing").into()))
    }
}

/// The storage's failure, and never the query's: what a query asks for is decided elsewhere.
pub(crate) fn unread(file: &LakeFile, error: &DataFusionError) -> DataFusionError {
    let why = format!("read {} of the lake: {}", file.path, error.strip_backtrace());
    DataFusionError::External(Box::new(Carried(QueryError::Unread(why))))
}

fn unreadable(error: OlderError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use runstone_record::IdMint;
    use runstone_record::build::BatchBuilder;

    use super::*;

    const ROWS: u64 = 10;
    const FRAMES: u64 = 32;
    const TEXT_BYTES: usize = 40 << 10;

    /// Frames of a few large records.
    #[derive(Debug)]
    struct Large;

    impl Older for Large {
        fn frames(&self, first: u64, last: u64) -> Result<Frames, OlderError> {
            let text = "x".repeat(TEXT_BYTES);
            Ok(Box::new((first..=last).step_by(usize::try_from(ROWS).unwrap()).map(move |first| {
                let mut builder = BatchBuilder::default();
                for _ in 0..ROWS {
                    builder.set_text(Column::Exception, &text);
                    builder.end_row(None);
                }
                let batch = builder.stamp(&mut IdMint::new(first, 1), 1_763_640_000_000_000, None);
                Ok((first, batch.encode().into()))
            })))
        }
    }

    #[test]
    fn large_frames_are_not_read_back_many_at_once() {
        let range = Evicted { journal: "j".into(), first: 1, last: ROWS * FRAMES, times: (0, i64::MAX), is_cut: false };
        let mut reader = FrameReader::new(&Large, range).unwrap();
        let (mut chunks, mut next) = (0, 1);
        while let Some((chunk, start, end)) = reader.next_chunk(ColumnSet::of(&[Column::Exception])).unwrap() {
            let bytes = chunk.bytes;
            assert!(bytes < 2 * READ_BYTES, "{bytes}");
            assert_eq!((chunk.first, start, end), (next, 0, chunk.rows));
            next = chunk.last() + 1;
            chunks += 1;
        }
        assert_eq!(next, ROWS * FRAMES + 1);
        assert!(chunks > FRAMES / 8, "{chunks}");
    }
}
