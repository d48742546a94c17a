//! The log of the lake on real directories, and on storage that fails.

mod checkpoints;
mod commits;
mod damage;
mod faults;
mod flush;
mod local;
mod power;
mod protocols;
mod world;
