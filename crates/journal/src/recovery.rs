//! Opens a directory: which journal it is, whether its segments are all there, and where the newest one really ends.
//! Cuts what was never acknowledged, leaves what is damaged, and reports both; logs nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::error::OpenError;
use crate::fs::{self, DirIdentity, File, Fs, Lock, LockError};
use crate::group::{self, Seed};
use crate::identity::{self, Identity};
use crate::journal::JournalId;
use crate::options::{Env, Options};
use crate::scan::Walker;
use crate::segment::{self, Block, Found, Header};
use crate::segments::Segment;
use crate::survey::{self, Damage, Known, Verdict};
use crate::writer::Active;

/// The file whose lock says that a process has the directory.
pub(crate) const LOCK_NAME: &str = "journal.lock";

/// One thing that recovery found or did. None of them lost anything that was acknowledged, except `Corruption`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A group that was never acknowledged was cut off the newest segment.
    TornTail {
        /// The segment's first position.
        segment: u64,
        /// Where it was cut.
        offset: u64,
        /// How many bytes were cut.
        bytes: u64,
    },
    /// Acknowledged bytes are damaged. They stay where they are; what is sound around them is still read.
    Corruption(Damage),
    /// One of a segment's two headers is damaged; the other served.
    HeaderCopyDamaged {
        /// The segment's first position.
        segment: u64,
    },
    /// Both headers of a segment are damaged; its groups are still read.
    HeaderLost {
        /// The segment's first position.
        segment: u64,
    },
    /// The directory is a copy or was moved to another device: positions go on under a new epoch.
    EpochGrew {
        /// The epoch before.
        from: u64,
        /// The epoch now.
        to: u64,
    },
    /// The identity file was missing or damaged and was made again from the segments.
    IdentityRebuilt {
        /// The epoch now.
        epoch: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail { segment, offset, bytes } => {
                write!(
                    f,
                    "cut {bytes} unacknowledged bytes at offset {offset} of {}",
                    segment::name(*segment)
                )
            }
            Self::Corruption(damage) => damage.fmt(f),
            Self::HeaderCopyDamaged { segment } => write!(f, "damaged header copy in {}", segment::name(*segment)),
            Self::HeaderLost { segment } => write!(f, "damaged header in {}", segment::name(*segment)),
            Self::EpochGrew { from, to } => write!(f, "directory is a copy: epoch grew from {from} to {to}"),
            Self::IdentityRebuilt { epoch } => write!(f, "rebuilt identity file: epoch {epoch}"),
        }
    }
}

/// What opening a journal found.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// The journal.
    pub id: JournalId,
    /// The first position that can be read; one more than `durable` when the journal is empty.
    pub first_available: u64,
    /// The last durable position; 0 in a journal that never had any.
    pub durable: u64,
    /// How many segments there are.
    pub segments: u64,
    /// What is worth telling, in the order in which it was found.
    pub events: Vec<Event>,
}

/// What the writer goes on from.
pub(crate) struct Recovered {
    pub(crate) lock: Box<dyn Lock>,
    pub(crate) identity: Identity,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) active: Active,
    pub(crate) next: u64,
    pub(crate) next_sequence: u64,
    pub(crate) report: Recovery,
}

/// Names the action and the path in an error.
pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A directory as it is, unjudged.
pub(crate) struct Contents {
    pub(crate) identity: Option<Block<Identity>>,
    /// Ascending.
    pub(crate) segments: Vec<Found>,
    pub(crate) temporaries: Vec<PathBuf>,
}

/// Reads names, identity and headers. Fails on a newer format; changes nothing.
pub(crate) fn load(fs: &dyn Fs, dir: &Path) -> Result<Contents, OpenError> {
    let newer = |found, path| OpenError::NewerFormat {
        found,
        supported: segment::MAJOR,
        path,
    };
    let mut contents = Contents {
        identity: None,
        segments: Vec::new(),
        temporaries: Vec::new(),
    };
    let names = match fs.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(contents),
        Err(error) => return Err(at("list directory", dir)(error)),
    };
    contents.identity = identity::read(fs, dir).map_err(at("read identity", &dir.join(identity::NAME)))?;
    if let Some(Block::Newer(found)) = contents.identity {
        return Err(newer(found, dir.join(identity::NAME)));
    }
    for name in names {
        if name.ends_with(segment::TEMPORARY) {
            contents.temporaries.push(dir.join(name));
        } else if let Some(first) = segment::parse_name(&name) {
            let found = segment::find(fs, dir, &name, first).map_err(at("read segment", &dir.join(&name)))?;
            contents
                .segments
                .push(found.map_err(|segment::Newer(found)| newer(found, dir.join(&name)))?);
        }
    }
    contents.segments.sort_by_key(|found| found.first);
    Ok(contents)
}

pub(crate) fn open(fs: &dyn Fs, env: &Env, options: &Options) -> Result<Recovered, OpenError> {
    let dir = options.dir.as_path();
    // A directory of a later version must not even get a lock file.
    load(fs, dir)?;
    fs.create_dir(dir).map_err(at("create directory", dir))?;
    let lock = fs.lock(&dir.join(LOCK_NAME)).map_err(|error| match error {
        LockError::Held(pid) => OpenError::Locked {
            pid,
            dir: dir.to_owned(),
        },
        LockError::Io(source) => at("lock directory", &dir.join(LOCK_NAME))(source),
    })?;
    let mut opening = Opening {
        fs,
        env,
        options,
        dir,
        events: Vec::new(),
    };
    let mut contents = load(fs, dir)?;
    for path in &contents.temporaries {
        fs.remove(path).map_err(at("remove temporary file", path))?;
    }
    // Names that a killed process left behind unsynced count as soon as we build on them.
    fs.sync_dir(dir).map_err(at("sync directory", dir))?;
    let (mut identity, fresh_epoch) = opening.identity(&contents)?;
    opening.finish_trim(&identity, &mut contents.segments)?;
    opening.check_present(&identity, &contents.segments)?;
    let (segments, active, next, next_sequence) = opening.segments(&identity, &contents.segments, fresh_epoch)?;
    let oldest = segments.first().map_or(1, |segment| segment.first);
    if (identity.first_available, identity.newest) != (oldest, active.segment.first) {
        (identity.first_available, identity.newest) = (oldest, active.segment.first);
        identity::write(fs, dir, &identity).map_err(at("write identity", &dir.join(identity::NAME)))?;
    }
    let report = Recovery {
        id: JournalId {
            uuid: identity.journal,
            epoch: identity.epoch,
        },
        first_available: oldest,
        durable: next - 1,
        segments: segments.len() as u64,
        events: opening.events,
    };
    Ok(Recovered {
        lock,
        identity,
        segments,
        active,
        next,
        next_sequence,
        report,
    })
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
        let here = self
            .fs
            .identity(self.dir)
            .map_err(at("read identity of directory", self.dir))?;
        let (identity, fresh_epoch) = match contents.identity {
            Some(Block::Valid(identity)) if identity.dir == here => (identity, false),
            Some(Block::Valid(old)) => {
                let identity = Identity {
                    epoch: old.epoch + 1,
                    dir: here,
                    ..old
                };
                self.events.push(Event::EpochGrew {
                    from: old.epoch,
                    to: identity.epoch,
                });
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
        }
    }

    fn rebuilt_identity(&mut self, dir: DirIdentity, segments: &[Found]) -> Result<Identity, OpenError> {
        let headers = || segments.iter().filter_map(|found| found.header);
        let Some(known) = headers().next_back() else {
            return Err(OpenError::Unreadable {
                dir: self.dir.to_owned(),
            });
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
        })
    }

    /// Removes segments that were trimmed but not deleted yet.
    fn finish_trim(&self, identity: &Identity, segments: &mut Vec<Found>) -> Result<(), OpenError> {
        let wanted = identity.first_available;
        if wanted > 0 && !segments.iter().any(|found| found.first == wanted) {
            let next = segments.iter().find(|found| found.first > wanted);
            let last = next.map(|found| found.first - 1);
            return Err(OpenError::Missing {
                first: wanted,
                last,
                dir: self.dir.to_owned(),
            });
        }
        let trimmed = segments.partition_point(|found| found.first < wanted);
        for found in segments.drain(..trimmed) {
            self.fs
                .remove(&found.path)
                .map_err(at("remove trimmed segment", &found.path))?;
        }
        if trimmed > 0 {
            self.fs.sync_dir(self.dir).map_err(at("sync directory", self.dir))?;
        }
        Ok(())
    }

    /// Every segment names the one before it; the identity names the newest.
    fn check_present(&self, identity: &Identity, segments: &[Found]) -> Result<(), OpenError> {
        let gap = segments
            .windows(2)
            .find_map(|pair| Some((&pair[0], find_missing([&pair[0], &pair[1]])?)));
        if let Some((before, last)) = gap {
            let first = self.survey(identity, before, None)?.0.next;
            return Err(OpenError::Missing {
                first,
                last: Some(last),
                dir: self.dir.to_owned(),
            });
        }
        if let Some(newest) = segments.last().filter(|found| found.first < identity.newest) {
            let first = self.survey(identity, newest, None)?.0.next;
            return Err(OpenError::Missing {
                first,
                last: None,
                dir: self.dir.to_owned(),
            });
        }
        Ok(())
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
                if fresh_epoch || found.header.is_none() {
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
                let header = Header {
                    journal,
                    salt,
                    epoch,
                    first: 1,
                    first_sequence: 1,
                    predecessor: None,
                    created_at,
                };
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
        let last = next.first - 1;
        let stated = next
            .header
            .and_then(|header| header.predecessor)
            .map(|predecessor| predecessor.end);
        if let Some(end) = stated.filter(|end| found.len >= *end) {
            return Ok(Segment::new(self.dir, found.first, seed, end, last, Vec::new()));
        }
        let (verdict, _) = self.survey(identity, found, stated.map(|end| (end, last)))?;
        self.events.extend(verdict.damages.into_iter().map(Event::Corruption));
        Ok(Segment::new(
            self.dir,
            found.first,
            seed,
            verdict.end,
            last,
            verdict.index,
        ))
    }

    /// The segment to go on with: cut where it was torn, and everything in it durable.
    fn newest(&mut self, identity: &Identity, found: &Found) -> Result<(Active, u64, u64), OpenError> {
        let (verdict, _) = self.survey(identity, found, None)?;
        if found.header.is_none() && verdict.next == found.first {
            // Neither header nor group: nobody can say which positions it held, so none may be given again.
            return Err(OpenError::Missing {
                first: found.first,
                last: None,
                dir: self.dir.to_owned(),
            });
        }
        let seed = Seed::new(identity.journal, identity.salt, found.first);
        let file = self
            .fs
            .open_writable(&found.path)
            .map_err(at("open segment", &found.path))?;
        let failed = at("repair segment", &found.path);
        let end = settle(&*file, &verdict, seed).map_err(failed)?;
        if verdict.torn > 0 {
            self.events.push(Event::TornTail {
                segment: found.first,
                offset: verdict.end,
                bytes: verdict.torn,
            });
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
        let segment = Segment::new(self.dir, found.first, seed, end, last, verdict.index);
        let allocated = file.len().map_err(at("read length of segment", &found.path))?;
        let marks = u64::from(end > verdict.end);
        let marked = verdict.marked || marks > 0;
        let active = Active {
            segment,
            file,
            header,
            end,
            allocated,
            marked,
            writable: true,
        };
        Ok((active, verdict.next, verdict.next_sequence + marks))
    }
}

/// The last position of the gap between two segments, if the second does not name the first.
pub(crate) fn find_missing([before, after]: [&Found; 2]) -> Option<u64> {
    let predecessor = after.header?.predecessor;
    (predecessor.map(|predecessor| predecessor.first) != Some(before.first)).then_some(after.first - 1)
}

pub(crate) fn survey_found(
    file: &Arc<dyn File>,
    identity: &Identity,
    found: &Found,
    sealed: Option<(u64, u64)>,
) -> io::Result<Verdict> {
    let seed = Seed::new(identity.journal, identity.salt, found.first);
    let first_sequence = found.header.map_or(0, |header| header.first_sequence);
    let known = Known {
        segment: found.first,
        first_sequence,
        sealed,
        len: found.len,
    };
    survey::survey(&mut Walker::new(Arc::clone(file), seed, segment::HEADER), known)
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

/// The identity to verify a directory by: the stored one, or what any header says.
pub(crate) fn identity_of(contents: &Contents) -> Option<Identity> {
    if let Some(Block::Valid(identity)) = contents.identity {
        return Some(identity);
    }
    let header = contents.segments.iter().find_map(|found| found.header)?;
    Some(Identity {
        journal: header.journal,
        salt: header.salt,
        epoch: header.epoch,
        dir: DirIdentity { device: 0, inode: 0 },
        first_available: 0,
        newest: 0,
    })
}

/// The journal's name in a report; nil when nothing can be read.
pub(crate) fn id_of(identity: Option<&Identity>) -> JournalId {
    identity.map_or(
        JournalId {
            uuid: Uuid::nil(),
            epoch: 0,
        },
        |identity| JournalId {
            uuid: identity.journal,
            epoch: identity.epoch,
        },
    )
}
