//! One merge: files of the table become one that says the same. Owns reading the inputs piece by piece, writing the output,
//! proving that no row was lost or doubled, and the commit; refuses to choose the files.
//!
//! In memory are at a time: the encoded output, one row group's rows, and what finding a cut in time takes.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanBufferBuilder, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::RowSelection;
use runstone_record::{Column, limits};

use super::groups::{Group, Part, Size, plan, sums};
use super::join::{bytes, join};
use super::names::{Maker, maker};
use super::plan::{Merge, Rules};
use super::tally::Tally;
use crate::lake::encode::{EncodeOptions, Encoded, FileEncoder};
use crate::lake::source::{Opened, Reading, Source, blocking, chunk, decoded_bytes, int_bounds};
use crate::lake::{Change, Lake, LakeError, LakeFile};

/// How a merge ended.
#[derive(Debug)]
pub(crate) enum Merged {
    Done(Sums),
    /// These files cannot be merged: path and reason.
    Left(Vec<(String, String)>),
}

/// What a merge did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) files_in: u64,
    pub(crate) files_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) rows: u64,
    /// Of the rows, those whose groups were taken over as they are.
    pub(crate) rows_copied: u64,
}

/// Merges files and commits the result.
pub(crate) async fn merge(lake: &Lake, merge: &Merge, rules: &Rules) -> Result<Merged, LakeError> {
    let sources = match open(lake, merge).await? {
        Ok(sources) => sources,
        Err(left) => return Ok(Merged::Left(left)),
    };
    let mut output = Output::new(merge.thorough, rules.file_bytes)?;
    let groups = groups(&merge.files, &sources, &output.encoder);
    let before = tally(&sources).await?;
    let mut copied = 0;
    for part in plan(groups, rules.group) {
        match part {
            Part::Copy(group) => {
                copied += group.rows;
                output.copy(&sources[group.file], group).await?;
            }
            Part::Rewrite(groups) => rewrite(&sources, &groups, rules.group, &mut output).await?,
        }
    }
    let files = output.finish().await?;
    let after = prove(&files, before).await?;
    drop(sources);
    let mut sums = Sums {
        files_in: merge.files.len() as u64,
        files_out: files.len() as u64,
        bytes_in: merge.files.iter().map(|file| file.bytes).sum(),
        bytes_out: 0,
        rows: after.rows,
        rows_copied: copied,
    };
    let add = upload(lake, merge, files).await?;
    sums.bytes_out = add.iter().map(|file| file.bytes).sum();
    commit(lake, merge, add, sums).await?;
    Ok(Merged::Done(sums))
}

async fn upload(lake: &Lake, merge: &Merge, files: Vec<Encoded>) -> Result<Vec<LakeFile>, LakeError> {
    let mut add = Vec::new();
    for file in files {
        let put = match merge.thorough {
            true => lake.put_compacted(file, merge.date).await,
            false => lake.put(file, merge.date).await,
        };
        match put {
            Ok(file) => add.push(file),
            Err(error) => {
                // On a full disk each further run would leave its own.
                lake.discard(&add).await;
                return Err(error);
            }
        }
    }
    Ok(add)
}

async fn commit(lake: &Lake, merge: &Merge, add: Vec<LakeFile>, sums: Sums) -> Result<(), LakeError> {
    let metrics = vec![
        ("numRemovedFiles", sums.files_in),
        ("numRemovedBytes", sums.bytes_in),
        ("numAddedFiles", sums.files_out),
        ("numAddedBytes", sums.bytes_out),
    ];
    let remove = merge.files.clone();
    let change = Change { journal: None, add, remove, data_change: false, operation: "OPTIMIZE", metrics };
    lake.commit(change).await.map(drop)
}

/// Opens the inputs, or says which of them are not ours to merge.
async fn open(lake: &Lake, merge: &Merge) -> Result<Result<Vec<Source>, Vec<(String, String)>>, LakeError> {
    let store = lake.store();
    let opened: Vec<Opened> = futures::stream::iter(&merge.files)
        .map(|file| Source::open(&store, file))
        .buffered(limits::LAKE_FILES_OPENING_MAX)
        .try_collect()
        .await?;
    let mut sources = Vec::with_capacity(opened.len());
    let mut left = Vec::new();
    for (opened, file) in opened.into_iter().zip(&merge.files) {
        match opened {
            Opened::Source(source) => match doubt(&source, file) {
                None => sources.push(source),
                Some(why) => left.push((file.path.clone(), why)),
            },
            Opened::Foreign(why) => left.push((file.path.clone(), why)),
        }
    }
    Ok(if left.is_empty() { Ok(sources) } else { Err(left) })
}

/// Does a file hold something else than the log says of it?
fn doubt(source: &Source, file: &LakeFile) -> Option<String> {
    let rows = source.metadata().file_metadata().num_rows();
    if file.stats.rows != u64::try_from(rows).ok() {
        return Some(format!("the log gives it {:?} rows, it has {rows}", file.stats.rows));
    }
    let journal = file.journal().unwrap_or_default().as_bytes();
    let mixed = source.metadata().row_groups().iter().any(|group| {
        let stats = chunk(group, Column::Journal).and_then(|chunk| chunk.statistics());
        stats.is_none_or(|stats| stats.min_bytes_opt() != Some(journal) || stats.max_bytes_opt() != Some(journal))
    });
    mixed.then(|| "its rows are not known to come from one journal".to_owned())
}

fn groups(files: &[Arc<LakeFile>], sources: &[Source], output: &FileEncoder) -> Vec<Group> {
    let mut groups = Vec::new();
    for (place, (file, source)) in files.iter().zip(sources).enumerate() {
        let done = maker(&file.path) == Maker::Compaction && output.takes(source.metadata());
        for (group, metadata) in source.metadata().row_groups().iter().enumerate() {
            let rows = u64::try_from(metadata.num_rows()).unwrap_or(0);
            let (bytes, times) = (decoded_bytes(metadata), int_bounds(metadata, Column::Timestamp));
            groups.push(Group { file: place, group, rows, bytes, times, done });
        }
    }
    groups
}

async fn tally(sources: &[Source]) -> Result<Tally, LakeError> {
    let mut sum = Tally::ZERO;
    for source in sources {
        sum = sum.plus(Tally::of(source).await?);
    }
    Ok(sum)
}

/// Reads the output back and compares.
async fn prove(files: &[Encoded], before: Tally) -> Result<Tally, LakeError> {
    let mut after = Tally::ZERO;
    for file in files {
        match Source::of(file.bytes.clone(), "the merged file").await? {
            Opened::Source(source) => after = after.plus(Tally::of(&source).await?),
            Opened::Foreign(why) => return Err(LakeError::Internal(format!("merge files: {why}"))),
        }
    }
    if before != after {
        return Err(LakeError::Internal(format!("merge files: {before:?} became {after:?}")));
    }
    Ok(after)
}

/// A place in the order of time; the position tells equal times apart.
type Key = (i64, i64);

/// Rows from one key on and before another.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Key,
    /// None: to the end.
    until: Option<Key>,
    /// It was read as one and was too large.
    halve: bool,
}

impl Span {
    const ALL: Span = Span { from: (i64::MIN, i64::MIN), until: None, halve: false };

    fn is_all(&self) -> bool {
        self.until.is_none() && self.from == Span::ALL.from
    }

    fn has(&self, key: Key) -> bool {
        key >= self.from && self.until.is_none_or(|until| key < until)
    }

    fn meets(&self, group: &Group) -> bool {
        group.times.1 >= self.from.0 && self.until.is_none_or(|until| group.times.0 <= until.0)
    }

    /// The span in pieces, at these keys, in order.
    fn cut(self, mut at: Vec<Key>) -> Vec<Span> {
        at.retain(|key| *key > self.from && self.has(*key));
        at.sort_unstable();
        at.dedup();
        let starts = std::iter::once(self.from).chain(at.iter().copied());
        let ends = at.iter().copied().map(Some).chain([self.until]);
        starts.zip(ends).map(|(from, until)| Span { from, until, halve: false }).collect()
    }
}

/// Writes the rows of groups whose times overlap as row groups whose times do not.
async fn rewrite(sources: &[Source], groups: &[Group], size: Size, output: &mut Output) -> Result<(), LakeError> {
    let mut spans = vec![Span::ALL];
    while let Some(span) = spans.pop() {
        let groups: Vec<Group> = groups.iter().filter(|group| span.meets(group)).copied().collect();
        let (rows, bytes) = sums(&groups);
        let choice = if span.is_all() && !span.halve && size.groups(rows, bytes) == 1 {
            Choice::All {
                readings: groups.into_iter().map(|group| (group, None)).collect(),
                bytes_max: Some(size.bytes * 2),
            }
        } else {
            choose(sources, groups, span, size).await?
        };
        match choice {
            Choice::All { readings, bytes_max } => match load(sources, readings, bytes_max).await? {
                Some(rows) => output.write(rows).await?,
                None => spans.push(Span { halve: true, ..span }),
            },
            Choice::Cut(pieces) => spans.extend(pieces.into_iter().rev()),
        }
    }
    Ok(())
}

/// What to do with a span.
enum Choice {
    /// Its rows are one row group, if they are no more bytes; None: they cannot be told apart.
    All { readings: Vec<(Group, Option<RowSelection>)>, bytes_max: Option<u64> },
    /// It is several.
    Cut(Vec<Span>),
}

/// Looks at the keys of a span.
async fn choose(sources: &[Source], groups: Vec<Group>, span: Span, size: Size) -> Result<Choice, LakeError> {
    let (mut keys, mut chosen, mut bytes) = (Vec::new(), Vec::new(), 0);
    for group in groups {
        let (found, selection) = select(&sources[group.file], group, span).await?;
        if !found.is_empty() {
            bytes += group.bytes.saturating_mul(found.len() as u64) / group.rows.max(1);
            chosen.push((group, Some(selection)));
        }
        keys.extend(found);
    }
    let wanted = size.groups(keys.len() as u64, bytes).max(if span.halve { 2 } else { 1 });
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(keys.len());
    if wanted < 2 {
        return Ok(Choice::All { readings: chosen, bytes_max: (keys.len() > 1).then_some(size.bytes * 2) });
    }
    keys.sort_unstable();
    let cuts = (1..wanted).filter_map(|piece| keys.get(keys.len() * piece / wanted).copied()).collect();
    let pieces = span.cut(cuts);
    Ok(if pieces.len() < 2 { Choice::All { readings: chosen, bytes_max: None } } else { Choice::Cut(pieces) })
}

/// The keys of a group that lie in a span, and where they are.
async fn select(source: &Source, group: Group, span: Span) -> Result<(Vec<Key>, RowSelection), LakeError> {
    let columns = Some(vec![Column::Timestamp, Column::Position]);
    let reading = Reading { group: group.group, columns, rows: None };
    source
        .read(reading, move |batches| {
            let rows = usize::try_from(group.rows).unwrap_or(0);
            let (mut keys, mut mask) = (Vec::new(), BooleanBufferBuilder::new(rows));
            for batch in batches {
                for key in batch_keys(&batch?)? {
                    let chosen = span.has(key);
                    mask.append(chosen);
                    if chosen {
                        keys.push(key);
                    }
                }
            }
            Ok((keys, RowSelection::from_boolean_buffer(mask.finish())))
        })
        .await
}

fn batch_keys(batch: &RecordBatch) -> Result<Vec<Key>, LakeError> {
    let missing = || LakeError::Internal("order rows: a column is missing".to_owned());
    let times = batch.column_by_name(Column::Timestamp.name());
    let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let positions = batch.column_by_name(Column::Position.name());
    let positions = positions.and_then(|positions| positions.as_primitive_opt::<Int64Type>());
    let (times, positions) = times.zip(positions).ok_or_else(missing)?;
    Ok(times.values().iter().copied().zip(positions.values().iter().copied()).collect())
}

/// Reads rows of groups into one batch. None: they are far larger than they were taken for.
async fn load(
    sources: &[Source],
    readings: Vec<(Group, Option<RowSelection>)>,
    bytes_max: Option<u64>,
) -> Result<Option<RecordBatch>, LakeError> {
    let bytes_max = bytes_max.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    let mut held = 0;
    let mut all: Vec<RecordBatch> = Vec::new();
    for (group, rows) in readings {
        let before = held;
        let reading = Reading { group: group.group, columns: None, rows };
        let read = sources[group.file].read(reading, move |batches| {
            let (mut part, mut held) = (Vec::new(), before);
            for batch in batches {
                let batch = batch?;
                held += bytes(&batch);
                part.push(batch);
                if held > bytes_max {
                    return Ok((part, held, true));
                }
            }
            Ok((part, held, false))
        });
        let (part, now, too_large) = read.await?;
        if too_large {
            return Ok(None);
        }
        held = now;
        all.extend(part);
    }
    blocking(move || join(&all)).await.map(Some)
}

/// The files that come out of a merge: nearly always one.
struct Output {
    options: EncodeOptions,
    file_bytes: usize,
    encoder: FileEncoder,
    done: Vec<Encoded>,
}

impl Output {
    fn new(thorough: bool, file_bytes: u64) -> Result<Self, LakeError> {
        let options = EncodeOptions { small: thorough };
        let file_bytes = usize::try_from(file_bytes).unwrap_or(usize::MAX);
        Ok(Self { options, file_bytes, encoder: FileEncoder::new(options)?, done: Vec::new() })
    }

    async fn write(&mut self, rows: RecordBatch) -> Result<(), LakeError> {
        self.step(move |encoder| encoder.write_group(&rows)).await
    }

    async fn copy(&mut self, source: &Source, group: Group) -> Result<(), LakeError> {
        let stored = source.stored(group.group).await?;
        self.step(move |encoder| encoder.take_over(&stored)).await
    }

    async fn step(
        &mut self,
        work: impl FnOnce(&mut FileEncoder) -> Result<(), LakeError> + Send + 'static,
    ) -> Result<(), LakeError> {
        // The inputs fit into one file; that the output does not is not worth a second one, unless by far.
        if self.encoder.bytes_written() >= self.file_bytes.saturating_add(self.file_bytes / 4) {
            self.close().await?;
        }
        let mut encoder = std::mem::replace(&mut self.encoder, FileEncoder::new(self.options)?);
        self.encoder = blocking(move || work(&mut encoder).map(|()| encoder)).await?;
        Ok(())
    }

    async fn close(&mut self) -> Result<(), LakeError> {
        let encoder = std::mem::replace(&mut self.encoder, FileEncoder::new(self.options)?);
        self.done.push(blocking(move || encoder.finish()).await?);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<Encoded>, LakeError> {
        self.close().await?;
        Ok(self.done)
    }
}
