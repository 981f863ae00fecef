//! Stories of links through TLS on loopback: who is met, and who is refused, with what is counted.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
    string::Ia5String,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::far::tests::home;
use super::far::{self, Home, News};
use super::papers::{self, Bearer, Papers};
use super::refusals::Refusals;
use crate::cli::PaperFiles;
use crate::ids::{NodeId, Role, Roles};
use crate::limits::LINK_GREETING_MAX;
use crate::ops::metrics::{Sample, render};
use crate::wire::link::{Batch, Handled};
use crate::wire::stream::CellKey;

/// An authority, and the days on which what it signs is valid.
struct Office {
    issuer: Issuer<'static, KeyPair>,
    root: String,
    years: (i32, i32),
    /// From now on, instead of until the last year.
    lasts: Option<Duration>,
}

impl Office {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut asked = CertificateParams::new(Vec::new()).expect("no names");
        asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = asked.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(asked, key), root, years: (2000, 2100), lasts: None }
    }

    /// A certificate with these rights, and its key, as files.
    fn files(&self, dir: &Path, rights: &[&str]) -> PaperFiles {
        let key = KeyPair::generate().expect("a key");
        let mut asked = CertificateParams::new(Vec::new()).expect("no names");
        asked.not_before = date_time_ymd(self.years.0, 1, 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        asked.not_after = match self.lasts {
            Some(lasts) => date_time_ymd(1970, 1, 1) + now + lasts,
            None => date_time_ymd(self.years.1, 1, 1),
        };
        asked.subject_alt_names = rights
            .iter()
            .map(|right| format!("campanile://c/{right}"))
            .map(|uri| SanType::URI(Ia5String::try_from(uri).expect("a URI")))
            .collect();
        let made = asked.signed_by(&key, &self.issuer).expect("signed");
        let nth = fastrand::u64(..);
        let write = |what: &str, text: &str| {
            let path = dir.join(format!("{nth}.{what}"));
            std::fs::write(&path, text).expect("written");
            path
        };
        PaperFiles {
            cert: write("crt", &made.pem()),
            key: write("key", &key.serialize_pem()),
            ca: write("ca", &self.root),
        }
    }

    fn papers(&self, name: &str, rights: &[&str]) -> Arc<Papers> {
        let dir = tempfile::tempdir().expect("a directory");
        let all: Vec<String> = rights.iter().map(|right| format!("{name}/{right}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let files = self.files(dir.path(), &all);
        Arc::new(Papers::load(&files, &bearer(name, Roles::NONE)).expect("papers"))
    }
}

fn bearer(name: &str, roles: Roles) -> Bearer {
    Bearer { cell: "c".into(), name: name.into(), roles }
}

const GATEWAY: Roles = Roles::of(&[Role::Gateway, Role::Health]);

fn gateway(node: u16, papers: Option<Arc<Papers>>) -> (Home, mpsc::Receiver<News>) {
    home(node, GATEWAY, papers)
}

/// What was counted, by its words.
fn counted(refusals: &Refusals) -> Vec<(String, u64)> {
    let text = render(&refusals.samples().collect::<Vec<Sample>>());
    let lines = text.lines().filter_map(|line| line.split_once("why=\""));
    let pairs = lines.filter_map(|(_, rest)| rest.split_once("\"} "));
    let pairs = pairs.map(|(why, count)| (why.to_string(), count.parse().expect("a count")));
    pairs.filter(|(_, count)| *count > 0).collect()
}

async fn until_counted(refusals: &Refusals, why: &str) {
    let due = Instant::now() + Duration::from_secs(10);
    while !counted(refusals).iter().any(|(word, _)| word == why) {
        assert!(Instant::now() < due, "not {why}: {:?}", counted(refusals));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn listening(home: Home) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(far::answer(listener, home));
    address
}

/// One dials the other, which refuses it for this; and what the dialer says of it.
async fn refused(dialer: Home, answerer: Home, at_answerer: &str, at_dialer: &str) {
    let (of_dialer, of_answerer) = (dialer.refusals.clone(), answerer.refusals.clone());
    let address = listening(answerer).await;
    let kept = far::dial_all(&dialer, &address, 0, far::Dialers::All);
    for (refusals, why) in [(&of_answerer, at_answerer), (&of_dialer, at_dialer)] {
        if !why.is_empty() {
            until_counted(refusals, why).await;
        }
    }
    drop(kept);
}

/// On threads of its own: while this one compares, beats go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_authority_meet_and_long_batches_cross() {
    let pattern: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let office = Office::new();
    let papers = |name: &str, number: &str| office.papers(name, &["gateway", number]);
    let (one, mut of_one) = gateway(10_001, Some(papers("gw1", "number/10001")));
    let (other, mut of_other) = gateway(10_002, Some(papers("gw2", "number/10002")));
    let refusals = [one.refusals.clone(), other.refusals.clone()];
    let address = listening(other).await;
    let kept = far::dial_all(&one, &address, 0, far::Dialers::All);
    let mut ways = Vec::new();
    for (news, node) in [(&mut of_one, 10_002), (&mut of_other, 10_001)] {
        let Some(News::Met(_, (who, _), way)) = news.recv().await else { panic!("they meet") };
        assert_eq!(who.node, NodeId(node));
        ways.push(way);
    }
    // Longer than any buffer between them, both ways at once.
    let batch = |seed: u8| Batch {
        life: 1,
        is_hello: false,
        handled: Handled::default(),
        messages: 1,
        bytes: [&pattern[usize::from(seed)..], &pattern[..usize::from(seed)]].concat(),
    };
    for round in 0..3 {
        for (way, seed) in ways.iter().zip([1, 2]) {
            way.send(batch(seed + round)).await.expect("it is up");
        }
    }
    for round in 0..3 {
        for (news, seed) in [(&mut of_one, 2), (&mut of_other, 1)] {
            let got = tokio::time::timeout(Duration::from_secs(30), news.recv()).await;
            let Ok(Some(News::Batch(_, got))) = got else { panic!("{got:?}") };
            assert!(got == batch(seed + round), "as it was sent, in order");
        }
    }
    drop(kept);
    for news in [&mut of_one, &mut of_other] {
        assert!(matches!(news.recv().await, Some(News::Parted(_))));
    }
    assert_eq!(refusals.map(|refusals| counted(&refusals)), [vec![], vec![]]);
}

#[tokio::test]
async fn plain_and_tls_refuse_each_other() {
    let papers = || Some(Office::new().papers("gw1", &["gateway", "number/10001"]));
    refused(gateway(10_002, None).0, gateway(10_001, papers()).0, "plain", "tls").await;
    refused(gateway(10_001, papers()).0, gateway(10_002, None).0, "tls", "handshake").await;
}

#[tokio::test]
async fn who_shows_no_good_certificate_is_refused() {
    let office = Office::new();
    let papers = |office: &Office, name, rights: &[&str]| Some(office.papers(name, rights));
    let answerer = || gateway(10_001, papers(&office, "gw1", &["gateway", "number/10001"])).0;
    // Another authority. Whoever dials looks first.
    let other = gateway(10_002, papers(&Office::new(), "gw2", &["gateway", "number/10002"])).0;
    refused(other, answerer(), "handshake", "certificate").await;
    // The number of another node.
    let rights = &["gateway", "number/10002"];
    refused(gateway(10_003, papers(&office, "gw2", rights)).0, answerer(), "warrant", "").await;
    // A role that was not granted: a gateway is no ring manager, and no owner.
    for role in [Role::Ring, Role::Channel, Role::Admin] {
        let roles = Roles(GATEWAY.0 | Roles::of(&[role]).0);
        refused(home(10_002, roles, papers(&office, "gw2", rights)).0, answerer(), "warrant", "")
            .await;
    }
    // The right certificate, and another key of the cell.
    let mut keyless = gateway(10_002, papers(&office, "gw2", rights)).0;
    keyless.key = CellKey([8; 32]);
    refused(keyless, answerer(), "", "key").await;
}

#[tokio::test]
async fn who_did_not_renew_its_certificate_is_refused_from_its_last_second_on() {
    let mut office = Office::new();
    let gw1 = office.papers("gw1", &["gateway", "number/10001"]);
    office.lasts = Some(Duration::from_secs(3));
    let gw2 = office.papers("gw2", &["gateway", "number/10002"]);
    let due = Instant::now() + Duration::from_secs(15);
    while gw2.seconds_left() > 0.0 {
        assert!(Instant::now() < due, "three seconds");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let both = || (gateway(10_001, Some(gw1.clone())).0, gateway(10_002, Some(gw2.clone())).0);
    let (good, late) = both();
    refused(late, good, "expired", "handshake").await;
    let (good, late) = both();
    refused(good, late, "handshake", "expired").await;
}

#[test]
fn a_certificate_that_is_not_valid_or_not_the_nodes_ends_it_with_a_sentence() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut office = Office::new();
    let rights = ["gw2/gateway", "gw2/number/10002"];
    let load = |files: &PaperFiles| {
        Papers::load(files, &bearer("gw2", GATEWAY)).map(|_| ()).expect_err("refused")
    };
    office.years = (2000, 2001);
    assert!(load(&office.files(dir.path(), &rights)).contains("expired"), "and says so");
    office.years = (2098, 2099);
    let why = load(&office.files(dir.path(), &rights));
    assert!(why.contains("not valid yet"), "{why}");
    office.years = (2000, 2100);
    let why = load(&office.files(dir.path(), &[]));
    assert!(why.contains("no node's"), "{why}");
    let why = load(&office.files(dir.path(), &["gw3/gateway"]));
    assert!(why.contains("of node \"gw3\""), "{why}");
    let why = load(&office.files(dir.path(), &["gw2/presence"]));
    assert!(why.contains("the role gateway"), "{why}");
    let (good, other) =
        (office.files(dir.path(), &rights), Office::new().files(dir.path(), &rights));
    let why = load(&PaperFiles { ca: other.ca.clone(), ..good.clone() });
    assert!(why.contains("no authority"), "{why}");
    let why = load(&PaperFiles { key: other.key.clone(), ..good.clone() });
    assert!(why.starts_with("--tls-key"), "{why}");
    std::fs::write(&other.key, "nonsense").expect("written");
    for broken in [
        PaperFiles { cert: other.key.clone(), ..good.clone() },
        PaperFiles { key: other.key.clone(), ..good.clone() },
        PaperFiles { ca: other.key, ..good.clone() },
        PaperFiles { ca: dir.path().join("nowhere"), ..good.clone() },
    ] {
        assert!(load(&broken).starts_with("--tls-"));
    }
    let papers = Papers::load(&good, &bearer("gw2", GATEWAY)).expect("good");
    papers.fits(&good, NodeId(10_002)).expect("its number");
    papers.fits(&good, NodeId(10_003)).expect_err("another's");
    papers.fits(&good, NodeId(3)).expect("the ring's");
}

/// Speaks raw bytes to a node with a certificate: how long until it is hung up on.
async fn hung_up_on(address: &str, words: &[&[u8]], pause: Duration) -> Duration {
    let mut socket = TcpStream::connect(address).await.expect("connected");
    let began = Instant::now();
    let (mut reader, mut writer) = socket.split();
    let talk = async {
        for word in words {
            if writer.write_all(word).await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        std::future::pending::<()>().await;
    };
    let hear = async {
        let mut scratch = [0; 4096];
        while matches!(reader.read(&mut scratch).await, Ok(len) if len > 0) {}
    };
    tokio::select! {
        () = talk => {}
        heard = tokio::time::timeout(Duration::from_secs(20), hear) => heard.expect("it hangs up"),
    }
    began.elapsed()
}

#[tokio::test]
async fn garbage_silence_and_one_byte_at_a_time_are_cut_off() {
    let office = Office::new();
    let (home, _news) = gateway(10_001, Some(office.papers("gw1", &["gateway", "number/10001"])));
    let refusals = home.refusals.clone();
    let address = listening(home).await;
    let soon = Duration::from_millis(900);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 600], &[0x16, 3, 1, 0xff, 0xff, 1]] {
        hung_up_on(&address, &[garbage], Duration::ZERO).await;
    }
    until_counted(&refusals, "handshake").await;
    assert!(hung_up_on(&address, &[&[0; 64]], Duration::ZERO).await < soon, "no handshake");
    assert!(!counted(&refusals).iter().any(|(why, _)| why == "warrant"));
    // The beginning of a real handshake, byte by byte: it lives as long as a greeting may.
    let mut hello = Vec::new();
    let mut dialer = office.papers("gw2", &["gateway"]).dial().expect("a client");
    dialer.write_tls(&mut hello).expect("into memory");
    let bytes: Vec<&[u8]> = hello.chunks(1).collect();
    let lasted = hung_up_on(&address, &bytes, Duration::from_millis(100)).await;
    let most = LINK_GREETING_MAX + Duration::from_secs(2);
    assert!(
        lasted + Duration::from_millis(100) >= LINK_GREETING_MAX && lasted < most,
        "{lasted:?}"
    );
    // And a whole one, followed by silence.
    let lasted = hung_up_on(&address, &[&hello], Duration::ZERO).await;
    assert!(lasted < most, "{lasted:?}");
    until_counted(&refusals, "slow").await;
}

#[tokio::test]
async fn files_that_change_are_read_again_and_bad_ones_change_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (office, rights) = (Office::new(), ["gw1/gateway", "gw1/number/10001"]);
    let files = office.files(dir.path(), &rights);
    let bearer = bearer("gw1", GATEWAY);
    let first = Arc::new(Papers::load(&files, &bearer).expect("good"));
    let (now, mut papers) = watch::channel(Arc::clone(&first));
    tokio::spawn(papers::keep(files.clone(), bearer, NodeId(10_001), now));
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Half of a change: the key is not the certificate's.
    let next = Office { years: (2000, 2050), ..office }.files(dir.path(), &rights);
    std::fs::copy(&next.cert, &files.cert).expect("copied");
    let none = tokio::time::timeout(Duration::from_secs(5), papers.changed()).await;
    assert!(none.is_err() && Arc::ptr_eq(&first, &papers.borrow()), "they do not belong together");
    std::fs::copy(&next.key, &files.key).expect("copied");
    let changed = tokio::time::timeout(Duration::from_secs(10), papers.changed()).await;
    assert!(changed.is_ok_and(|changed| changed.is_ok()));
    assert!(papers.borrow().seconds_left() < first.seconds_left());
}
