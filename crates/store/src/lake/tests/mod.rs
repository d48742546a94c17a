//! The lake on real directories, and on storage that fails.

mod bench;
mod checkpoints;
mod commits;
mod copies;
mod damage;
mod faults;
mod files;
mod flush;
mod local;
mod power;
mod protocols;
mod world;
