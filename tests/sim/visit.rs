//! The guests' comings and goings: their sockets, their patience.

use crate::agenda::{Happening, millis};
use crate::checker::Violation;
use crate::database::Database;
use crate::ending::Stage;
use crate::guest::{Guest, Phase};
use crate::network::{End, Read};
use crate::random::Random;
use crate::world::World;

/// Guests are numbered from here on, where clients are meant.
pub(crate) const GUESTS_FROM: usize = 1_000;
/// After so long without a word, a guest gives its connection up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(8);

/// The guests of a world.
pub(crate) fn populate(database: &Database, random: &mut Random) -> Vec<Guest> {
    let count = random.below(5);
    (0..count)
        .map(|nth| Guest::new(format!("guest{nth}"), random.pick::<String>(&database.users)))
        .collect()
}

/// Guests who come for so many channels, and are gone when it is quiet.
pub(crate) fn tourists(database: &Database, sights: u64, random: &mut Random) -> Vec<Guest> {
    let count = if sights == 0 { 0 } else { random.between(1, 2) };
    (0..count)
        .map(|nth| {
            let user = random.pick::<String>(&database.users);
            Guest::new(format!("tourist{nth}"), user).with_sights(sights)
        })
        .collect()
}

impl World {
    /// Guests of this kind go home.
    pub(crate) fn retire_guests(&mut self, who: impl Fn(&Guest) -> bool) {
        for at in 0..self.guests.len() {
            if who(&self.guests[at]) {
                self.guests[at].is_retired = true;
                self.guest_hangs_up(at);
            }
        }
    }

    /// A guest looks up: connects, gives up, speaks.
    pub(crate) fn guest_looks_up(&mut self, client: usize) {
        let at = client - GUESTS_FROM;
        if self.guests[at].is_retired {
            return;
        }
        let is_quiet = self.stage != Stage::Active;
        let pause = if is_quiet { 600 } else { self.client_pause_ms };
        let pause = millis(self.visits.between(20, pause));
        self.agenda.after(pause, Happening::Client { client });
        let now = self.agenda.now;
        match self.guests[at].phase {
            Phase::Away => {
                if self.a_gateway().is_some() {
                    let guest = &mut self.guests[at];
                    guest.phase = Phase::Opening;
                    guest.attempt += 1;
                    let number = guest.attempt;
                    let pause = millis(self.visits.below(40));
                    self.agenda.after(pause, Happening::Open { client, number });
                }
            }
            Phase::Opening => {}
            _ => {
                let guest = &mut self.guests[at];
                let had_enough = now.since(guest.heard_at) > PATIENCE;
                let goes = !is_quiet && self.visits.chance(60);
                if had_enough || guest.is_over || goes {
                    return self.guest_hangs_up(at);
                }
                if is_quiet {
                    guest.settle(&mut self.visits);
                } else {
                    guest.act(&mut self.outside, &mut self.visits);
                }
            }
        }
        self.write_guest(at);
    }

    /// The socket of a guest is to be opened.
    pub(crate) fn open_guest(&mut self, client: usize, number: u64) {
        let at = client - GUESTS_FROM;
        let guest = &self.guests[at];
        if guest.attempt != number || guest.phase != Phase::Opening || guest.is_retired {
            return;
        }
        let Some(gateway) = self.a_gateway() else {
            return self.guests[at].lost();
        };
        let process = self.nodes[gateway].process;
        let socket = self.network.open(&mut self.agenda, Some(client), (gateway, process));
        let guest = &mut self.guests[at];
        if self.network.sockets[socket].conn == campanile::ids::Conn(0) {
            return guest.lost();
        }
        guest.socket = Some(socket);
        guest.opened(self.agenda.now);
        self.write_guest(at);
    }

    pub(crate) fn guest_hangs_up(&mut self, at: usize) {
        self.guests[at].lost();
        if let Some(socket) = self.guests[at].socket.take() {
            let how = if self.visits.chance(500) { End::Fin } else { End::Reset };
            self.network.end(&mut self.agenda, socket, how);
        }
    }

    fn write_guest(&mut self, at: usize) {
        let bytes = std::mem::take(&mut self.guests[at].outgoing);
        if let Some(socket) = self.guests[at].socket
            && !bytes.is_empty()
        {
            self.network.write(&mut self.agenda, socket, &bytes);
        }
    }

    /// What came to the socket of a guest.
    pub(crate) fn read_guest(
        &mut self,
        socket: usize,
        read: Read,
        client: usize,
    ) -> Result<(), Violation> {
        let at = client - GUESTS_FROM;
        let now = self.agenda.now;
        let is_its = self.guests[at].socket == Some(socket);
        match read {
            Read::Bytes(bytes) if is_its => {
                self.outside.trace.note(now, b'g', [socket as u64, 0], &bytes);
                self.outside
                    .trace
                    .tell(now, || format!("guest{at} <= {}", String::from_utf8_lossy(&bytes)));
                let streams = &mut self.outside.streams;
                let coverage = &mut self.outside.coverage;
                self.guests[at].receive(&bytes, now, streams, coverage, &mut self.visits)?;
                self.write_guest(at);
            }
            Read::Over => {
                self.network.end(&mut self.agenda, socket, End::Fin);
                if is_its {
                    self.guests[at].lost();
                    self.guests[at].socket = None;
                }
            }
            Read::Bytes(_) | Read::Nothing => {}
        }
        Ok(())
    }
}
