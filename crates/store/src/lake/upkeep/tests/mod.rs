//! Upkeep of real tables, on storage that fails where it is told to.

mod clean;
mod crash;
mod merge;
mod store;
mod world;
