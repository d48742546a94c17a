//! The log of the lake on real directories, and on storage that fails.

mod commits;
mod power;
mod world;
