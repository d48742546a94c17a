//! The one thread that writes: takes what waits, writes it as one group, syncs once, answers in order. Decides what a
//! failed write or sync means; reads nothing back.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{AppendError, Class, CloseError, classify};
use crate::frame::Frame;
use crate::fs::{self, File, Fs, Lock};
use crate::group::{self, Builder, Seed};
use crate::identity::Identity;
use crate::journal::{Health, Shared};
use crate::options::{Env, Options, SyncPolicy};
use crate::queue::{Appended, Entry, Work};
use crate::segment::{self, Header, Predecessor};
use crate::segments::Segment;

/// The segment that groups go to.
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: Header,
    /// Where the next group goes.
    pub(crate) end: u64,
    /// Up to where space is reserved.
    pub(crate) allocated: u64,
    /// Whether nothing was written that no mark vouches for.
    pub(crate) marked: bool,
    /// False after a failed write or sync, and as soon as a successor may exist: never written or synced again.
    pub(crate) writable: bool,
}

impl Active {
    pub(crate) fn create(fs: &dyn Fs, options: &Options, header: Header) -> io::Result<Self> {
        let preallocate = options.preallocate_bytes.min(options.segment_bytes);
        let file = segment::create(fs, &options.dir, &header, preallocate)?;
        let seed = Seed::new(header.journal, header.salt, header.first);
        let first = header.first;
        let segment =
            Segment::new(&options.dir, (first, header.created_at), seed, segment::HEADER, first - 1, Vec::new());
        let allocated = file.len()?;
        Ok(Self { segment, file, header, end: segment::HEADER, allocated, marked: true, writable: true })
    }

    /// The header of the segment after this one. A segment without positions has the same name and is replaced.
    pub(crate) fn successor(&self, identity: &Identity, next: u64, next_sequence: u64, created_at: i64) -> Header {
        let predecessor = if self.segment.last() < self.segment.first {
            self.header.predecessor
        } else {
            Some(Predecessor { first: self.segment.first, end: self.segment.end() })
        };
        let (journal, salt, epoch) = (identity.journal, identity.salt, identity.epoch);
        Header { journal, salt, epoch, first: next, first_sequence: next_sequence, predecessor, created_at }
    }
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) env: Env,
    pub(crate) active: Active,
    pub(crate) next: u64,
    pub(crate) next_sequence: u64,
    pub(crate) builder: Builder,
    /// The identity file does not name the newest segment yet.
    pub(crate) newest_stale: bool,
    pub(crate) failed: Option<Arc<io::Error>>,
    /// Held until the thread ends.
    pub(crate) lock: Box<dyn Lock>,
}

/// Why a group was not stored.
struct Refusal {
    error: io::Error,
    /// Whether the bytes may be on disk all the same.
    written: bool,
}

impl Writer {
    pub(crate) fn run(mut self) -> Result<(), CloseError> {
        let _guard = Guard(Arc::clone(&self.shared));
        let retry = self.shared.options.retry_interval;
        while self.turn(|waits_for_the_disk| waits_for_the_disk.then_some(retry)) {}
        self.end()
    }

    /// One group, or one look whether the disk serves again. `patience` says how long to wait for frames; it is told
    /// whether there is something to look at. False: closed, and everything was taken.
    pub(crate) fn turn(&mut self, patience: impl FnOnce(bool) -> Option<Duration>) -> bool {
        let waits_for_the_disk = self.failed.is_none() && !self.shared.health().is_ok();
        let patience = patience(waits_for_the_disk || self.newest_stale);
        match self.shared.queue.take(self.shared.options.group_bytes(), patience) {
            Work::Group(entries) => self.group(entries),
            Work::Idle if waits_for_the_disk => self.probe(),
            Work::Idle => {}
            Work::Closed => return false,
        }
        if self.newest_stale && self.failed.is_none() {
            self.newest_stale = self.shared.note_newest(self.active.segment.first).is_err();
        }
        true
    }

    pub(crate) fn end(mut self) -> Result<(), CloseError> {
        let result = self.finish();
        self.shared.tail.close();
        drop(self.lock);
        result.map_err(|error| CloseError { source: Arc::new(error) })
    }

    fn group(&mut self, entries: Vec<Entry>) {
        if let Some(source) = &self.failed {
            let error = AppendError::Failed { source: Arc::clone(source) };
            return self.refuse(entries, &error);
        }
        self.builder.start(self.next);
        for entry in &entries {
            self.builder.push(entry.items, &entry.payload);
        }
        self.builder.finish();
        match self.store() {
            Ok(offset) => self.committed(entries, offset),
            Err(error) => {
                if let AppendError::Failed { source } = &error {
                    self.fail(Arc::clone(source));
                }
                self.refuse(entries, &error);
            }
        }
    }

    /// Stores the group in the builder and gives its offset. A first failure of the device moves to a new segment; a
    /// second one is final.
    fn store(&mut self) -> Result<u64, AppendError> {
        let (mut broken, mut uncertain, mut moved) = (false, false, false);
        loop {
            let refusal = match self.try_store() {
                Ok(offset) => return Ok(offset),
                Err(refusal) => refusal,
            };
            uncertain |= refusal.written;
            let class = classify(&refusal.error);
            let too_large = refusal.error.kind() == io::ErrorKind::FileTooLarge;
            if too_large && !moved && self.active.end > segment::HEADER {
                moved = true;
                self.active.writable = false;
                continue;
            }
            let source = Arc::new(refusal.error);
            let error = match class {
                Class::Full => AppendError::DiskFull { uncertain, source: Arc::clone(&source) },
                Class::Refused => AppendError::Unavailable { uncertain, source: Arc::clone(&source) },
                Class::Broken if broken => return Err(AppendError::Failed { source }),
                Class::Broken => {
                    broken = true;
                    self.shared.stats_mut().failed_writes += 1;
                    continue;
                }
            };
            self.shared.set_health(match class {
                Class::Full => Health::DiskFull(source),
                _ => Health::Unavailable(source),
            });
            return Err(error);
        }
    }

    fn try_store(&mut self) -> Result<u64, Refusal> {
        let len = self.builder.len();
        let full = self.active.end + len > self.shared.options.segment_bytes && self.active.end > segment::HEADER;
        if full || !self.active.writable {
            self.rotate().map_err(|error| Refusal { error, written: false })?;
        }
        let offset = self.active.end;
        self.reserve(offset + len);
        let durable = self.durable_offset();
        let bytes = self.builder.place(self.active.segment.seed, offset, durable, self.next_sequence);
        write_group(&self.shared, &mut self.active, bytes)?;
        Ok(offset)
    }

    /// What the next group may call durable: without syncs, no more than the segment's header.
    fn durable_offset(&self) -> u64 {
        match self.shared.options.sync {
            SyncPolicy::EveryGroup => self.active.end,
            SyncPolicy::Never => segment::HEADER,
        }
    }

    /// Reserves space in steps, so that most syncs find the length and the blocks in place. The writes will tell where
    /// it does not help.
    fn reserve(&mut self, end: u64) {
        let options = &self.shared.options;
        if options.preallocate_bytes == 0 || end <= self.active.allocated {
            return;
        }
        let ahead = (end + options.preallocate_bytes).min(options.segment_bytes).max(end);
        let from = self.active.allocated.max(self.active.end);
        if self.active.file.allocate(from, ahead - from).is_ok() {
            self.active.allocated = ahead;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.active.writable {
            self.active.writable = false;
            if self.shared.options.sync == SyncPolicy::Never {
                fs::sync(&*self.active.file)?;
            }
            let _ = self.active.file.set_len(self.active.end);
        }
        let identity = self.shared.identity();
        let header = self.active.successor(&identity, self.next, self.next_sequence, (self.env.clock)());
        self.active = Active::create(&*self.shared.fs, &self.shared.options, header)?;
        self.shared.segments.push(Arc::clone(&self.active.segment));
        self.newest_stale = true;
        Ok(())
    }

    fn committed(&mut self, entries: Vec<Entry>, offset: u64) {
        let first = self.next;
        self.next = self.builder.next();
        self.next_sequence += 1;
        self.active.marked = false;
        self.active.end = offset + self.builder.len();
        self.active.segment.advance(self.active.end, self.next - 1);
        self.active.segment.note(first, offset);
        let (mut position, mut bytes) = (first, 0);
        let mut frames = Vec::with_capacity(entries.len());
        let mut answers = Vec::with_capacity(entries.len());
        for Entry { payload, items, done } in entries {
            let frame = Frame { first: position, items, payload };
            bytes += frame.payload.len();
            position += u64::from(items);
            answers.push((Appended { first: frame.first, last: frame.last() }, done));
            frames.push(frame);
        }
        {
            let mut stats = self.shared.stats_mut();
            stats.groups += 1;
            stats.frames += frames.len() as u64;
            stats.items += self.next - first;
            stats.payload_bytes += bytes as u64;
            stats.written_bytes += self.builder.len();
        }
        self.shared.tail.extend(frames.into_iter(), self.next - 1);
        self.shared.set_health(Health::Ok);
        self.shared.queue.release(answers.len(), bytes);
        for (appended, done) in answers {
            self.answer(done, Ok(appended));
        }
        self.shared.tail.wake();
    }

    fn refuse(&self, entries: Vec<Entry>, error: &AppendError) {
        self.shared.queue.release(entries.len(), entries.iter().map(|entry| entry.payload.len()).sum());
        for entry in entries {
            self.answer(entry.done, Err(error.clone()));
        }
    }

    /// A callback that panics must not take the journal with it.
    fn answer(&self, done: crate::queue::Done, answer: Result<Appended, AppendError>) {
        if catch_unwind(AssertUnwindSafe(|| done(answer))).is_err() {
            self.shared.stats_mut().callback_panics += 1;
        }
    }

    fn fail(&mut self, source: Arc<io::Error>) {
        self.active.writable = false;
        self.shared.fail(&source);
        if let Some(on_fatal) = &self.shared.options.on_fatal {
            let _ = catch_unwind(AssertUnwindSafe(|| on_fatal(&source)));
        }
        self.failed = Some(source);
    }

    /// Looks whether the file system would serve us again, so that a caller that waits for health need not append.
    fn probe(&mut self) {
        let served = if self.active.writable {
            let ahead = self.shared.options.group_bytes as u64;
            match self.active.file.allocate(self.active.end, ahead.clamp(group::ALIGN, 1 << 20)) {
                Ok(()) => true,
                // Where space cannot be reserved, only a write can tell.
                Err(error) => classify(&error) == Class::Broken,
            }
        } else {
            self.rotate().is_ok()
        };
        if served {
            self.shared.set_health(Health::Ok);
        }
    }

    /// Leaves a mark that vouches for the last group, so that damage to it is not taken for a torn tail.
    fn finish(&mut self) -> io::Result<()> {
        if self.failed.is_some() || !self.active.writable || self.active.marked {
            return Ok(());
        }
        let (file, end) = (&*self.active.file, self.active.end);
        if self.shared.options.sync == SyncPolicy::Never {
            fs::sync(file)?;
        }
        let mark = group::mark(self.active.segment.seed, end, end, self.next_sequence, self.next);
        match fs::write_all(file, &mark, end) {
            Ok(()) => {
                let _ = file.set_len(end + mark.len() as u64);
                fs::sync(file)
            }
            // Everything acknowledged is durable already; only the mark is missing.
            Err(error) if classify(&error) != Class::Broken => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn write_group(shared: &Shared, active: &mut Active, bytes: &[u8]) -> Result<(), Refusal> {
    if let Err(error) = fs::write_all(&*active.file, bytes, active.end) {
        let broken = classify(&error) == Class::Broken;
        if broken {
            active.writable = false;
        } else {
            // What was written is no group; the next one goes over it. Its blocks may be what is missing.
            let _ = active.file.set_len(active.end);
            active.allocated = active.end;
        }
        return Err(Refusal { error, written: broken });
    }
    if shared.options.sync == SyncPolicy::EveryGroup {
        let started = Instant::now();
        if let Err(error) = fs::sync(&*active.file) {
            // The kernel may have dropped the pages and forgotten the error: no later sync of this file means anything.
            active.writable = false;
            return Err(Refusal { error, written: true });
        }
        let took = started.elapsed();
        let mut stats = shared.stats_mut();
        stats.syncs += 1;
        stats.sync_time += took;
        stats.sync_time_max = stats.sync_time_max.max(took);
    }
    Ok(())
}

/// Should the writer itself panic, nobody may wait for it for ever.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let source = Arc::new(io::Error::other("writer panicked"));
        self.0.fail(&source);
        self.0.queue.close();
        while let Work::Group(entries) = self.0.queue.take(usize::MAX, None) {
            for entry in entries {
                (entry.done)(Err(AppendError::Failed { source: Arc::clone(&source) }));
            }
        }
        self.0.tail.close();
    }
}
