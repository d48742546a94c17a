//! A deterministic simulation of intake, journal, relay, recent records and runs: no thread, a disk that fails and loses
//! power, a clock that jumps, a sink that loses answers. One seed is one history; a failure prints its seed, and
//! `RUNSTONE_SEED=N cargo nextest run a_seed_of_the_simulation` plays it again.

mod clients;
mod dice;
mod life;
mod model;
mod world;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use life::Empty;
use world::World;

const SEEDS: u64 = 200;
const STEPS: u64 = 300;
/// How much of a failed history is printed.
const LAST: usize = 40;

fn number(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "how much is simulated is for whoever runs it to say")]
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The history of a seed.
fn play(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let empty = runtime.block_on(Empty::make(&dir.path().join("empty")));
    let mut world = World::new(seed, empty, dir.path());
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(world.live(STEPS))));
    if let Err(panic) = played {
        let last = &world.history[world.history.len().saturating_sub(LAST)..];
        eprintln!("seed {seed} failed after {} events, of which the last are:", world.history.len());
        last.iter().for_each(|event| eprintln!("  {event}"));
        std::panic::resume_unwind(panic);
    }
    world.history
}

/// Which repetition of a soak this is. Elsewhere nextest says `none`.
#[expect(clippy::disallowed_methods, reason = "which seeds are played is for whoever runs it to say")]
fn repetition() -> u64 {
    std::env::var("NEXTEST_STRESS_CURRENT").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn digest(history: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    history.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn what_was_promised_is_found_in_every_history() {
    let seeds = number("RUNSTONE_SEEDS").unwrap_or(SEEDS);
    // Each repetition of a soak goes on where the one before ended.
    let repetition = repetition();
    let first = number("RUNSTONE_SEED").unwrap_or(0).wrapping_add(repetition * seeds);
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    for event in (first..first + seeds).flat_map(play) {
        *events.entry(event.split([':', ' ']).next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    eprintln!("{seeds} histories from seed {first} on: {events:?}");
    for often in ["answer", "crashed", "die", "commit", "trim", "look", "start"] {
        let count = events.get(often).copied().unwrap_or(0);
        // Of a few histories each may have its own.
        assert!(seeds < 100 || count >= seeds, "too little of this happens to mean anything: {often}, {count} times");
    }
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..10 {
        assert_eq!(digest(&play(seed)), digest(&play(seed)), "seed {seed}");
    }
}

#[test]
fn a_seed_of_the_simulation() {
    play(number("RUNSTONE_SEED").unwrap_or(1)).iter().for_each(|event| eprintln!("{event}"));
}
