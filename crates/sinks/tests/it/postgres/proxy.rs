//! Between a sink and PostgreSQL: loses the answer to a commit, or falls silent.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// The message of a client that ends a transaction.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

#[derive(Default)]
struct Mood {
    lose: AtomicBool,
    lost: AtomicBool,
    silent: AtomicBool,
}

pub(crate) struct Proxy {
    port: u16,
    mood: Arc<Mood>,
}

impl Proxy {
    pub(crate) async fn start(socket_dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, mood) = (listener.local_addr().unwrap().port(), Arc::new(Mood::default()));
        let (socket, own) = (socket_dir.join(".s.PGSQL.5432"), Arc::clone(&mood));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (socket, mood) = (socket.clone(), Arc::clone(&own));
                tokio::spawn(async move {
                    if let Ok(server) = UnixStream::connect(socket).await {
                        pass(client, server, &mood).await;
                    }
                });
            }
        });
        Self { port, mood }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://test@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// The next commit reaches the server, and its answer nobody.
    pub(crate) fn lose_next_commit(&self) {
        self.mood.lost.store(false, Ordering::SeqCst);
        self.mood.lose.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.mood.lost.load(Ordering::SeqCst)
    }

    pub(crate) fn silence(&self, silent: bool) {
        self.mood.silent.store(silent, Ordering::SeqCst);
    }
}

async fn pass(mut client: TcpStream, mut server: UnixStream, mood: &Mood) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        while mood.silent.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let commits = asked[..length].windows(COMMIT.len()).any(|window| window == COMMIT);
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
                if commits && mood.lose.swap(false, Ordering::SeqCst) {
                    // The server has done it when it answers.
                    let _ = server.read(&mut answered).await;
                    mood.lost.store(true, Ordering::SeqCst);
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if mood.silent.load(Ordering::SeqCst) {
                    continue;
                }
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
