//! The second way of a ring to a node: managers push what is new. What comes so is what the store had, or it is a violation (I6).

use std::rc::Rc;

use campanile::ids::{Ask, Role};
use campanile::ring::news;
use campanile::ring::view::Offered;
use campanile::wire::Message;

use crate::agenda::{Arrival, Happening};
use crate::answers::encoded;
use crate::store::Kept;
use crate::world::World;

impl World {
    /// A manager wants to know what is new, as `runtime/control` tells it.
    pub(crate) fn ring_since(&mut self, process: u32, ask: Ask, since: u64) {
        let Some(at) = self.node_of(process).filter(|_| self.ways.is_pushed) else { return };
        let Some((now, before)) = &self.nodes[at].told else { return };
        let bytes = if since == 0 {
            self.outside.coverage.saw("whole rings made for nodes");
            news::whole(&now.cell)
        } else {
            match before.as_ref().filter(|before| before.epoch() == since) {
                Some(before) => news::between(&before.cell, &now.cell),
                None => return self.outside.coverage.saw("news of a ring that came too late"),
            }
        };
        let message = Message::RingNews { since, ring_epoch: now.epoch(), news: &bytes };
        let (role, list) = (Role::Ring, vec![encoded(&message)]);
        let (place, pause) = (self.nodes[at].control(), self.hands.short_pause());
        let what = Arrival::Answer { role, ask, list };
        self.agenda.after(pause, Happening::Arrive { process, place, what });
    }

    /// A node has the news of a ring together, or the whole.
    pub(crate) fn offer_news(&mut self, process: u32, (since, epoch): (u64, u64), bytes: &[u8]) {
        let Some(at) = self.node_of(process) else { return };
        let Some((now, _)) = &self.nodes[at].told else { return };
        if since != 0 && now.epoch() != since {
            return self.outside.coverage.saw("news of another ring than a node's");
        }
        let made = if since == 0 { news::read(bytes) } else { news::apply(&now.cell, bytes) };
        let cell = match made {
            Ok(cell) => cell,
            Err(why) => return self.outside.checker.broken(format!("I6: news of {epoch}: {why}")),
        };
        let written = self.store.written(epoch).map(Rc::clone);
        let kept = match written {
            Some(written) if written.cell == cell => written,
            Some(_) => {
                return self
                    .outside
                    .checker
                    .broken(format!("I6: ring {epoch} is pushed otherwise"));
            }
            None if epoch > self.store.highest => {
                return self.outside.checker.broken(format!("I6: ring {epoch} was never written"));
            }
            None => match cell.ring() {
                Ok(ring) => Rc::new(Kept { cell, ring: Rc::new(ring) }),
                Err(why) => return self.outside.checker.broken(format!("I7: {why}")),
            },
        };
        let is_deaf = self.ways.deaf == Some(at);
        let what = match (is_deaf, since) {
            (true, 0) => "rings by parts alone",
            (true, _) => "rings by news alone",
            (false, 0) => "rings by parts before the watch",
            (false, _) => "rings by news before the watch",
        };
        self.offer(process, &kept, what);
    }

    /// A ring that did not come by the store's watch. `saw`: what it is when it is newer.
    pub(crate) fn offer(&mut self, process: u32, kept: &Rc<Kept>, saw: &'static str) {
        let Some(at) = self.node_of(process).filter(|at| self.nodes[*at].is_up()) else { return };
        match self.nodes[at].view.offer(&kept.cell) {
            Offered::Newer => {
                self.outside.coverage.saw(saw);
                self.tell_ring(at, kept);
            }
            Offered::Same | Offered::Older { .. } => self.outside.coverage.saw("rings pushed late"),
            forked @ (Offered::Forked { .. } | Offered::SeatBack { .. }) => {
                self.outside.checker.broken(format!("I6: {forked:?}"));
            }
        }
    }
}
