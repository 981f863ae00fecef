//! Faults as they begin and end.

use campanile::time::Mono;

use crate::agenda::{Arrival, Happening, millis};
use crate::ending::Stage;
use crate::faults::{Cut, Fault};
use crate::network::End;
use crate::world::World;

impl World {
    pub(crate) fn disturb(&mut self, at: usize) {
        if self.stage != Stage::Active {
            return;
        }
        let planned = self.plan[at].clone();
        let until = self.agenda.now + planned.lasts;
        self.outside.trace.tell(self.agenda.now, || format!("fault: {planned:?}"));
        let count = self.nodes.len() as u64;
        let of = |node: u64| (node % count) as usize;
        let places = |world: &Self, node: u64| world.nodes[of(node)].control() as u64 + 1;
        let saw = match planned.fault {
            Fault::Crash { node, is_told } => self.crash(of(node), is_told, planned.lasts),
            Fault::Drain { node } => self.drain(of(node), planned.lasts),
            Fault::DatabaseAway => {
                self.hands.is_away = true;
                "faults: database away"
            }
            Fault::DatabaseSlow { ms } => {
                self.hands.slow_ms = ms;
                "faults: database slow"
            }
            Fault::QuestionsLost(per_mille) => {
                self.hands.questions_lost = per_mille;
                "faults: questions lost"
            }
            Fault::AnswersLost(per_mille) => {
                self.hands.answers_lost = per_mille;
                "faults: answers lost"
            }
            Fault::WordsLost(per_mille) => {
                self.hands.words_lost = per_mille;
                "faults: words lost"
            }
            Fault::Stuck { node, place } => {
                let places = places(self, node);
                self.nodes[of(node)].stick((place % places) as usize, until);
                "faults: a place stuck"
            }
            Fault::SlowMail { node, from, to } => {
                let places = places(self, node);
                self.nodes[of(node)].slow_down(
                    (from % places) as usize,
                    (to % places) as usize,
                    until,
                );
                "faults: slow mail"
            }
            Fault::Cut { is_all, how } => self.cut(is_all, how),
            Fault::SlowReaders { slowness } => self.slow_down(slowness),
            Fault::StoppedReaders => self.freeze(until),
            Fault::Pause { node } => self.pause(of(node), until),
            Fault::Wall { from, to, is_both_ways } => {
                self.standing.insert(at);
                self.walls(from, to, is_both_ways, true);
                if is_both_ways { "faults: walls" } else { "faults: walls one way" }
            }
            Fault::Partition { nodes } => {
                self.standing.insert(at);
                self.partition(nodes, true);
                "faults: partitions"
            }
            Fault::SlowLines { node, ms } => {
                self.slow_lines(of(node), ms);
                "faults: slow connections of a node"
            }
            Fault::LinesCut { from, to } => {
                self.cut_lines(of(from), of(to));
                "faults: connections between nodes cut"
            }
            Fault::StoreAway => {
                self.store.is_away = true;
                "faults: ring store away"
            }
            Fault::StoreOdd { answers_lost, stale } => {
                (self.store.answers_lost, self.store.stale) = (answers_lost, stale);
                "faults: ring store odd"
            }
            Fault::WatchSlow { ms } => {
                self.store.watch_ms = ms;
                "faults: late news of the ring"
            }
            Fault::Slow { node, place } => {
                let places = places(self, node);
                self.nodes[of(node)].tax((place % places) as usize, until);
                "faults: a place slow"
            }
            Fault::DatabaseReadOnly => {
                self.hands.is_read_only = true;
                "faults: database read-only"
            }
            Fault::DatabaseFollowed { per_mille } => {
                self.hands.followed = per_mille;
                "faults: database followed"
            }
            Fault::ClockMoved { node, by_ms } => {
                self.nodes[of(node)].clock.jump(by_ms);
                "faults: a wall clock moved"
            }
            Fault::ClockStopped { node } => {
                self.nodes[of(node)].clock.stop(self.agenda.now);
                "faults: a wall clock stopped"
            }
            Fault::StoreAwayFrom { node } => {
                self.store.away_from = Some(of(node));
                "faults: ring store away from a node"
            }
            Fault::StoreRestored { back } => {
                // What was written last is known to everybody: where it is not, two processes may have one seat for a while, and no operator
                // could know.
                let is_known = self.layout.is_cell
                    && (0..self.nodes.len())
                        .all(|at| !self.nodes[at].is_up() || self.is_current(at));
                if !is_known || !self.store.restore(back) {
                    return;
                }
                self.spread_news();
                "faults: ring store restored"
            }
        };
        self.note_trouble();
        self.outside.coverage.saw(saw);
    }

    /// The fault is over; where several of a kind overlap, the first to end ends them.
    pub(crate) fn heal(&mut self, at: usize) {
        match self.plan[at].fault {
            Fault::DatabaseAway => self.hands.is_away = false,
            Fault::DatabaseSlow { .. } => self.hands.slow_ms = 0,
            Fault::QuestionsLost(_) => self.hands.questions_lost = 0,
            Fault::AnswersLost(_) => self.hands.answers_lost = 0,
            Fault::WordsLost(_) => self.hands.words_lost = 0,
            Fault::SlowReaders { .. } => {
                for socket in 0..self.network.sockets.len() {
                    self.network.sockets[socket].slowness = 1;
                }
            }
            Fault::StoppedReaders => self.thaw(),
            Fault::Wall { from, to, is_both_ways } if self.standing.remove(&at) => {
                self.walls(from, to, is_both_ways, false);
            }
            Fault::Partition { nodes } if self.standing.remove(&at) => self.partition(nodes, false),
            Fault::SlowLines { node, .. } => {
                let count = self.nodes.len();
                self.slow_lines((node % count as u64) as usize, 0);
            }
            Fault::StoreAway => self.store.is_away = false,
            Fault::StoreOdd { .. } => (self.store.answers_lost, self.store.stale) = (0, 0),
            Fault::WatchSlow { .. } => self.store.watch_ms = 0,
            Fault::DatabaseReadOnly => self.hands.is_read_only = false,
            Fault::DatabaseFollowed { .. } => self.hands.followed = 0,
            Fault::ClockStopped { node } => {
                let count = self.nodes.len() as u64;
                self.nodes[(node % count) as usize].clock.go_on(self.agenda.now);
            }
            Fault::StoreAwayFrom { .. } => self.store.away_from = None,
            Fault::StoreRestored { .. } => self.is_alarmed = self.store.went_back(),
            // The others end by themselves.
            _ => {}
        }
    }

    fn crash(&mut self, at: usize, is_told: bool, down: std::time::Duration) -> &'static str {
        if self.nodes[at].process != 0 {
            self.end(at, is_told);
        }
        self.agenda.after(down, Happening::Start { node: at });
        if is_told { "faults: crash" } else { "faults: crash that nobody is told" }
    }

    fn end(&mut self, at: usize, is_told: bool) {
        // Its walls go with it: others of the same node may stand.
        if self.nodes[at].paused_since.take().is_some() {
            self.mute(at, false);
        }
        self.impaired[at] = self.agenda.now;
        let (node, mut around) = self.node_and_around(at);
        node.end(&mut around, is_told);
    }

    fn drain(&mut self, at: usize, window: std::time::Duration) -> &'static str {
        if self.nodes[at].is_up() && !self.nodes[at].is_draining {
            let node = &mut self.nodes[at];
            node.is_draining = true;
            let process = node.process;
            let until = node.clock.mono(self.agenda.now + window);
            for place in 0..node.control() {
                node.arrive(&mut self.agenda, place, Arrival::Drain { until });
            }
            self.agenda.after(window + millis(1_500), Happening::Stop { process });
        }
        "faults: drain"
    }

    /// A process ends that was told to, and the next starts.
    pub(crate) fn stop(&mut self, process: u32) {
        let Some(at) = self.node_of(process) else { return };
        self.end(at, true);
        self.agenda.after(millis(200), Happening::Start { node: at });
    }

    /// A process stands still: for others it is silent.
    fn pause(&mut self, at: usize, until: Mono) -> &'static str {
        let node = &mut self.nodes[at];
        if node.process != 0 && node.paused_since.is_none() {
            node.paused_until = until;
            node.paused_since = Some(self.agenda.now);
            for place in 0..=node.control() {
                node.stick(place, until);
            }
            let process = node.process;
            self.mute(at, true);
            self.agenda.at(until, Happening::GoOn { process });
        }
        "faults: pause"
    }

    /// It goes on. Whoever stood still for longer than a stream waits finds its own connections silent.
    pub(crate) fn go_on(&mut self, process: u32) {
        let Some(at) = self.node_of(process) else { return };
        let Some(since) = self.nodes[at].paused_since.take() else { return };
        self.nodes[at].paused_until = Mono(0);
        self.impaired[at] = self.agenda.now;
        if self.agenda.now.since(since) >= campanile::limits::LINK_SILENCE_MAX {
            self.outside.coverage.saw("processes that stood still for long");
            for (line, side) in self.lines.of(process) {
                self.close(line, side);
            }
        }
        self.mute(at, false);
    }

    /// Nothing comes from a node or to it any more; or it does again.
    fn mute(&mut self, at: usize, is_on: bool) {
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            self.wall(at, other, is_on);
            self.wall(other, at, is_on);
        }
    }

    fn wall(&mut self, from: usize, to: usize, is_on: bool) {
        if is_on {
            self.lines.raise(&mut self.agenda, from, to);
        } else {
            self.lines.lower(&mut self.agenda, from, to);
        }
    }

    fn walls(&mut self, from: u64, to: u64, is_both_ways: bool, is_on: bool) {
        let count = self.nodes.len() as u64;
        let (from, to) = ((from % count) as usize, (to % count) as usize);
        if from != to {
            self.wall(from, to, is_on);
            if is_both_ways {
                self.wall(to, from, is_on);
            }
        }
    }

    fn partition(&mut self, nodes: u64, is_on: bool) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                if nodes >> a & 1 != nodes >> b & 1 {
                    self.wall(a, b, is_on);
                }
            }
        }
    }

    fn slow_lines(&mut self, at: usize, ms: u64) {
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            self.lines.slow_down(at, other, ms);
            self.lines.slow_down(other, at, ms);
        }
    }

    fn cut_lines(&mut self, a: usize, b: usize) {
        let lines: Vec<usize> = self.lines.between(a, b).collect();
        for line in lines {
            if self.faults.chance(700) {
                let side = usize::from(self.faults.chance(500));
                self.close(line, side);
            }
        }
    }

    /// Nodes with which something is wrong now: a manager may give their seats away.
    pub(crate) fn note_trouble(&mut self) {
        let now = self.agenda.now;
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let is_alone = || {
                (0..self.nodes.len()).any(|other| {
                    other != at
                        && (self.lines.is_hindered(at, other) || self.lines.is_hindered(other, at))
                })
            };
            if !node.is_up() || node.paused_until > now || node.is_stuck(now) || is_alone() {
                self.impaired[at] = now;
            }
        }
    }

    fn cut(&mut self, is_all: bool, how: Cut) -> &'static str {
        let one = self.faults.below(self.devices.len() as u64) as usize;
        for client in 0..self.devices.len() {
            let Some(socket) = self.devices[client].socket.filter(|_| is_all || client == one)
            else {
                continue;
            };
            match how {
                Cut::Fin => self.hang_up(client, End::Fin),
                Cut::Reset => self.hang_up(client, End::Reset),
                Cut::Silent => self.network.sockets[socket].is_silent = true,
            }
        }
        match how {
            Cut::Silent => "faults: connections cut in silence",
            _ if is_all => "faults: all connections cut",
            _ => "faults: a connection cut",
        }
    }

    fn slow_down(&mut self, slowness: u64) -> &'static str {
        for socket in 0..self.network.sockets.len() {
            if self.faults.chance(400) {
                self.network.sockets[socket].slowness = slowness;
            }
        }
        "faults: slow readers"
    }

    fn freeze(&mut self, until: Mono) -> &'static str {
        for device in &mut self.devices {
            if let Some(socket) = device.socket.filter(|_| self.faults.chance(400)) {
                device.frozen_until = until;
                self.network.sockets[socket].is_stopped = true;
            }
        }
        "faults: stopped readers"
    }

    fn thaw(&mut self) {
        for device in &mut self.devices {
            device.frozen_until = Mono(0);
            if let Some(socket) = device.socket {
                self.network.sockets[socket].is_stopped = false;
                // Whoever stood still is patient with itself.
                device.client.heard_at = self.agenda.now;
                self.network.wake(&mut self.agenda, socket);
            }
        }
    }

    /// All faults end.
    pub(crate) fn heal_all(&mut self) {
        for at in 0..self.plan.len() {
            self.heal(at);
        }
        for at in 0..self.nodes.len() {
            self.go_on(self.nodes[at].process);
            self.nodes[at].unstick();
            // A process that is down, or on its way down, is followed by another.
            if self.nodes[at].process == 0 {
                self.agenda.after(millis(100), Happening::Start { node: at });
            }
        }
    }
}
