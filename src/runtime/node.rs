//! One process with all roles: what `campanile dev` runs, from the first check to the last goodbye.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::sync::watch::channel as watch_channel;

use super::clock::Clock;
use super::cores::{self, Cores};
use super::handed::{self, Handed};
use super::letters::{Letter, LetterBox};
use super::stats::Stats;
use super::{control, doors, host, keys, stuck, watch};
use crate::admin::api;
use crate::centrifuge::rules::Rules;
use crate::charm::manager::ManagerConfig;
use crate::cli::{Crowd, Dev};
use crate::control::Control;
use crate::ids::{NodeId, Peer, Role, Roles};
use crate::limits::Limits;
use crate::place::Whole;
use crate::ring::{Ring, Secret};
use crate::webapp::caller::Caller;
use crate::webapp::database::{self, Database, Demo, Storage};
use crate::webapp::http::{self, GuestDoor, Remote, Site};
use crate::wire::operator::{OperatorKey, derived};

/// Letters of HTTP handlers and of the writer that wait for the control plane's driver.
pub(super) const MAILS_MAX: usize = 16_384;
pub(super) const BATCHES_TO_CONTROL: usize = 256;
/// Of the control plane: the database has its own, and everything else waits.
const CONTROL_THREADS: usize = 2;
/// A core's number has 8 bits, of which one value means the control plane.
const CORES_MAX: usize = 64;
/// After the window of a drain: Close frames are on their way.
const AFTER_WINDOW: Duration = Duration::from_millis(1_500);

/// Users whose tokens are told at the start.
const INTRODUCED: usize = 4;
/// The same numbers give the same members.
const CROWD_SEED: u64 = 1;

/// Runs until it is told to end.
///
/// # Errors
/// A sentence for the operator: what stood in the way, and how to mend it.
pub fn dev(config: &Dev) -> Result<(), String> {
    let host = prepare(config.cores, config.cpus.as_deref(), &config.limits, &config.warnings)?;
    runtime()?.block_on(serve(config, &host.limits, host.cores, &host.cpus))
}

/// What the host gives a node.
pub(super) struct Host {
    pub(super) cores: usize,
    pub(super) cpus: Vec<usize>,
    pub(super) limits: Limits,
}

/// Looks at the host, and says what is not as one would wish.
pub(super) fn prepare(
    cores: Option<u8>,
    cpus: Option<&[usize]>,
    limits: &Limits,
    warnings: &[String],
) -> Result<Host, String> {
    let mut limits = limits.clone();
    let mut warned = Vec::new();
    let allowed = host::cpus();
    if let Some(cpus) = cpus {
        host::pin(cpus)?;
    }
    let cpus = cpus.map_or(allowed, <[usize]>::to_vec);
    host::check(&mut limits, &mut warned)?;
    let cores = cores.map_or_else(|| cpus.len().min(CORES_MAX), usize::from);
    if cores > cpus.len() {
        warned.push(format!("{cores} cores on {} CPUs: they take turns", cpus.len()));
    }
    for warning in warned.iter().chain(warnings) {
        eprintln!("campanile: {warning}");
    }
    Ok(Host { cores, cpus, limits })
}

/// The control plane's threads.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))
}

async fn serve(config: &Dev, limits: &Limits, cores: usize, cpus: &[usize]) -> Result<(), String> {
    let fault = |what: &str| {
        let what = what.to_string();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    let mut signals = Signals::new().map_err(fault("cannot wait for signals"))?;
    // One port serves all: what is plain HTTP, the cores hand over.
    let is_one_port = config.http == config.ws && config.http.port() != 0;
    let http_listener = if is_one_port { None } else { Some(doors::http(config.http, "--http")?) };
    let api_listener = config.api.map(|api| doors::http(api, "--api")).transpose()?;
    let (listeners, ws_address) = doors::websocket(config.ws, cores)?;
    let address_of = |listener: &Option<std::net::TcpListener>, otherwise| match listener {
        Some(listener) => listener.local_addr().map_err(fault("cannot listen")),
        None => Ok(otherwise),
    };
    let http_address = address_of(&http_listener, ws_address)?;
    let api_address = address_of(&api_listener, http_address)?;
    let (control, mail) = Control::new(MAILS_MAX);
    let directory = (!config.ephemeral).then_some(config.data.as_path());
    let key = keys::of(directory)?;
    let mut demo = Demo::new(derived(&key, "demo")?);
    demo.crowd = config.crowd.as_ref().map(|crowd| {
        database::Crowd::drawn(crowd.users, crowd.channels, crowd.members, CROWD_SEED)
    });
    let storage = Storage::of(config.database.as_deref(), directory)?;
    let opened = tokio::select! {
        opened = Database::open(&storage, limits, control.clone(), Some(&demo)) => opened,
        () = signals.next() => return Ok(()),
    };
    let database = opened.map_err(|unopened| unopened.to_string())?;
    let first = database.users().into_iter().next();
    if let (Some(Crowd { tokens, .. }), Some(crowd), Some(publisher)) =
        (&config.crowd, demo.crowd.take(), first)
    {
        let text = crowd.file(&demo, &publisher);
        std::fs::write(tokens, text)
            .map_err(|error| format!("--tokens {}: {error}", tokens.display()))?;
    }

    let ws_url = format!("ws://{ws_address}");
    let http_url = format!("http://{http_address}");
    let rules = Arc::new(complete(&config.rules, database.secret()));
    let clock = Clock::new();
    let (life, seed) = (random()? | 1, random()?);
    let node = NodeId(0);
    let roles =
        Roles::of(&[Role::Gateway, Role::Channel, Role::Presence, Role::Admin, Role::Webapp]);
    let whole = Whole { node, life, roles, cores };
    let ring = Ring::new(&[(node, cores as u8)]);
    let (to_control, from_cores) = mpsc::channel(BATCHES_TO_CONTROL);
    let (hand_over, handed_over) = mpsc::channel(handed::WAITING_MAX);
    let Cores { boxes, stats, room } = cores::start(cores::Plan {
        whole,
        desk: Peer::control(node, Role::Webapp),
        secret: database.secret(),
        seed,
        echo: true,
        rules: &rules,
        url: (!ws_address.ip().is_unspecified()).then_some(ws_url.as_str()),
        region: None,
        relays: &[],
        limits,
        ring: &ring,
        clock,
        cpus,
        listeners,
        control: to_control,
        handed: hand_over,
    })
    .await?;

    let caller = rules.rpc.as_ref().map(|rpc| Caller::new(&rpc.endpoint, rpc.timeout));
    let caller = caller.transpose()?;
    let control_stats = Stats::new();
    let (reports, report_requests) = mpsc::channel(16);
    let (ring_now, cell_ring) = watch_channel(Arc::new(ring.clone()));
    let (gateways_now, gateways) = watch_channel(Vec::new());
    let cell = api::CellNow { ring: cell_ring, gateways };
    let api =
        api::Api::new(control.clone(), cell, database.secret(), Arc::clone(&rules), limits, life);
    // One node has no news of others.
    let ((_, news), (_, rings)) = (mpsc::channel(1), mpsc::channel(1));
    tokio::spawn(control::run(control::Start {
        limits: limits.clone(),
        whole,
        ring,
        clock,
        secret: database.secret(),
        seed,
        database: Some(database.clone()),
        store: None,
        cell: None,
        offer: None,
        caller,
        manager: ManagerConfig::alone(node),
        mail,
        from_cores,
        cores: boxes.clone(),
        room,
        stats: control_stats.clone(),
        news,
        rings,
        ring_now,
        gateways_now,
        reports: report_requests,
    }));
    let guest_door = GuestDoor {
        url: format!("{ws_url}/connection/websocket"),
        token_secret: rules.client.keys.secret().unwrap_or_default().into(),
        api_url: format!("http://{api_address}/api"),
        api_key: rules.api.key.as_deref().unwrap_or_default().into(),
    };
    let operator = OperatorKey::of(&key)?;
    let site = Site::new(database.clone(), control, limits, &ws_url, operator)
        .with_guests(guest_door)
        .with_demo(demo.clone());
    let watch = watch::Watch::new(boxes.clone(), stats, reports, control_stats);
    let (mut router, api) =
        (http::router(site.clone()).merge(watch::router(watch)), api::router(api));
    match api_listener {
        Some(listener) => serve_http(listener, api).map_err(fault("cannot listen"))?,
        None => router = router.merge(api),
    }
    if let Some(listener) = http_listener {
        serve_http(listener, router.clone()).map_err(fault("cannot listen"))?;
    }
    let router = router.layer(axum::middleware::from_fn(handed::no_upgrade));
    let handed = Handed::new(handed_over, ws_address);
    let service = router.into_make_service_with_connect_info::<Remote>();
    tokio::spawn(async move { axum::serve(handed, service).await });

    say_ready(&http_url, &ws_url, &database, &demo);
    tokio::select! {
        () = signals.next() => {}
        why = stuck::watch(boxes.clone()) => return Err(why),
    }
    drain(config.drain, Some(&site), &boxes, &mut signals).await;
    tokio::select! {
        () = database.close() => {}
        () = signals.next() => {}
    }
    Ok(())
}

pub(super) fn serve_http(
    listener: std::net::TcpListener,
    router: axum::Router,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let service = router.into_make_service_with_connect_info::<Remote>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Ok(())
}

/// Goodbye, a window in which nobody new is served, Close. A second signal cuts it short.
pub(super) async fn drain(
    window: Duration,
    site: Option<&Site>,
    boxes: &[LetterBox],
    signals: &mut Signals,
) {
    if let Some(site) = site {
        site.drain();
    }
    for letter_box in boxes {
        let letter_box = letter_box.clone();
        // The clients of a core that takes none until the end see the end of their connections.
        tokio::spawn(async move { letter_box.deliver(Letter::Drain(window)).await });
    }
    let end = async {
        tokio::time::sleep(window).await;
        watch::until_nobody_is_left(boxes, AFTER_WINDOW).await;
    };
    tokio::select! {
        () = end => {}
        () = signals.next() => {}
    }
    for letter_box in boxes {
        let _ = letter_box.post(Letter::Stop);
    }
}

pub(super) fn random() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("the kernel gives no random bytes: {error}"))
}

/// One line for programs on stdout; for a person, everything else on stderr.
fn say_ready(http: &str, ws: &str, database: &Database, demo: &Demo) {
    let mut text = format!("\n  Campanile is up. Open {http}/ and choose who you are.\n\n");
    for user in database.users().iter().take(INTRODUCED) {
        let token = demo.token(user);
        let token = if database.bearer(&token).is_ok() { &token } else { "(revoked)" };
        let _ = writeln!(text, "  {:<6} {token}", user.name);
    }
    let _ = writeln!(text, "\n  Web API {http}/api/   RTM {ws}   metrics {http}/metrics");
    eprintln!("{text}");
    let mut stdout = std::io::stdout().lock();
    // A closed stdout is nobody waiting for us.
    let _ = writeln!(stdout, "ready http={http} ws={ws}");
    let _ = stdout.flush();
}

/// The rules of a `dev`, in which no secret is missing: what the configuration does not give stays the same for as long as the data
/// directory.
pub(super) fn complete(rules: &Rules, secret: Secret) -> Rules {
    let derived = |what: &str| {
        let hash = Sha256::new_with_prefix(secret.0).chain_update(what).finalize();
        hash.iter().take(16).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let mut rules = rules.clone();
    if rules.client.keys.secret().is_none() {
        rules.client.keys.set_secret(&derived("token_secret"));
    }
    if rules.api.key.is_none() {
        rules.api.key = Some(derived("api_key").into());
    }
    rules
}

/// SIGTERM and SIGINT mean the same.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
