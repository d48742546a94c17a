//! Opens a directory: which journal it is, whether its segments are all there, and where the newest one really ends.
//! Cuts what was never acknowledged, leaves what is damaged, and reports both; logs nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::directory::{Contents, at, find_missing, load, stated, survey_found};
use crate::epochs::{self, BEGINS_MAX, Begin, EpochRange, Stated};
use crate::error::OpenError;
use crate::fs::{self, DirIdentity, File, Fs, Lock, LockError};
use crate::group::{self, Seed};
use crate::identity::{self, Identity};
use crate::journal::JournalId;
use crate::options::{Env, Options};
use crate::report::{Event, Recovery};
use crate::segment::{self, Block, Found, Header};
use crate::segments::Segment;
use crate::survey::Verdict;
use crate::writer::Active;

/// The file whose lock says that a process has the directory.
pub(crate) const LOCK_NAME: &str = "journal.lock";

/// What the writer goes on from.
pub(crate) struct Recovered {
    pub(crate) lock: Box<dyn Lock>,
    pub(crate) identity: Identity,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) epochs: Vec<EpochRange>,
    pub(crate) active: Active,
    pub(crate) next: u64,
    pub(crate) next_sequence: u64,
    pub(crate) report: Recovery,
}

pub(crate) fn open(fs: &dyn Fs, env: &Env, options: &Options) -> Result<Recovered, OpenError> {
    let dir = options.dir.as_path();
    // A directory of a later version must not even get a lock file.
    load(fs, dir)?;
    fs.create_dir(dir).map_err(at("create directory", dir))?;
    let lock = fs.lock(&dir.join(LOCK_NAME)).map_err(|error| match error {
        LockError::Held(pid) => OpenError::Locked { pid, dir: dir.to_owned() },
        LockError::Io(source) => at("lock directory", &dir.join(LOCK_NAME))(source),
    })?;
    let mut opening = Opening { fs, env, options, dir, events: Vec::new() };
    let mut contents = load(fs, dir)?;
    for path in &contents.temporaries {
        fs.remove(path).map_err(at("remove temporary file", path))?;
    }
    // Names that a killed process left behind unsynced count as soon as we build on them.
    fs.sync_dir(dir).map_err(at("sync directory", dir))?;
    let (mut identity, mut fresh_epoch) = opening.identity(&contents)?;
    opening.finish_trim(&identity, &mut contents.segments)?;
    opening.check_present(&identity, &contents.segments)?;
    fresh_epoch |= opening.begin_epoch(&mut identity, &contents.segments)?;
    let (segments, active, next, next_sequence) = opening.segments(&identity, &contents.segments, fresh_epoch)?;
    let mut stated = stated(&contents.segments);
    stated.retain(|segment| segment.first != active.segment.first);
    stated.push(Stated { first: active.segment.first, epoch: Some(active.header.epoch) });
    let epochs = epochs::ranges(&stated, &identity.begins, identity.epoch);
    let oldest = segments.first().map_or(1, |segment| segment.first);
    if (identity.first_available, identity.newest) != (oldest, active.segment.first) {
        (identity.first_available, identity.newest) = (oldest, active.segment.first);
        identity::write(fs, dir, &identity).map_err(at("write identity", &dir.join(identity::NAME)))?;
    }
    let report = Recovery {
        id: JournalId { uuid: identity.journal, epoch: identity.epoch },
        first_available: oldest,
        durable: next - 1,
        segments: segments.len() as u64,
        events: opening.events,
    };
    Ok(Recovered { lock, identity, segments, epochs, active, next, next_sequence, report })
}

struct Opening<'a> {
    fs: &'a dyn Fs,
    env: &'a Env,
    options: &'a Options,
    dir: &'a Path,
    events: Vec<Event>,
}

type Opened = (Vec<Arc<Segment>>, Active, u64, u64);

impl Opening<'_> {
    /// The identity to go on under, durable, and whether its epoch is new.
    fn identity(&mut self, contents: &Contents) -> Result<(Identity, bool), OpenError> {
        let here = self.fs.identity(self.dir).map_err(at("read identity of directory", self.dir))?;
        let (identity, fresh_epoch) = match contents.identity {
            Some(Block::Valid(identity)) if identity.dir == here => (identity, false),
            Some(Block::Valid(old)) => {
                let identity = Identity { epoch: old.epoch + 1, dir: here, ..old };
                self.events.push(Event::EpochGrew { from: old.epoch, to: identity.epoch });
                (identity, true)
            }
            None if contents.segments.is_empty() => (self.new_identity(here), true),
            _ => (self.rebuilt_identity(here, &contents.segments)?, true),
        };
        for found in &contents.segments {
            if let Some(header) = found.header.filter(|header| header.journal != identity.journal) {
                let (found, expected, path) = (header.journal, identity.journal, found.path.clone());
                return Err(OpenError::Foreign { found, expected, path });
            }
        }
        if fresh_epoch {
            let path = self.dir.join(identity::NAME);
            identity::write(self.fs, self.dir, &identity).map_err(at("write identity", &path))?;
        }
        Ok((identity, fresh_epoch))
    }

    fn new_identity(&self, dir: DirIdentity) -> Identity {
        let (mut uuid, mut salt) = ([0; 16], [0; 8]);
        (self.env.entropy)(&mut uuid);
        (self.env.entropy)(&mut salt);
        let journal = uuid::Builder::from_random_bytes(uuid).into_uuid();
        Identity {
            journal,
            salt: u64::from_le_bytes(salt),
            epoch: 1,
            dir,
            first_available: 0,
            newest: 0,
            begins: Default::default(),
        }
    }

    fn rebuilt_identity(&mut self, dir: DirIdentity, segments: &[Found]) -> Result<Identity, OpenError> {
        let headers = || segments.iter().filter_map(|found| found.header);
        let Some(known) = headers().next_back() else {
            return Err(OpenError::Unreadable { dir: self.dir.to_owned() });
        };
        let epoch = headers().map(|header| header.epoch).max().unwrap_or(0) + 1;
        self.events.push(Event::IdentityRebuilt { epoch });
        let first = |found: Option<&Found>| found.map_or(0, |found| found.first);
        let (first_available, newest) = (first(segments.first()), first(segments.last()));
        Ok(Identity {
            journal: known.journal,
            salt: known.salt,
            epoch,
            dir,
            first_available,
            newest,
            begins: Default::default(),
        })
    }

    /// Removes segments that were trimmed but not deleted yet.
    fn finish_trim(&self, identity: &Identity, segments: &mut Vec<Found>) -> Result<(), OpenError> {
        let wanted = identity.first_available;
        if wanted > 0 && !segments.iter().any(|found| found.first == wanted) {
            let next = segments.iter().find(|found| found.first > wanted);
            let last = next.map(|found| found.first - 1);
            return Err(OpenError::Missing { first: wanted, last, dir: self.dir.to_owned() });
        }
        let trimmed = segments.partition_point(|found| found.first < wanted);
        for found in segments.drain(..trimmed) {
            self.fs.remove(&found.path).map_err(at("remove trimmed segment", &found.path))?;
        }
        if trimmed > 0 {
            self.fs.sync_dir(self.dir).map_err(at("sync directory", self.dir))?;
        }
        Ok(())
    }

    /// Every segment names the one before it; the identity names the newest.
    fn check_present(&self, identity: &Identity, segments: &[Found]) -> Result<(), OpenError> {
        let gap = segments.windows(2).find_map(|pair| Some((&pair[0], find_missing([&pair[0], &pair[1]])?)));
        if let Some((before, last)) = gap {
            let first = self.survey(identity, before, None)?.0.next;
            return Err(OpenError::Missing { first, last: Some(last), dir: self.dir.to_owned() });
        }
        if let Some(newest) = segments.last().filter(|found| found.first < identity.newest) {
            let first = self.survey(identity, newest, None)?.0.next;
            return Err(OpenError::Missing { first, last: None, dir: self.dir.to_owned() });
        }
        Ok(())
    }

    /// Lets positions count under a new epoch, where that was asked for and is not so already. True: it did.
    fn begin_epoch(&mut self, identity: &mut Identity, all: &[Found]) -> Result<bool, OpenError> {
        let Some(position) = self.options.new_epoch_from else { return Ok(false) };
        let next = all.last().map_or(Ok(1), |newest| Ok(self.survey(identity, newest, None)?.0.next))?;
        let first = all.first().map_or(1, |oldest| oldest.first);
        if !(first..=next).contains(&position) {
            let (last, dir) = (next - 1, self.dir.to_owned());
            return Err(OpenError::NoSuchPosition { position, first, last, dir });
        }
        let ranges = epochs::ranges(&stated(all), &identity.begins, identity.epoch);
        let begun = identity.begins.iter().any(|begin| begin.epoch > 0 && begin.first == position);
        if begun || ranges.iter().skip(1).any(|range| range.first == position) {
            return Ok(false);
        }
        // Those are forgotten that say no more than the segments that are left.
        let covers = |begin: &Begin| {
            let last = |i: usize| all.get(i + 1).map_or(next, |after| after.first) - 1;
            all.iter().enumerate().any(|(i, found)| {
                last(i) >= begin.first && found.header.is_none_or(|header| header.epoch < begin.epoch)
            })
        };
        let mut begins: Vec<Begin> =
            identity.begins.into_iter().filter(|begin| begin.epoch > 0).filter(covers).collect();
        let epoch = identity.epoch + 1;
        begins.push(Begin { epoch, first: position });
        if begins.len() > BEGINS_MAX {
            return Err(OpenError::TooManyEpochs { max: BEGINS_MAX, dir: self.dir.to_owned() });
        }
        begins.resize(BEGINS_MAX, Begin::default());
        let mut changed = Identity { epoch, ..*identity };
        changed.begins.copy_from_slice(&begins);
        let path = self.dir.join(identity::NAME);
        identity::write(self.fs, self.dir, &changed).map_err(at("write identity", &path))?;
        *identity = changed;
        self.events.push(Event::EpochBegun { epoch, first: position });
        Ok(true)
    }

    fn survey(
        &self,
        identity: &Identity,
        found: &Found,
        sealed: Option<(u64, u64)>,
    ) -> Result<(Verdict, Arc<dyn File>), OpenError> {
        let file = self.fs.open(&found.path).map_err(at("open segment", &found.path))?;
        let verdict = survey_found(&file, identity, found, sealed).map_err(at("read segment", &found.path))?;
        Ok((verdict, file))
    }

    fn segments(&mut self, identity: &Identity, all: &[Found], fresh_epoch: bool) -> Result<Opened, OpenError> {
        for found in all {
            if found.header.is_none() {
                self.events.push(Event::HeaderLost { segment: found.first });
            } else if found.copy_damaged {
                self.events.push(Event::HeaderCopyDamaged { segment: found.first });
            }
        }
        let mut segments = Vec::with_capacity(all.len() + 1);
        for (i, found) in all.iter().enumerate() {
            if let Some(successor) = all.get(i + 1) {
                segments.push(self.sealed(identity, found, successor)?);
            }
        }
        let (active, next, next_sequence) = match all.last() {
            Some(found) => {
                let (active, next, next_sequence) = self.newest(identity, found)?;
                // The epoch may have grown just before a crash: what it gets must not stand under the one before.
                let of_the_epoch = found.header.is_some_and(|header| header.epoch == identity.epoch);
                if fresh_epoch || !of_the_epoch {
                    if active.segment.last() >= active.segment.first {
                        segments.push(Arc::clone(&active.segment));
                    }
                    let header = active.successor(identity, next, next_sequence, (self.env.clock)());
                    (self.create(header)?, next, next_sequence)
                } else {
                    (active, next, next_sequence)
                }
            }
            None => {
                let (journal, salt, epoch) = (identity.journal, identity.salt, identity.epoch);
                let created_at = (self.env.clock)();
                let header =
                    Header { journal, salt, epoch, first: 1, first_sequence: 1, predecessor: None, created_at };
                (self.create(header)?, 1, 1)
            }
        };
        segments.push(Arc::clone(&active.segment));
        Ok((segments, active, next, next_sequence))
    }

    fn create(&self, header: Header) -> Result<Active, OpenError> {
        let path = self.dir.join(segment::name(header.first));
        Active::create(self.fs, self.options, header).map_err(at("create segment", &path))
    }

    /// A segment with a successor. It is read only when its length or its successor leaves doubt.
    fn sealed(&mut self, identity: &Identity, found: &Found, next: &Found) -> Result<Arc<Segment>, OpenError> {
        let seed = Seed::new(identity.journal, identity.salt, found.first);
        let place = (found.first, found.header.map_or(0, |header| header.created_at));
        let last = next.first - 1;
        let stated = next.header.and_then(|header| header.predecessor).map(|predecessor| predecessor.end);
        if let Some(end) = stated.filter(|end| found.len >= *end) {
            return Ok(Segment::new(self.dir, place, seed, end, last, Vec::new()));
        }
        let (verdict, _) = self.survey(identity, found, stated.map(|end| (end, last)))?;
        self.events.extend(verdict.damages.into_iter().map(Event::Corruption));
        Ok(Segment::new(self.dir, place, seed, verdict.end, last, verdict.index))
    }

    /// The segment to go on with: cut where it was torn, and everything in it durable.
    fn newest(&mut self, identity: &Identity, found: &Found) -> Result<(Active, u64, u64), OpenError> {
        let (verdict, _) = self.survey(identity, found, None)?;
        if found.header.is_none() && verdict.next == found.first {
            // Neither header nor group: nobody can say which positions it held, so none may be given again.
            return Err(OpenError::Missing { first: found.first, last: None, dir: self.dir.to_owned() });
        }
        let seed = Seed::new(identity.journal, identity.salt, found.first);
        let file = self.fs.open_writable(&found.path).map_err(at("open segment", &found.path))?;
        let failed = at("repair segment", &found.path);
        let end = settle(&*file, &verdict, seed).map_err(failed)?;
        if verdict.torn > 0 {
            self.events.push(Event::TornTail { segment: found.first, offset: verdict.end, bytes: verdict.torn });
        }
        self.events.extend(verdict.damages.into_iter().map(Event::Corruption));
        let header = found.header.unwrap_or(Header {
            journal: identity.journal,
            salt: identity.salt,
            epoch: identity.epoch,
            first: found.first,
            first_sequence: 0,
            predecessor: None,
            created_at: 0,
        });
        let last = verdict.next - 1;
        let segment = Segment::new(self.dir, (found.first, header.created_at), seed, end, last, verdict.index);
        let allocated = file.len().map_err(at("read length of segment", &found.path))?;
        let marks = u64::from(end > verdict.end);
        let marked = verdict.marked || marks > 0;
        let active = Active { segment, file, header, end, allocated, marked, writable: true };
        Ok((active, verdict.next, verdict.next_sequence + marks))
    }
}

/// Makes what was found durable and cuts what is torn. Gives where the next group goes.
///
/// What no later group vouches for may sit in the page cache only, even marked clean by a sync that failed before a
/// crash: it is written again, so that this sync means something. A cut leaves a mark, or else damage before it would
/// look like one more torn tail to the next recovery, and its positions would be given again.
fn settle(file: &dyn File, verdict: &Verdict, seed: Seed) -> io::Result<u64> {
    let mut at = verdict.durable;
    let mut buffer = vec![0; 1 << 20];
    while at < verdict.end {
        let wanted = (verdict.end - at).min(buffer.len() as u64) as usize;
        let read = fs::read_full(file, &mut buffer[..wanted], at)?;
        fs::write_all(file, &buffer[..read], at)?;
        if read == 0 {
            break;
        }
        at += read as u64;
    }
    fs::sync(file)?;
    if verdict.torn == 0 {
        return Ok(verdict.end);
    }
    let mark = group::mark(seed, verdict.end, verdict.end, verdict.next_sequence, verdict.next);
    let end = verdict.end + mark.len() as u64;
    fs::write_all(file, &mark, verdict.end)?;
    fs::sync(file)?;
    file.set_len(end)?;
    fs::sync(file)?;
    Ok(end)
}
