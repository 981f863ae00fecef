//! The devices on which clients run: their sockets, their patience, their comings and goings.

use campanile::ids::{Conn, Origin};
use campanile::time::Mono;

use crate::agenda::{Happening, millis};
use crate::checker::Violation;
use crate::client::{Client, Phase};
use crate::database::Ticket;
use crate::ending::Stage;
use crate::frames;
use crate::network::{End, Read};
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) client: Client,
    pub(crate) socket: Option<usize>,
    /// Counts the attempts to open a socket.
    attempt: u64,
    /// A ticket that was fetched before the last connection ended.
    ahead: Option<Ticket>,
    /// Gone for good.
    pub(crate) is_retired: bool,
    /// Does nothing and reads nothing until then.
    pub(crate) frozen_until: Mono,
    /// In the quiet, it watches everybody once in each connection.
    pub(crate) has_settled: bool,
}

/// After so long without a word, a client gives its connection up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(6);

impl Device {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            socket: None,
            attempt: 0,
            ahead: None,
            is_retired: false,
            frozen_until: Mono(0),
            has_settled: false,
        }
    }
}

impl World {
    /// A client looks up: connects, gives up, speaks.
    pub(crate) fn look_up(&mut self, client: usize) {
        let device = &self.devices[client];
        if device.is_retired {
            return;
        }
        let is_quiet = self.stage != Stage::Active;
        let pause = if is_quiet { 600 } else { self.client_pause_ms };
        let pause = millis(self.workload.between(20, pause));
        self.agenda.after(pause, Happening::Client { client });
        let now = self.agenda.now;
        if self.devices[client].frozen_until > now {
            return;
        }
        match self.devices[client].client.phase {
            Phase::Away => self.connect(client),
            Phase::Opening => {}
            _ => self.attend(client, is_quiet),
        }
        self.write(client);
    }

    /// rtm.connect, if there is somebody who answers.
    fn connect(&mut self, client: usize) {
        if self.desk().is_none() || !self.hands.can_write() {
            return;
        }
        let device = &mut self.devices[client];
        if self.outside.database.revoked(device.client.token).is_some() {
            // Whoever sits before it logs in again.
            self.outside.coverage.saw("tokens that were replaced");
            device.client.token = self.outside.database.login(&device.client.user);
        }
        let fresh =
            |ticket: &Ticket| self.agenda.now.since(ticket.made) < self.outside.ticket_timeout / 2;
        let by_path = device.client.next_path.take().and_then(|path| {
            let name = path.strip_prefix("/websocket/")?.to_string();
            self.outside.database.ticket(&name).cloned()
        });
        let ticket = if let Some(ticket) = device.ahead.take().filter(fresh) {
            self.outside.coverage.saw("tickets fetched ahead");
            ticket
        } else if let Some(ticket) = by_path.filter(fresh).filter(|_| self.workload.chance(500)) {
            self.outside.coverage.saw("reconnect_urls used");
            ticket
        } else {
            let Client { user, token, .. } = &device.client;
            let ticket = self.outside.database.connect(user, *token, device.client.flags());
            ticket.expect("the token is good")
        };
        device.client.begin(ticket);
        device.attempt += 1;
        device.has_settled = false;
        let number = device.attempt;
        let is_slow = self.workload.chance(10) && self.stage == Stage::Active;
        let pause = if is_slow { 4_000 } else { self.workload.below(40) };
        self.agenda.after(millis(pause), Happening::Open { client, number });
    }

    /// The socket of a client is to be opened.
    pub(crate) fn open(&mut self, client: usize, number: u64) {
        let device = &self.devices[client];
        let is_wanted = device.attempt == number && device.client.phase == Phase::Opening;
        if !is_wanted || device.is_retired {
            return;
        }
        let Some(at) = self.a_gateway() else {
            return self.devices[client].client.lost();
        };
        let (process, life) = (self.nodes[at].process, self.nodes[at].life);
        let socket = self.network.open(&mut self.agenda, Some(client), (at, process));
        let conn = self.network.sockets[socket].conn;
        if conn == Conn(0) {
            self.outside.coverage.saw("sockets refused");
            return self.devices[client].client.lost();
        }
        let device = &mut self.devices[client];
        device.socket = Some(socket);
        device.client.opened(self.agenda.now, Origin { life, conn });
        self.write(client);
    }

    /// A client with a socket looks after it, and does something.
    fn attend(&mut self, client: usize, is_quiet: bool) {
        let now = self.agenda.now;
        let device = &mut self.devices[client];
        if now.since(device.client.heard_at) > PATIENCE {
            self.outside.coverage.saw("connections given up");
            return self.hang_up(client, End::Reset);
        }
        if device.client.is_over {
            let how = if self.workload.chance(500) { End::Fin } else { End::Reset };
            return self.hang_up(client, how);
        }
        device.client.resume_if_due(now, &mut self.workload);
        if device.client.has_goodbye() && self.workload.chance(400) {
            return self.go(client);
        }
        if is_quiet {
            device.client.settle(&mut self.workload);
            if device.client.phase == Phase::Live && !device.has_settled {
                device.has_settled = true;
                if client.is_multiple_of(2) {
                    device.client.watch(&mut self.outside, &mut self.workload, 1_000);
                }
            }
            if self.workload.chance(300) && device.client.phase == Phase::Live {
                device.client.ping(now, &mut self.workload);
            }
            return;
        }
        device.client.act(now, &mut self.outside, &mut self.workload);
        if self.workload.chance(20) {
            self.go(client);
        }
    }

    /// A client ends its connection of its own accord; it may have fetched its next ticket before.
    fn go(&mut self, client: usize) {
        self.outside.coverage.saw("clients that went");
        if self.workload.chance(200) && self.desk().is_some() && self.hands.can_write() {
            let device = &mut self.devices[client];
            let Client { user, token, .. } = &device.client;
            device.ahead = self.outside.database.connect(user, *token, device.client.flags());
            return;
        }
        if self.workload.chance(100) && self.stage == Stage::Active {
            self.devices[client].is_retired = true;
            self.outside.coverage.saw("clients that went for good");
        }
        let device = &mut self.devices[client];
        if self.workload.chance(300) && device.client.phase == Phase::Live {
            let close = 1_000u16.to_be_bytes();
            let outgoing = &mut device.client.outgoing;
            frames::write(frames::CLOSE, &close, &mut self.workload, outgoing);
            self.write(client);
        }
        let how = if self.workload.chance(500) { End::Fin } else { End::Reset };
        self.hang_up(client, how);
    }

    pub(crate) fn hang_up(&mut self, client: usize, how: End) {
        let device = &mut self.devices[client];
        device.client.lost();
        if let Some(socket) = device.socket.take() {
            self.network.end(&mut self.agenda, socket, how);
        }
    }

    /// What the client wants said goes into its socket.
    pub(crate) fn write(&mut self, client: usize) {
        let device = &mut self.devices[client];
        let bytes = std::mem::take(&mut device.client.outgoing);
        if let Some(socket) = device.socket
            && !bytes.is_empty()
        {
            self.network.write(&mut self.agenda, socket, &bytes);
        }
    }

    /// Somebody reads from a socket.
    pub(crate) fn read(&mut self, socket: usize) -> Result<(), Violation> {
        let now = self.agenda.now;
        let read = self.network.down(&mut self.agenda, socket);
        let client = self.network.sockets[socket].client;
        if let Some(guest) = client.filter(|client| *client >= crate::visit::GUESTS_FROM) {
            return self.read_guest(socket, read, guest);
        }
        let client = client.filter(|client| self.devices[*client].socket == Some(socket));
        match (read, client) {
            (Read::Nothing, _) => Ok(()),
            (Read::Bytes(bytes), Some(client)) => {
                self.outside.trace.note(now, b'b', [socket as u64, 0], &bytes);
                let device = &mut self.devices[client];
                let (outside, random) = (&mut self.outside, &mut self.workload);
                device.client.receive(&bytes, now, outside, random)?;
                self.write(client);
                Ok(())
            }
            (Read::Bytes(_), None) => Ok(()),
            (Read::Over, client) => {
                self.network.end(&mut self.agenda, socket, End::Fin);
                if let Some(client) = client {
                    self.outside
                        .trace
                        .tell(now, || format!("{} sees the end", self.devices[client].client.name));
                    self.devices[client].client.lost();
                    self.devices[client].socket = None;
                }
                Ok(())
            }
        }
    }
}
