//! Which data directory a command reads without a server, and how.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use runstone_journal::fs::RealFs;
use runstone_server::World;
use runstone_server::clock::SystemClock;
use runstone_server::config::Config;

use super::serve::{self, Settings};

/// Where it is, and where its lake is, as for `serve`.
#[derive(Debug, Args)]
pub(crate) struct Directory {
    /// The server's data directory [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The server's configuration file, where it says where the lake is
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl Directory {
    /// Its configuration, and the world to read it in.
    pub(crate) fn open(&self) -> anyhow::Result<(Config, World)> {
        let settings = Settings { data: self.data.clone(), listen: None, config: self.config.clone() };
        let config = serve::load(&settings)?;
        let world = World { clock: Arc::new(SystemClock), entropy: Arc::new(serve::entropy), fs: Arc::new(RealFs) };
        Ok((config, world))
    }
}
