//! One node of a cell: `campanile node`. It takes its place in the ring, reaches the other nodes, and follows the ring for as long as it
//! lives.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::watch::{Receiver as Watched, Sender as WatchSender, channel as watch_channel};

use super::clock::Clock;
use super::cores::{self, Cores};
use super::dialed::{Known, known, to_dial};
use super::far::{self, Home};
use super::handed::{self, Handed};
use super::letters::{Letter, LetterBox};
use super::node::{
    BATCHES_TO_CONTROL, Host, MAILS_MAX, Signals, complete, drain, prepare, random, runtime,
    serve_http,
};
use super::papers::{self, Bearer, Papers};
use super::refusals::Refusals;
use super::stats::Stats;
use super::twins::Twins;
use super::{control, doors, stuck, watch};
use crate::admin::api;
use crate::charm::manager::ManagerConfig;
use crate::cli::Node;
use crate::control::Control;
use crate::ids::{NodeId, Peer, Role, Roles};
use crate::limits::RING_IDS_MAX;
use crate::place::Whole;
use crate::ring::Ring;
use crate::ring::carries::Carries;
use crate::ring::change::Cell;
use crate::ring::document::{Document, NodeEntry};
use crate::ring::store::file::RingFile;
use crate::ring::store::{Failed, Store, follow};
use crate::ring::view::{Offered, View};
use crate::webapp::caller::Caller;
use crate::webapp::database::{Database, Demo, Storage};
use crate::webapp::http::{self, GuestDoor, Remote, Site};
use crate::wire::stream::Identity;
use crate::wire::warrant::Names;

/// News of connections that wait for the control plane's driver; rings that wait for it.
const NEWS_MAX: usize = 256;
const RINGS_MAX: usize = 4;
/// What a manager pushes comes within this after the store told of it; a manager does not wait.
const PUSHES_FIRST: Duration = Duration::from_millis(50);
/// A ring that is being saved when we end may take so long.
const LAST_SAVE: Duration = Duration::from_secs(1);
/// Between two looks for a ring, or for our place in it.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs until it is told to end.
///
/// # Errors
/// A sentence for the operator: what stood in the way, and how to mend it.
pub fn node(config: &Node) -> Result<(), String> {
    let host = prepare(config.cores, config.cpus.as_deref(), &config.limits, &config.warnings)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(serve(config, &host));
    // A disk that hangs does not keep us.
    runtime.shutdown_timeout(LAST_SAVE);
    ended
}

async fn serve(config: &Node, host: &Host) -> Result<(), String> {
    let fault = |what: &str| {
        let what = what.to_string();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    let Host { cores, cpus, limits } = host;
    let mut signals = Signals::new().map_err(fault("cannot wait for signals"))?;
    let is = |role| config.roles.contains(role);
    let (life, seed) = (random()? | 1, random()?);

    // What cannot be had is said before anybody counts on this node.
    let bearer =
        Bearer { cell: config.cell.clone(), name: config.name.clone(), roles: config.roles };
    let papers = config.papers.as_ref().map(|files| Papers::load(files, &bearer)).transpose()?;
    let link_listener =
        TcpListener::bind(config.link).await.map_err(fault(&format!("--link {}", config.link)))?;
    let link = link_listener.local_addr().map_err(fault("cannot listen"))?;
    let http_listener = doors::http(config.http, "--http")?;
    let http_address = http_listener.local_addr().map_err(fault("cannot listen"))?;
    let (listeners, ws_address) = if is(Role::Gateway) {
        doors::websocket(config.ws, *cores)?
    } else {
        (Vec::new(), config.ws)
    };
    let (control, mail) = Control::new(MAILS_MAX);
    let demo = config.demo.map(Demo::new);
    let database = if is(Role::Webapp) {
        let directory = (!config.ephemeral).then_some(config.data.as_path());
        let storage = Storage::of(config.database.as_deref(), directory)?;
        let opened = tokio::select! {
            opened = Database::open(&storage, limits, control.clone(), demo.as_ref()) => opened,
            () = signals.next() => return Ok(()),
        };
        Some(opened.map_err(|unopened| unopened.to_string())?)
    } else {
        None
    };

    let store = Store::new(&config.store, &config.cell)?;
    let advertised = config.advertise.clone().unwrap_or_else(|| link.to_string());
    let file = (!config.ephemeral).then(|| RingFile::new(&config.data, &config.cell, &config.name));
    let joining = join(config, &store, file.as_ref(), (life, &advertised, *cores as u8));
    let (cell, id) = tokio::select! {
        joined = joining => joined?,
        () = signals.next() => return Ok(()),
    };
    let ring = cell.ring().map_err(|why| why.to_string())?;
    let papers = match (papers, config.papers.clone()) {
        (Some(papers), Some(files)) => {
            papers.fits(&files, id)?;
            let (papers_now, papers) = watch_channel(Arc::new(papers));
            tokio::spawn(papers::keep(files, bearer, id, papers_now));
            Some(papers)
        }
        _ => None,
    };
    // The dispatcher is where the outbox is: a node with the publish API alone has none.
    let idle = if is(Role::Webapp) { Roles::NONE } else { Roles::of(&[Role::Admin]) };
    let whole = Whole { node: id, life, roles: config.roles.without(idle), cores: *cores };
    let desk_node = config.webapp.as_ref().map_or(id, |(node, _)| *node);

    let rules = Arc::new(complete(&config.rules, config.secret));
    let clock = Clock::new();
    let (to_control, from_cores) = mpsc::channel(BATCHES_TO_CONTROL);
    let (hand_over, handed_over) = mpsc::channel(handed::WAITING_MAX);
    let ws_url = config.public_ws.clone().unwrap_or_else(|| format!("ws://{ws_address}"));
    let is_known = config.public_ws.is_some() || !ws_address.ip().is_unspecified();
    let Cores { boxes, stats, room } = cores::start(cores::Plan {
        whole,
        desk: Peer::control(desk_node, Role::Webapp),
        secret: config.secret,
        seed,
        echo: false,
        rules: &rules,
        url: is_known.then_some(ws_url.as_str()),
        region: config.region.as_deref(),
        relays: &config.relays.iter().map(|relay| relay.gateway).collect::<Vec<_>>(),
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
    let (tell_news, news) = mpsc::channel(NEWS_MAX);
    let (tell_rings, rings) = mpsc::channel(RINGS_MAX);
    let (offer, offered) = mpsc::channel(RINGS_MAX);
    let cell = Arc::new(cell);
    tokio::spawn(control::run(control::Start {
        limits: limits.clone(),
        whole,
        ring,
        clock,
        secret: config.secret,
        seed,
        database: database.clone(),
        store: Some(store.clone()),
        cell: Some(Arc::clone(&cell)),
        offer: Some(offer.clone()),
        caller,
        manager: manager(config, id),
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

    let us = Identity {
        cell: config.cell.clone(),
        node: id,
        incarnation: life,
        roles: config.roles,
        core: Peer::CONTROL_CORE,
        cores: *cores as u8,
        ring_epoch: 0,
    };
    let (names_now, names) = watch_channel(Arc::new(names_of(&cell.document)));
    let refusals = Refusals::new();
    let (ends, mut ended) = mpsc::channel(1);
    let home = Home {
        us,
        key: config.key.clone(),
        clock,
        cores: boxes.clone(),
        control: tell_news,
        ring_epoch: Arc::new(AtomicU64::new(cell.document.ring_epoch)),
        lines: Arc::new(AtomicU64::new(1)),
        papers: papers.clone(),
        names,
        refusals: refusals.clone(),
        twins: Twins::default(),
        ends,
    };
    tokio::spawn(far::answer(link_listener, home.clone()));
    let known = known(config, id);
    let (taken, view) = watch_channel(View::of(&cell));
    let head_start = if is(Role::Ring) { Duration::ZERO } else { PUSHES_FIRST };
    tokio::spawn(follow(store, view, head_start, offer));
    let tell = Tell { names: names_now, cores: boxes.clone(), control: tell_rings };
    let keeping = tokio::spawn(keep_up(home, (taken, cell), known, file, offered, tell));

    let watch = watch::Watch::new(boxes.clone(), stats, reports, control_stats);
    let watch = watch.with_links(refusals, papers);
    let mut router = watch::router(watch);
    if is(Role::Admin) {
        let cell = api::CellNow { ring: cell_ring.clone(), gateways };
        let (control, rules) = (control.clone(), Arc::clone(&rules));
        router = router.merge(api::router(api::Api::new(
            control,
            cell,
            config.secret,
            rules,
            limits,
            life,
        )));
    }
    let mut site = None;
    if let Some(database) = &database {
        let guest_door = GuestDoor {
            url: format!("{ws_url}/connection/websocket"),
            token_secret: rules.client.keys.secret().unwrap_or_default().into(),
            api_url: format!("http://{http_address}/api"),
            api_key: rules.api.key.as_deref().unwrap_or_default().into(),
        };
        let key = config.operator.clone();
        let mut made = Site::new(database.clone(), control, limits, &ws_url, key)
            .of_cell(config.secret)
            .with_regions(config.regions.clone(), cell_ring)
            .with_guests(guest_door);
        if let Some(demo) = demo {
            made = made.with_demo(demo);
        }
        router = router.merge(http::router(made.clone()));
        site = Some(made);
    }
    serve_http(http_listener, router.clone()).map_err(fault("cannot listen"))?;
    if is(Role::Gateway) {
        let router = router.layer(axum::middleware::from_fn(handed::no_upgrade));
        let handed = Handed::new(handed_over, ws_address);
        let service = router.into_make_service_with_connect_info::<Remote>();
        tokio::spawn(async move { axum::serve(handed, service).await });
    }

    let mut stdout = std::io::stdout().lock();
    // A closed stdout is nobody waiting for us.
    let _ = writeln!(stdout, "ready http=http://{http_address} ws=ws://{ws_address} link={link}");
    let _ = stdout.flush();
    drop(stdout);
    tokio::select! {
        () = signals.next() => {}
        Ok(why) = keeping => return Err(why),
        why = stuck::watch(boxes.clone()) => return Err(why),
        Some(why) = ended.recv() => return Err(why),
    }
    drain(config.drain, site.as_ref(), &boxes, &mut signals).await;
    if let Some(database) = &database {
        tokio::select! {
            () = database.close() => {}
            () = signals.next() => {}
        }
    }
    Ok(())
}

/// What a ring manager goes by. `--managers` names all of them.
fn manager(config: &Node, us: NodeId) -> ManagerConfig {
    let mut all: Vec<NodeId> = config.managers.iter().map(|(node, _)| *node).chain([us]).collect();
    all.sort_unstable();
    all.dedup();
    let rank = all.iter().position(|node| *node == us).unwrap_or(0) as u32;
    let Node { replace_window: window, probation, .. } = *config;
    ManagerConfig { me: us, managers: all.len(), rank, window, probation }
}

/// The ring, and our number in it. Who has seats takes them back, as a new incarnation; who would own something and has none stands by. Who
/// owns nothing begins with the last ring it knew when the store is away; seats are taken by a write only.
async fn join(
    config: &Node,
    store: &Store,
    file: Option<&RingFile>,
    (life, address, cores): (u64, &str, u8),
) -> Result<(Cell, NodeId), String> {
    let Node { name, cell: of, .. } = config;
    let known = file.map(|file| file.load(of)).transpose().map_err(|why| why.to_string())?;
    let known = known.flatten();
    let known_epoch = known.as_ref().map_or(0, |cell| cell.document.ring_epoch);
    let went_back = |stored: &Cell| {
        let offered = known.as_ref().map(|known| View::of(known).offer(stored));
        !matches!(offered, None | Some(Offered::Newer | Offered::Same))
    };
    let carries = Carries::of(config.roles);
    let owns = carries.is_some();
    let mut told = String::new();
    loop {
        let wait = match store.read().await {
            Ok(Some(stored)) if went_back(&stored.cell) => format!(
                "the ring store went back: its ring {} does not follow from ring {known_epoch}, which this node knew; `campanile ctl ring restore` gives it that again, by the files of the ring in --data of the nodes",
                stored.cell.document.ring_epoch
            ),
            Ok(Some(stored)) if owns => {
                let incarnation = u128::from(life);
                let us = NodeEntry::new(name, address, cores);
                let us = NodeEntry { incarnation, carries: carries.unwrap_or_default(), ..us };
                let next = stored.cell.join(us).map_err(|why| why.to_string())?;
                let id = number(config, &next)?;
                match store.swap(&stored, &next).await {
                    Ok(true) => {
                        if next.document.seats_of(id.0).next().is_none() {
                            eprintln!(
                                "campanile: {name} has no seats and stands by for a node that dies; `campanile ctl ring add {name}` gives it its share"
                            );
                        }
                        return Ok((next, id));
                    }
                    // What is there now decides.
                    Ok(false) => continue,
                    Err(failed) => failed.to_string(),
                }
            }
            Ok(Some(stored)) => {
                let id = number(config, &stored.cell)?;
                return Ok((stored.cell, id));
            }
            Ok(None) => format!("cell {of} has no ring yet: `campanile ctl ring create`"),
            Err(Failed::Unusable(why)) => return Err(why),
            Err(failed) => match &known {
                Some(cell) if !owns => {
                    eprintln!(
                        "campanile: {failed}; beginning with the ring of epoch {known_epoch}"
                    );
                    return Ok((cell.clone(), number(config, cell)?));
                }
                _ => failed.to_string(),
            },
        };
        if told != wait {
            eprintln!("campanile: {wait}; waiting");
            told = wait;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Our number: the ring's, or our own where we own nothing.
fn number(config: &Node, cell: &Cell) -> Result<NodeId, String> {
    let ours = cell.document.named(&config.name).map(|node| NodeId(node.id));
    match (ours, config.id) {
        (Some(ours), Some(id)) if ours != id => {
            Err(format!("--id {}: {} has number {} in the ring", id.0, config.name, ours.0))
        }
        (Some(ours), _) => Ok(ours),
        (None, Some(id)) if id.0 < RING_IDS_MAX => {
            Err(format!("--id {}: numbers below {RING_IDS_MAX} are the ring's", id.0))
        }
        (None, Some(id)) => Ok(id),
        (None, None) => Err(format!(
            "--id N: {} is not in the ring of cell {}, so it needs a number of its own",
            config.name, config.cell
        )),
    }
}

/// What operators call the nodes of a ring.
fn names_of(ring: &Document) -> Names {
    Names(ring.nodes.iter().map(|node| (node.id, node.name.clone())).collect())
}

/// Who is told of another ring: every place of ours.
struct Tell {
    names: WatchSender<Arc<Names>>,
    cores: Vec<LetterBox>,
    control: mpsc::Sender<(Arc<Ring>, Arc<Cell>)>,
}

impl Tell {
    /// # Errors
    /// Somebody has ended.
    async fn ring(&self, ring: Arc<Ring>, cell: Arc<Cell>) -> Result<(), String> {
        self.names.send_replace(Arc::new(names_of(&cell.document)));
        for letter_box in &self.cores {
            // A core that has no room has work; it may not miss this.
            if !letter_box.deliver(Letter::Ring(Arc::clone(&ring))).await {
                return Err("a core has ended".into());
            }
        }
        self.control.send((ring, cell)).await.map_err(|_| "the control plane has ended".into())
    }
}

/// Takes each ring that is newer, whether the store's watch brought it or a manager pushed it: tells every place of ours, and reaches the nodes
/// that are in it. Returns when we must end, and why.
async fn keep_up(
    home: Home,
    (taken, mut cell): (WatchSender<View>, Arc<Cell>),
    known: Vec<Known>,
    file: Option<RingFile>,
    mut rings: mpsc::Receiver<Cell>,
    tell: Tell,
) -> String {
    let mut dialing = BTreeMap::new();
    let (to_save, saved) = watch_channel(Arc::clone(&cell));
    if let Some(file) = file {
        tokio::spawn(keep_saved(file, saved));
    }
    loop {
        let wanted = to_dial(home.us.node, &cell.document, &known);
        dialing.retain(|node, _| wanted.contains(node));
        for node in wanted {
            let (_, address, cores, dialers) = node.clone();
            let dial = || far::dial_all(&home, &address, cores, dialers);
            dialing.entry(node).or_insert_with(dial);
        }
        let (next, ring) = loop {
            let Some(next) = rings.recv().await else { return "nobody follows the ring".into() };
            let mut offered = Offered::Same;
            taken.send_modify(|view| offered = view.offer(&next));
            match offered {
                Offered::Newer => {}
                // Both ways bring most rings.
                Offered::Same | Offered::Older { .. } => continue,
                Offered::Forked { .. } | Offered::SeatBack { .. } => {
                    tracing::error!(
                        ?offered,
                        "a ring that does not follow from ours: it is not followed"
                    );
                    continue;
                }
            }
            match next.ring() {
                Ok(ring) => break (next, Arc::new(ring)),
                Err(why) => tracing::error!(%why, "the ring of the store cannot be used"),
            }
        };
        let us = next.document.node(home.us.node);
        if let Some(us) = us.filter(|us| us.incarnation != u128::from(home.us.incarnation)) {
            return format!("another process runs as {} now, and has its seats", us.name);
        }
        if let Some(us) = us.filter(|us| us.replaced) {
            return format!(
                "the seats of {} were given to others while it was away; started again, it stands by",
                us.name
            );
        }
        home.ring_epoch.store(ring.ring_epoch, Ordering::Relaxed);
        cell = Arc::new(next);
        to_save.send_replace(Arc::clone(&cell));
        if let Err(ended) = tell.ring(ring, Arc::clone(&cell)).await {
            return ended;
        }
    }
}

/// Keeps the newest ring for the next start, which without it needs the store. Nobody waits for the disk: one that hangs would keep this node in
/// an old ring.
async fn keep_saved(file: RingFile, mut rings: Watched<Arc<Cell>>) {
    loop {
        let (file_now, cell) = (file.clone(), Arc::clone(&rings.borrow_and_update()));
        let saved = tokio::task::spawn_blocking(move || file_now.save(&cell)).await;
        if let Ok(Err(error)) = saved {
            let path = file.path().display();
            tracing::warn!(%path, %error, "the ring was not saved");
        }
        if rings.changed().await.is_err() {
            return;
        }
    }
}
