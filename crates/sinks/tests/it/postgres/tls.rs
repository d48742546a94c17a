//! Connections that are encrypted, and to whom.

use runstone_sinks::contract::SOURCE;
use runstone_sinks::postgres::Postgres;
use runstone_sinks::{Sink, SinkError};

use super::options;
use crate::cluster::Cluster;

/// A cluster with a certificate for `localhost` of its own authority, at an address of this machine that nobody else has.
fn encrypted() -> (Cluster, String) {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let address = format!("127.{}.{b}.{}", 1 | (a << 1), c.clamp(1, 254));
    let listens = address.clone();
    let cluster = Cluster::start_with(&[], |cluster| {
        cluster.write("names", "subjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n");
        for line in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out server.crt -extfile names",
        ] {
            let made = cluster.program("openssl").args(line.split(' ')).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        assert!(cluster.program("chmod").args(["600", "server.key"]).status().unwrap().success());
        let dir = cluster.dir().display().to_string();
        format!(
            "ssl = on\nssl_cert_file = '{dir}/server.crt'\nssl_key_file = '{dir}/server.key'\nlisten_addresses = '{listens}'"
        )
    });
    (cluster, address)
}

async fn opened(cluster: &Cluster, address: &str, host: &str, more: &str) -> Result<u64, SinkError> {
    let more = more.replace("DIR", &cluster.dir().display().to_string());
    // It is asked again and again only where it may help.
    let mut options = options(&format!("host={host} hostaddr={address} user=test dbname=postgres {more}"));
    options.tries_max = 1;
    Postgres::new(options)?.cursor(SOURCE).await
}

#[tokio::test]
async fn whom_a_connection_trusts_is_in_the_url() {
    let (cluster, address) = encrypted();
    for (host, more) in [
        ("localhost", "sslmode=verify-full sslrootcert=DIR/ca.crt"),
        ("elsewhere", "sslmode=verify-ca sslrootcert=DIR/ca.crt"),
        ("elsewhere", "sslmode=require sslrootcert=DIR/ca.crt"),
        ("elsewhere", "sslmode=require"),
        ("elsewhere", "sslmode=prefer"),
        ("elsewhere", "sslmode=disable"),
    ] {
        let cursor = opened(&cluster, &address, host, more).await;
        assert!(matches!(cursor, Ok(0)), "{host} {more}: {cursor:?}");
    }
    for (host, more, why) in [
        ("elsewhere", "sslmode=verify-full sslrootcert=DIR/ca.crt", "certificate"),
        ("localhost", "sslmode=verify-full", "certificate"),
        ("localhost", "sslmode=verify-ca", "certificate"),
        ("localhost", "sslmode=require sslrootcert=DIR/nowhere", "sslrootcert"),
        ("localhost", "sslmode=require sslrootcert=DIR/names", "no certificate in"),
    ] {
        match opened(&cluster, &address, host, more).await {
            Err(SinkError::Misconfigured { problem, .. }) => assert!(problem.contains(why), "{problem}"),
            other => panic!("{host} {more}: {other:?}"),
        }
    }
    // The session of a sink is encrypted indeed.
    let url = format!(
        "postgres://test@localhost/postgres?hostaddr={address}&sslmode=verify-full&sslrootcert={}/ca.crt",
        cluster.dir().display()
    );
    let mut sink = Postgres::new(options(&url)).unwrap();
    sink.cursor(SOURCE).await.unwrap();
    let encrypted =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'runstone'";
    assert_eq!(cluster.ask(encrypted), "t");
}
