//! Idempotency keys: the answer to a request is kept under its key, so that a repetition gets the same answer and
//! changes nothing. Owns the keys in flight and the answered ones, bounded in bytes, oldest out first.
//!
//! The rules are those of the IETF draft "The Idempotency-Key HTTP Header Field": the same key with another body is
//! refused, and a repetition that comes while the first is in flight waits for that answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runstone_record::wire::IngestAnswer;
use tokio::sync::watch;

/// What a key costs beside its texts.
const KEY_BYTES: usize = 256;

#[derive(Debug)]
enum State {
    InFlight { body_hash: u64, done: watch::Sender<()> },
    Answered { body_hash: u64, answer: Arc<IngestAnswer>, bytes: usize },
}

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<String, State>,
    order: VecDeque<String>,
    bytes: usize,
}

/// The keys that the server remembers.
#[derive(Debug)]
pub(crate) struct Keys {
    known: Mutex<Known>,
    bytes_max: usize,
}

/// What a key says of its request.
#[derive(Debug)]
pub(crate) enum Begin {
    /// It is new: answer it, then [`Keys::finish`].
    New,
    /// It was answered before.
    Replay(Arc<IngestAnswer>),
    /// Its first request is in flight: wait, then ask again.
    Wait(watch::Receiver<()>),
    /// It came with another body.
    Reused,
}

impl Keys {
    /// At most `bytes_max` bytes of keys and answers.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { known: Mutex::default(), bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a key for a request, or says what is known of it.
    pub(crate) fn begin(&self, key: &str, body_hash: u64) -> Begin {
        let mut known = self.lock();
        match known.keys.get(key) {
            None => {
                let done = watch::Sender::new(());
                known.keys.insert(key.to_owned(), State::InFlight { body_hash, done });
                Begin::New
            }
            Some(State::InFlight { body_hash: first, .. } | State::Answered { body_hash: first, .. })
                if *first != body_hash =>
            {
                Begin::Reused
            }
            Some(State::InFlight { done, .. }) => Begin::Wait(done.subscribe()),
            Some(State::Answered { answer, .. }) => Begin::Replay(Arc::clone(answer)),
        }
    }

    /// Ends a request that [`Keys::begin`] called new. Without an answer that stored anything the key is free again:
    /// nothing happened that a repetition could double.
    pub(crate) fn finish(&self, key: &str, answer: Option<Arc<IngestAnswer>>) {
        let mut known = self.lock();
        // Dropping the sender wakes those that wait.
        let Some(State::InFlight { body_hash, .. }) = known.keys.remove(key) else { return };
        if let Some(answer) = answer {
            self.insert(&mut known, key, body_hash, answer);
        }
    }

    /// Remembers a key that was answered before a restart.
    pub(crate) fn remember(&self, key: &str, body_hash: u64, answer: Arc<IngestAnswer>) {
        let mut known = self.lock();
        if !known.keys.contains_key(key) {
            self.insert(&mut known, key, body_hash, answer);
        }
    }

    fn insert(&self, known: &mut Known, key: &str, body_hash: u64, answer: Arc<IngestAnswer>) {
        let errors = answer.errors.iter().map(|error| error.message.len() + error.code.len() + 64).sum::<usize>();
        let bytes = KEY_BYTES + 2 * key.len() + errors;
        known.bytes += bytes;
        known.keys.insert(key.to_owned(), State::Answered { body_hash, answer, bytes });
        known.order.push_back(key.to_owned());
        while known.bytes > self.bytes_max {
            let Some(oldest) = known.order.pop_front() else { return };
            if let Some(State::Answered { bytes, .. }) = known.keys.remove(&oldest) {
                known.bytes -= bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Arc<IngestAnswer> {
        Arc::new(IngestAnswer {
            accepted: 1,
            duplicates: 0,
            rejected: 0,
            journal: None,
            first_position: Some(1),
            last_position: Some(1),
            errors: Vec::new(),
        })
    }

    #[test]
    fn a_repetition_waits_and_then_gets_the_same_answer() {
        let keys = Keys::new(1 << 20);
        assert!(matches!(keys.begin("k", 1), Begin::New));
        let Begin::Wait(wait) = keys.begin("k", 1) else { panic!("must wait") };
        assert!(matches!(keys.begin("k", 2), Begin::Reused));
        keys.finish("k", Some(answer()));
        assert!(wait.has_changed().is_err(), "the first is done");
        assert!(matches!(keys.begin("k", 1), Begin::Replay(_)));
        assert!(matches!(keys.begin("k", 2), Begin::Reused));
    }

    #[test]
    fn a_request_that_stored_nothing_frees_its_key() {
        let keys = Keys::new(1 << 20);
        assert!(matches!(keys.begin("k", 1), Begin::New));
        keys.finish("k", None);
        assert!(matches!(keys.begin("k", 2), Begin::New));
    }

    #[test]
    fn the_oldest_answers_leave_when_there_are_too_many() {
        let keys = Keys::new(3 * KEY_BYTES);
        for key in ["a", "b", "c", "d"] {
            keys.remember(key, 1, answer());
        }
        assert!(matches!(keys.begin("d", 1), Begin::Replay(_)));
        assert!(matches!(keys.begin("a", 1), Begin::New));
    }
}
