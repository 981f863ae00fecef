//! Starts the cores of a node: an executor each, their mesh, and the ways between them and the control plane.

use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use tokio::sync::{Notify, mpsc};

use super::bell::Bell;
use super::clock::Clock;
use super::handed::HandedOver;
use super::letters::LetterBox;
use super::mesh::mesh;
use super::stats::Stats;
use super::{core, uring};
use crate::centrifuge::rules::Rules;
use crate::ids::Peer;
use crate::limits::Limits;
use crate::place::Whole;
use crate::ring::region::RegionRelay;
use crate::ring::{Ring, Secret};
use crate::wire::link::Batch;

/// What all cores of a node are started with.
pub(super) struct Plan<'a> {
    pub(super) whole: Whole,
    pub(super) desk: Peer,
    pub(super) secret: Secret,
    pub(super) seed: u64,
    pub(super) echo: bool,
    pub(super) rules: &'a Arc<Rules>,
    /// Where clients find us, when that is one address.
    pub(super) url: Option<&'a str>,
    pub(super) region: Option<&'a str>,
    pub(super) relays: &'a [RegionRelay],
    pub(super) limits: &'a Limits,
    pub(super) ring: &'a Ring,
    pub(super) clock: Clock,
    pub(super) cpus: &'a [usize],
    /// One for each core, where this node is a gateway.
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) control: mpsc::Sender<(usize, Batch)>,
    pub(super) handed: mpsc::Sender<HandedOver>,
}

/// Cores that are up.
pub(super) struct Cores {
    pub(super) boxes: Vec<LetterBox>,
    pub(super) stats: Vec<Stats>,
    /// Told whenever one took a letter.
    pub(super) room: Arc<Notify>,
}

/// glommio's memory for files; we read none.
const IO_MEMORY_BYTES: usize = 64 << 10;
const RING_DEPTH: usize = 1_024;
/// Never: an executor has one task, and that gives the thread back at its end.
const PREEMPT: Duration = Duration::from_secs(365 * 24 * 3_600);

/// # Errors
/// A sentence: a core did not start.
pub(super) async fn start(plan: Plan<'_>) -> Result<Cores, String> {
    let cores = plan.whole.cores;
    let room = Arc::new(Notify::new());
    let (ready, told) = std_mpsc::channel();
    let (mut boxes, mut stats) = (Vec::new(), Vec::new());
    let bells: Result<Vec<_>, _> =
        (0..cores).map(|_| uring::wake_fd().map(|fd| Arc::new(Bell::new(fd)))).collect();
    let bells = bells.map_err(|error| format!("cannot make an eventfd: {error}"))?;
    let mut listeners = plan.listeners.into_iter();
    for (core, mesh) in mesh(&bells).into_iter().enumerate() {
        let (letter_box, letters) = LetterBox::new(Arc::clone(&bells[core]));
        boxes.push(letter_box);
        stats.push(Stats::new());
        let start = core::Start {
            core,
            whole: plan.whole,
            desk: plan.desk,
            secret: plan.secret,
            seed: plan.seed ^ core as u64,
            echo: plan.echo,
            rules: Arc::clone(plan.rules),
            url: plan.url.map(Into::into),
            region: plan.region.map(Into::into),
            relays: plan.relays.to_vec(),
            limits: plan.limits.clone(),
            ring: plan.ring.clone(),
            clock: plan.clock,
            listener: listeners.next(),
            letters,
            bell: Arc::clone(&bells[core]),
            mesh,
            control: plan.control.clone(),
            handed: plan.handed.clone(),
            room: Arc::clone(&room),
            stats: stats[core].clone(),
        };
        let cpu = plan.cpus[core % plan.cpus.len()];
        let ready = ready.clone();
        // Its thread runs until it is told to end; nobody waits for that.
        LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name(&format!("core-{core}"))
            .io_memory(IO_MEMORY_BYTES)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT)
            .spawn(move || async { core::run(start, ready) })
            .map_err(|error| format!("cannot start an executor on CPU {cpu}: {error}"))?;
    }
    drop(ready);
    let waiting = tokio::task::spawn_blocking(move || {
        (0..cores).try_for_each(|_| {
            told.recv_timeout(Duration::from_secs(10))
                .unwrap_or_else(|_| Err("a core did not start".into()))
        })
    });
    waiting.await.map_err(|error| error.to_string())??;
    Ok(Cores { boxes, stats, room })
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::centrifuge::rules::Rules;
    use crate::ids::{NodeId, Role, Roles};
    use crate::runtime::host;
    use crate::runtime::letters::Letter;

    /// Two at once: one wakes the core, and the other comes while it looks for the last time before it sleeps again.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_core_that_is_asked_by_two_at_once_never_sleeps_over_a_letter() {
        let node = NodeId(0);
        let (control, _from_cores) = mpsc::channel(1);
        let (handed, _handed_over) = mpsc::channel(1);
        let Cores { boxes, .. } = start(Plan {
            whole: Whole { node, life: 1, roles: Roles::of(&[Role::Channel]), cores: 1 },
            desk: Peer::control(node, Role::Webapp),
            secret: Secret([0; 16]),
            seed: 1,
            echo: false,
            rules: &Arc::new(Rules::default()),
            url: None,
            region: None,
            relays: &[],
            limits: &Limits::default(),
            ring: &Ring::new(&[(node, 1)]),
            clock: Clock::new(),
            cpus: &host::cpus(),
            listeners: Vec::new(),
            control,
            handed,
        })
        .await
        .expect("it starts");
        let ask = |letter_box: LetterBox| async move {
            for nth in 0..20_000 {
                let (answer, answered) = oneshot::channel();
                letter_box.post(Letter::Ping(answer)).expect("there is room for two");
                let answered = timeout(Duration::from_secs(3), answered).await;
                assert!(matches!(answered, Ok(Ok(()))), "nobody answers {nth}");
            }
        };
        let both = [0, 1].map(|_| tokio::spawn(ask(boxes[0].clone())));
        for one in both {
            one.await.expect("all of its letters were answered");
        }
        boxes[0].post(Letter::Stop).expect("there is room");
    }
}
