//! The server's side of a node's sockets: what is read, written, closed and buried in a turn.

use campanile::ids::{Conn, Role};
use campanile::shard::{Door, Input, Slices, Why};

use crate::agenda::Arrival;
use crate::network::{End, Network};
use crate::node::{Around, Node};

/// How long last words may take to be written, and the client to end its side after them, in milliseconds.
const LAST_WORDS_MS: u64 = 3_000;
const LINGER_MS: u64 = 1_000;

impl Node {
    pub(super) fn socket(
        &mut self,
        place: usize,
        socket: usize,
        arrival: Arrival,
        around: &mut Around<'_>,
    ) {
        let now = self.clock.now(around.agenda.now);
        let one = &mut around.network.sockets[socket];
        let conn = one.conn;
        if !one.server.is_open {
            return;
        }
        let server = &mut one.server;
        let here = &mut self.places[place];
        match arrival {
            Arrival::Accepted { .. } => {
                let remote = Network::remote();
                let input = Input::Accepted { conn, door: Door::Websocket, remote };
                here.input(now, Role::Gateway, input, around.outside);
            }
            Arrival::Bytes { mut bytes, .. } => {
                // What a closed connection still says is thrown away.
                if !(server.is_closing || server.is_lingering || server.is_doomed) {
                    around.outside.trace.note(now.mono, b'r', [conn.0, 0], &bytes);
                    let input = Input::Received { conn, bytes: &mut bytes };
                    here.input(now, Role::Gateway, input, around.outside);
                }
            }
            Arrival::Writable { .. } => {
                server.is_blocked = false;
                server.is_waking = false;
                server.is_dirty = false;
                here.input(now, Role::Gateway, Input::Writable { conn }, around.outside);
                self.dirty(place, socket, around.network);
            }
            Arrival::Ended { .. } if server.is_lingering || server.is_blocked => {
                self.doom(place, socket, around.network);
            }
            Arrival::Ended { .. } => {
                server.has_ended = true;
                server.is_closing = true;
                self.dirty(place, socket, around.network);
            }
            _ => self.doom(place, socket, around.network),
        }
        self.places[place].settle(now, around.outside);
    }

    pub(super) fn close(&mut self, place: usize, conn: Conn, reset: bool, around: &mut Around<'_>) {
        let Some(socket) = around.network.of(self.at, conn) else { return };
        let server = &mut around.network.sockets[socket].server;
        if reset {
            server.is_closing = true;
            around.network.shut(around.agenda, socket, End::Reset);
            return self.doom(place, socket, around.network);
        }
        if !server.is_closing {
            server.is_closing = true;
            server.is_paused = false;
            around.network.read_on(around.agenda, socket);
            Network::linger(around.agenda, socket, LAST_WORDS_MS);
            self.dirty(place, socket, around.network);
        }
    }

    pub(super) fn dirty(&mut self, place: usize, socket: usize, network: &mut Network) {
        let server = &mut network.sockets[socket].server;
        let waits = server.is_dirty || server.is_blocked;
        server.is_dirty = true;
        if !waits {
            self.turns[place].dirty.push_back(socket);
        }
    }

    fn doom(&mut self, place: usize, socket: usize, network: &mut Network) {
        let server = &mut network.sockets[socket].server;
        if server.is_open && !server.is_doomed {
            server.is_doomed = true;
            self.turns[place].doomed.push(socket);
        }
    }

    /// A closed connection waits no longer for its client.
    pub(crate) fn lingered(&mut self, socket: usize, around: &mut Around<'_>) {
        let one = &around.network.sockets[socket];
        if one.server.is_open && self.is_up() {
            let core = one.core;
            self.doom(core, socket, around.network);
            self.wake(around.agenda, core, around.agenda.now);
        }
    }

    /// Writes to every dirty connection once.
    pub(super) fn flush(&mut self, place: usize, around: &mut Around<'_>) {
        let now = self.clock.now(around.agenda.now);
        for socket in std::mem::take(&mut self.turns[place].dirty) {
            let one = &mut around.network.sockets[socket];
            let (conn, server) = (one.conn, &mut one.server);
            if !server.is_open || !server.is_dirty || server.is_blocked || server.is_doomed {
                continue;
            }
            server.is_dirty = false;
            let write_bytes_max = self.sizes.write_bytes_max;
            let mut slices = Slices::new(write_bytes_max);
            self.places[place].edge().outgoing(conn, &mut slices);
            let given = slices.bytes;
            if given == 0 {
                self.emptied(place, socket, around);
                continue;
            }
            let taken = around.network.send(around.agenda, socket, &slices.list);
            drop(slices);
            let input = Input::Sent { conn, bytes: taken };
            self.places[place].input(now, Role::Gateway, input, around.outside);
            self.places[place].settle(now, around.outside);
            self.obey(place, around);
            let server = &mut around.network.sockets[socket].server;
            if taken < given {
                server.is_dirty = true;
            } else if given >= write_bytes_max || server.is_closing {
                self.dirty(place, socket, around.network);
            }
        }
    }

    /// The outbox has nothing more: a connection that closes is shut now.
    fn emptied(&mut self, place: usize, socket: usize, around: &mut Around<'_>) {
        let server = &mut around.network.sockets[socket].server;
        if !server.is_closing {
            return;
        }
        if server.has_ended {
            return self.doom(place, socket, around.network);
        }
        if !server.is_lingering {
            server.is_lingering = true;
            around.network.shut(around.agenda, socket, End::Fin);
            Network::linger(around.agenda, socket, LINGER_MS);
        }
    }

    /// Connections that are over.
    pub(super) fn bury(&mut self, place: usize, around: &mut Around<'_>) {
        let now = self.clock.now(around.agenda.now);
        while let Some(socket) = self.turns[place].doomed.pop() {
            let one = &around.network.sockets[socket];
            let (conn, server) = (one.conn, one.server);
            let why = if server.has_ended {
                Why::Ended
            } else if server.is_closing || server.is_lingering {
                Why::Closed
            } else {
                Why::Broken
            };
            around.network.forget(socket);
            around.network.shut(around.agenda, socket, End::Fin);
            let input = Input::Closed { conn, why };
            self.places[place].input(now, Role::Gateway, input, around.outside);
            self.places[place].settle(now, around.outside);
            self.obey(place, around);
        }
    }
}
