//! PostgreSQL itself. Owns starting a cluster in a directory of its own, stopping and killing it, and asking it as somebody else;
//! refuses to know the sink.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A cluster, reached through a socket in its directory. Stopped when dropped.
pub(crate) struct Cluster {
    dir: PathBuf,
    bin: PathBuf,
}

/// It refuses to run as root: then it runs as nobody.
fn unprivileged(program: &Path) -> Command {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}{said}", printed(&output));
    printed(&output)
}

/// Where its programs are: Debian keeps them out of the way.
#[expect(clippy::disallowed_methods, reason = "programs are found as a shell finds them")]
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let places = std::env::split_paths(&path).chain(debian.map(|version| version.path().join("bin")));
    let mut found = places.filter(|dir| dir.join("initdb").exists() && dir.join("pg_ctl").exists());
    let initdb = found.next().expect("initdb is missing: run scripts/setup.sh").join("initdb");
    initdb.canonicalize().unwrap().parent().unwrap().to_owned()
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], |_| String::new())
    }

    /// With further arguments of initdb; `configure` may put files into the directory, and says what else is to be set.
    pub(crate) fn start_with(initdb: &[&str], configure: impl FnOnce(&Cluster) -> String) -> Self {
        // A short path: a socket's may have a hundred bytes.
        let made = run(unprivileged(Path::new("mktemp")).args(["-d", "/tmp/pg.XXXXXX"]));
        let cluster = Cluster { dir: PathBuf::from(made.trim()), bin: programs() };
        let data = cluster.data();
        run(cluster
            .program("initdb")
            .args(["-A", "trust", "-U", "test", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data)
            .args(initdb));
        let more = configure(&cluster);
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\nmax_connections = 60\n\
             shared_buffers = 16MB\ndeadlock_timeout = 1s\n{more}\n",
            cluster.dir.display()
        );
        cluster.write("settings", &settings);
        run(cluster.program("sh").arg("-c").arg(format!(
            "cat {}/settings >> {}/postgresql.conf",
            cluster.dir.display(),
            data.display()
        )));
        cluster.up();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in its directory, which belongs to whom the server runs as.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        let mut tee = unprivileged(Path::new("tee"));
        let mut tee = tee.arg(&path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut tee.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(tee.wait().unwrap().success());
    }

    pub(crate) fn up(&self) {
        run(self
            .program("pg_ctl")
            .args(["start", "--wait", "-l"])
            .arg(self.dir.join("log"))
            .arg("-D")
            .arg(self.data())
            .stdout(Stdio::null()));
    }

    /// As a crash: nothing is finished, nothing written back.
    pub(crate) fn down(&self) {
        run(self.program("pg_ctl").args(["stop", "-m", "immediate", "-D"]).arg(self.data()));
    }

    /// A program of PostgreSQL, or of the system.
    pub(crate) fn program(&self, name: &str) -> Command {
        let own = self.bin.join(name);
        let mut command = unprivileged(if own.exists() { &own } else { Path::new(name) });
        command.current_dir(&self.dir).env("TZ", "UTC").env("LC_ALL", "C");
        command
    }

    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    pub(crate) fn url_of(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=test", self.dir.display())
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut psql = self.program("psql");
        psql.args(["-X", "-h"]).arg(&self.dir).args(["-U", "test", "-v", "ON_ERROR_STOP=1", "-At", "-q"]);
        psql.args(["-c", sql, database]);
        psql
    }

    /// What somebody else is told, a line a row with bars between.
    pub(crate) fn ask(&self, sql: &str) -> String {
        self.ask_of("postgres", sql)
    }

    /// The same, in another database.
    pub(crate) fn ask_of(&self, database: &str, sql: &str) -> String {
        run(&mut self.psql(database, sql)).trim_end().to_owned()
    }

    /// A session of somebody else that goes on until it is ended.
    pub(crate) fn session(&self) -> Session {
        let mut psql = self.program("psql");
        psql.args(["-X", "-h"]).arg(&self.dir).args(["-U", "test", "-At", "-q", "postgres"]);
        let child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        Session { child }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = self.program("pg_ctl").args(["stop", "-m", "immediate", "-D"]).arg(self.data()).output();
        drop(stopped);
        let _ = unprivileged(Path::new("rm")).arg("-rf").arg(&self.dir).output();
    }
}

/// Somebody else's session. Ended when dropped.
pub(crate) struct Session {
    child: std::process::Child,
}

impl Session {
    /// Says something and waits until it is done.
    pub(crate) fn say(&mut self, sql: &str) {
        use std::io::{BufRead, BufReader, Write};
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{sql}\n\\echo done").unwrap();
        stdin.flush().unwrap();
        let stdout = self.child.stdout.as_mut().unwrap();
        // One line at a time: nothing comes behind it before the next statement.
        let mut lines = BufReader::with_capacity(1, stdout).lines();
        lines.find(|line| line.as_ref().is_ok_and(|line| line == "done")).expect("an answer").unwrap();
    }

    /// Says something without waiting.
    pub(crate) fn begin(&mut self, sql: &str) {
        use std::io::Write;
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{sql}").unwrap();
        stdin.flush().unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
