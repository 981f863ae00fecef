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
        let places = self.node.sizes.cores as u64 + 1;
        let saw = match planned.fault {
            Fault::Crash { is_told } => self.crash(is_told, planned.lasts),
            Fault::Drain => self.drain(planned.lasts),
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
            Fault::Stuck { place } => {
                self.node.stick((place % places) as usize, until);
                "faults: a place stuck"
            }
            Fault::SlowMail { from, to } => {
                self.node.slow_down((from % places) as usize, (to % places) as usize, until);
                "faults: slow mail"
            }
            Fault::Cut { is_all, how } => self.cut(is_all, how),
            Fault::SlowReaders { slowness } => self.slow_down(slowness),
            Fault::StoppedReaders => self.freeze(until),
        };
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
            // The others end by themselves.
            _ => {}
        }
    }

    fn crash(&mut self, is_told: bool, down: std::time::Duration) -> &'static str {
        if self.node.is_up() {
            let (node, mut around) = self.node_and_around();
            node.end(&mut around, is_told);
        }
        self.agenda.after(down, Happening::Start);
        if is_told { "faults: crash" } else { "faults: crash that nobody is told" }
    }

    fn drain(&mut self, window: std::time::Duration) -> &'static str {
        if self.node.is_up() && !self.node.is_draining {
            self.node.is_draining = true;
            let process = self.node.process;
            for place in 0..self.node.sizes.cores {
                let until = self.agenda.now + window;
                self.node.arrive(&mut self.agenda, (process, place), Arrival::Drain { until });
            }
            self.agenda.after(window + millis(1_500), Happening::Stop { process });
        }
        "faults: drain"
    }

    /// A drained process ends, and the next starts.
    pub(crate) fn stop(&mut self, process: u32) {
        if self.node.process == process && self.node.is_up() {
            let (node, mut around) = self.node_and_around();
            node.end(&mut around, true);
        }
        self.agenda.after(millis(200), Happening::Start);
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
        for place in 0..=self.node.sizes.cores {
            self.node.stick(place, Mono(0));
            for other in 0..=self.node.sizes.cores {
                self.node.slow_down(place, other, Mono(0));
            }
        }
        // A process that is down, or on its way down, is followed by another.
        if !self.node.is_up() {
            self.agenda.after(millis(100), Happening::Start);
        }
    }
}
