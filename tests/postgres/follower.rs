//! A second server that follows the first, and a name that leads to either of them.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection, Row as _};

use crate::{control, named, proxy, server, until};

/// Ends when it is dropped.
pub(crate) struct Follower {
    pub(crate) port: u16,
    data: String,
    first: PgConnectOptions,
}

impl Follower {
    /// Of the server that has this database.
    pub(crate) fn new(first: &PgConnectOptions) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let data = format!("{}-{port}", named("CAMPANILE_TEST_POSTGRES_DATA"));
        let url = named("CAMPANILE_TEST_POSTGRES");
        server("pg_basebackup", &["-d", &url, "-D", &data, "-R", "-X", "stream", "-c", "fast"]);
        let config = format!("{data}/postgresql.conf");
        let mut config = OpenOptions::new().append(true).open(config).expect("the copy's");
        writeln!(config, "port = {port}").expect("written");
        control(&data, &["start"]);
        Self { port, data, first: first.clone() }
    }

    async fn connect(&self) -> PgConnection {
        self.first.clone().port(self.port).connect().await.expect("the follower is there")
    }

    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(sql).execute(&mut self.connect().await).await.expect("done");
    }

    async fn is(&self, sql: &str) -> bool {
        let row = sqlx::query(sql).fetch_one(&mut self.connect().await).await.expect("answered");
        row.get(0)
    }

    /// Until it has all that the first has now.
    pub(crate) async fn catch_up(&self) {
        let mut first = self.first.connect().await.expect("the first is there");
        let now = "SELECT pg_current_wal_lsn()::TEXT";
        let now: String = sqlx::query(now).fetch_one(&mut first).await.expect("answered").get(0);
        let has_it = format!("SELECT pg_last_wal_replay_lsn() >= '{now}'::PG_LSN");
        until("it caught up", async || self.is(&has_it).await).await;
    }

    /// It hears no more of the first.
    pub(crate) async fn detach(&self) {
        self.run("ALTER SYSTEM SET primary_conninfo = ''").await;
        self.run("SELECT pg_reload_conf()").await;
        let is_alone = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_wal_receiver)";
        until("it hears nothing", async || self.is(is_alone).await).await;
    }

    pub(crate) fn promote(&self) {
        control(&self.data, &["promote"]);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        control(&self.data, &["-m", "immediate", "stop"]);
    }
}

/// Where connections lead that are made from now on.
pub(crate) struct Switch {
    pub(crate) port: u16,
    to: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Switch {
    pub(crate) fn new(to: u16) -> Self {
        let to = Arc::new(AtomicU16::new(to));
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (leads, opened) = (Arc::clone(&to), Arc::clone(&open));
        let carry = move |from: TcpStream, to, is_question| {
            if is_question {
                opened.lock().expect("no panic").push(from.try_clone().expect("one more"));
            }
            carry(from, to);
        };
        Self { port: proxy::open(move || leads.load(Ordering::SeqCst), carry), to, open }
    }

    pub(crate) fn lead(&self, to: u16) {
        self.to.store(to, Ordering::SeqCst);
    }

    /// Those that there are end.
    pub(crate) fn cut(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
