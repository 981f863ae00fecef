//! The quiet end: faults and workload stop, and everything must come to rest: I4, I15, I17, I22; then everybody goes, and nothing is left.

use std::collections::BTreeMap;
use std::time::Duration;

use campanile::shard::Counter;
use campanile::time::Mono;
use campanile::wire::Message;

use crate::agenda::Happening;
use crate::checker::Violation;
use crate::client::Phase;
use crate::guest::Guest;
use crate::hearing::REVOKED_WITHIN;
use crate::network::End;
use crate::world::World;

/// How far a world has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Active,
    /// Since when; and since when everything is at rest.
    Quiet {
        since: Mono,
        rested: Option<Mono>,
    },
    /// HTTP was asked who is there, at this time; it is quiet since `quiet`.
    Asking {
        since: Mono,
        quiet: Mono,
    },
    /// Everybody has gone, at this time.
    Leaving {
        since: Mono,
    },
    Done,
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// I22: in this time everything comes to rest.
const REST: Duration = Duration::from_secs(30);
/// I4: in this time the outbox is empty, unless there was no end of commits, or more in it than leaves at the pace of finalising.
const DISPATCHED: Duration = Duration::from_secs(10);
const FINALISED: Duration = Duration::from_millis(250);
/// It must not stir again in this time.
const STABLE: Duration = Duration::from_secs(2);
/// After so long in the quiet, presence by hand is said again.
const SAID_AGAIN: Duration = Duration::from_secs(1);
/// I18 in a world without faults.
const PROMPT_S: u64 = 5;

impl World {
    /// Bounds, always; and how far the end has come.
    pub(crate) fn look(&mut self) -> Result<(), Violation> {
        self.agenda.after(LOOK, Happening::Look);
        self.note_trouble();
        self.looks += 1;
        if self.looks.is_multiple_of(4) {
            self.mailboxes()?;
        }
        // Gauges are not made to be asked for so often.
        if self.looks.is_multiple_of(8) {
            self.bounds()?;
        }
        match self.stage {
            Stage::Active => self.prompt(),
            Stage::Quiet { since, rested } => self.rest(since, rested),
            Stage::Asking { since, quiet } => self.asked(since, quiet),
            Stage::Leaving { since } => self.left(since),
            Stage::Done => Ok(()),
        }
    }

    /// Faults and workload stop.
    pub(crate) fn quieten(&mut self) {
        self.outside.trace.tell(self.agenda.now, || "quiet".into());
        self.stage = Stage::Quiet { since: self.agenda.now, rested: None };
        self.backlog = self.outside.database.outbox.len();
        self.heal_all();
        self.retire_guests(Guest::is_tourist);
    }

    /// I17, of mail.
    fn mailboxes(&self) -> Result<(), Violation> {
        let all = self.nodes.iter().map(|node| &node.sizes.limits);
        let max = all.fold((0, 0), |(messages, bytes), limits| {
            let own = (limits.mail_messages_max, u64::from(limits.mail_bytes_max));
            (own.0.max(messages), own.1.max(bytes))
        });
        let mut places = self.nodes.iter().flat_map(|node| &node.places);
        places.find_map(|place| place.overfull(max)).map_or(Ok(()), |over| Err(Violation(over)))
    }

    /// I17, of what shards count.
    fn bounds(&mut self) -> Result<(), Violation> {
        for (place, name, value) in self.gauges() {
            let limits = &self.nodes[place.0].sizes.limits;
            let connections = f64::from(limits.connections_max);
            let outbox =
                f64::from(limits.outbox_bytes_max.max(limits.guest_outbox_bytes_max)) + 1_024.0;
            let max = match name {
                "sessions" => connections,
                "outbox_waiting_bytes" => connections * outbox,
                // Last words, and frames that are partly written, are above the bound.
                "outbox_frame_bytes" => {
                    limits.outboxes_bytes_max as f64 + connections * 1_200.0 + outbox
                }
                "behind_subscriptions" => f64::from(limits.behind_max),
                "asks_open" => f64::from(limits.asks_max),
                "people" | "presence_users" => f64::from(limits.users_max),
                "presence_ties" => f64::from(limits.ties_max),
                "channels" | "hub_channels" | "interest_channels" => f64::from(limits.channels_max),
                "backlog_bytes" => f64::from(limits.backlog_bytes),
                "outbox_in_flight" => f64::from(limits.dispatch_max),
                "desk_posts_open" => f64::from(limits.commits_max),
                "desk_redeems_open" => f64::from(limits.boots_burst),
                "desk_reads_open" => f64::from(limits.source_reads_max),
                _ => continue,
            };
            self.outside.coverage.saw("bounds looked at");
            if value > max {
                return Err(Violation(format!(
                    "I17: {name} of place {place:?} is {value}, above {max}"
                )));
            }
        }
        Ok(())
    }

    /// By node and place.
    fn gauges(&self) -> Vec<((usize, usize), &'static str, f64)> {
        let mut gauges = Vec::new();
        for node in &self.nodes {
            for (number, place) in node.places.iter().enumerate() {
                place.report(|name, value| gauges.push(((node.at, number), name, value)));
            }
        }
        gauges
    }

    /// I18 and I4, where nothing goes wrong.
    fn prompt(&mut self) -> Result<(), Violation> {
        if !self.is_calm() {
            return Ok(());
        }
        let before = self.ago(PROMPT_S);
        let database = &self.outside.database;
        let oldest = database.outbox.values().next();
        if let Some((name, offset)) = oldest
            && database.event(name, *offset).at < before
        {
            return Err(Violation(format!("I4: {name} {offset} does not leave the outbox")));
        }
        let times = (before, self.agenda.now);
        let late =
            self.devices.iter_mut().find_map(|device| device.client.is_late(database, times));
        self.outside.coverage.saw("promptness looked at");
        late.or_else(|| self.slipped_through(REVOKED_WITHIN)).map_or(Ok(()), Err)
    }

    /// A connection that is served, although its token was revoked so long ago.
    fn slipped_through(&self, within: Duration) -> Option<Violation> {
        let now = self.agenda.now;
        let here = self.devices.iter().filter(|device| device.socket.is_some());
        here.map(|device| &device.client).find_map(|client| {
            let revoked = client.revoked(&self.outside.database)?;
            let is_served = client.phase == Phase::Live && !client.is_over;
            let what = format!("revoked: {} is connected still, since {revoked:?}", client.name);
            (is_served && now.since(revoked) > within).then_some(Violation(what))
        })
    }

    fn rest(&mut self, since: Mono, rested: Option<Mono>) -> Result<(), Violation> {
        let now = self.agenda.now;
        if self.desk().is_some() && now.since(since) > SAID_AGAIN {
            // What was said by hand may have been lost; the last word counts.
            for user in std::mem::take(&mut self.by_hand) {
                let away = self.outside.database.manual_away.contains(&user);
                self.set_presence(&user, away);
                self.by_hand.clear();
            }
        }
        // A question to the database that was lost is given up by the desk after this, and it may be the only one at once.
        let given_up = self.sizes.limits.ask_timeout * 2;
        let dispatched = DISPATCHED + given_up;
        let turns = self.backlog / self.sizes.limits.dispatch_max as usize;
        let oldest = self.outside.database.outbox.values().next();
        if let Some((name, offset)) = oldest
            && now.since(since) > dispatched + FINALISED * turns as u32
            && now.since(self.outside.database.event(name, *offset).at) > dispatched
        {
            return Err(Violation(format!("I4: {name} {offset} does not leave the outbox")));
        }
        let unrest = self.unrest();
        self.stage = match (unrest, rested) {
            (None, Some(rested)) if now.since(rested) >= self.stable() => {
                let took = rested.since(since);
                let what = match took.as_secs() {
                    0..2 => "at rest in 2 s",
                    2..5 => "at rest in 5 s",
                    5..10 => "at rest in 10 s",
                    _ => "at rest later",
                };
                self.outside.coverage.saw(what);
                self.nodes[self.layout.webapp].http.clear();
                for (at, user) in self.outside.database.users.clone().iter().enumerate() {
                    self.ask_presence(user, at as u32);
                }
                Stage::Asking { since: now, quiet: since }
            }
            (None, rested) => Stage::Quiet { since, rested: rested.or(Some(now)) },
            (Some(unrest), _) if now.since(since) > REST => return Err(unrest),
            (Some(_), Some(_)) => {
                self.outside.coverage.saw("rests that were disturbed");
                Stage::Quiet { since, rested: None }
            }
            (Some(_), None) => Stage::Quiet { since, rested: None },
        };
        Ok(())
    }

    /// Whether connections become too old all the time: then there is no rest, but moments in which nothing is missing.
    fn is_restless(&self) -> bool {
        self.sizes.limits.connection_age_max < REST
    }

    fn stable(&self) -> Duration {
        if self.is_restless() { Duration::ZERO } else { STABLE }
    }

    /// What is not yet as it must be.
    fn unrest(&self) -> Option<Violation> {
        let database = &self.outside.database;
        let is_down = |node: &&crate::node::Node| !node.is_up() || node.is_draining;
        if let Some(down) = self.nodes.iter().find(is_down) {
            return Some(Violation(format!("I22: there is no process of {}", down.part.name)));
        }
        if let Some(behind) =
            (0..self.nodes.len()).find(|at| self.layout.is_cell && !self.is_current(*at))
        {
            let name = &self.nodes[behind].part.name;
            return Some(Violation(format!("I11: {name} does not have the newest ring")));
        }
        if let Some(slipped) = self.slipped_through(Duration::ZERO) {
            return Some(slipped);
        }
        let here = self.devices.iter().filter(|device| !device.is_retired);
        if let Some(owed) = here.clone().find_map(|device| device.client.owed(database)) {
            return Some(owed);
        }
        if let Some((row, what)) = database.outbox.first_key_value() {
            return Some(Violation(format!("I4: row {row} of {what:?} is still in the outbox")));
        }
        if let Some(behind) = self.outside.checker.behind(database) {
            return Some(behind);
        }
        let guests = self.guests.iter();
        let streams = &self.outside.streams;
        if let Some(owed) = guests
            .filter(|guest| !guest.is_retired)
            .find_map(|guest| guest.owed(streams, database, &self.guests))
        {
            return Some(owed);
        }
        for device in here {
            for user in device.client.watching() {
                let dot = device.client.dots.get(user).copied();
                if dot != Some(self.is_active(user)) {
                    let who = &device.client.name;
                    return Some(Violation(format!("presence: {who} sees {user} as {dot:?}")));
                }
            }
        }
        None
    }

    /// The truth of a dot, when nobody does anything any more.
    fn is_active(&self, user: &str) -> bool {
        let database = &self.outside.database;
        let is_asleep = self.sizes.is_sleepy && !database.is_bot(user);
        self.connections(user) > 0 && !database.manual_away.contains(user) && !is_asleep
    }

    fn connections(&self, user: &str) -> u32 {
        let mine = self.devices.iter().filter(|device| device.client.user == user);
        mine.filter(|device| device.socket.is_some()).count() as u32
    }

    /// What HTTP was told about everybody.
    fn asked(&mut self, since: Mono, quiet: Mono) -> Result<(), Violation> {
        let users = self.outside.database.users.len();
        if self.nodes[self.layout.webapp].http.len() < users
            && self.agenda.now.since(since) < Duration::from_secs(2)
        {
            return Ok(());
        }
        let mut answers = BTreeMap::new();
        for bytes in &self.nodes[self.layout.webapp].http {
            if let Ok(Message::PresenceIs { ask, active, online, connections, .. }) =
                Message::decode(bytes)
            {
                answers.insert(ask.0 as usize, (active, online, connections));
            }
        }
        for (at, user) in self.outside.database.users.iter().enumerate() {
            let count = self.connections(user);
            let truth = (self.is_active(user), count > 0, count);
            if answers.get(&at) != Some(&truth) {
                if self.agenda.now.since(quiet) < REST {
                    // Somebody moved, or went without a word and is still to be missed: the question comes again.
                    self.stage = Stage::Quiet { since: quiet, rested: None };
                    return Ok(());
                }
                let told = answers.get(&at);
                return Err(Violation(format!("presence: {user} is {truth:?}, told is {told:?}")));
            }
        }
        self.stage = Stage::Leaving { since: self.agenda.now };
        for client in 0..self.devices.len() {
            self.devices[client].is_retired = true;
            let how = if client.is_multiple_of(2) { End::Fin } else { End::Reset };
            self.hang_up(client, how);
        }
        self.retire_guests(|_| true);
        Ok(())
    }

    /// After everybody has gone, nothing is kept for anybody.
    fn left(&mut self, since: Mono) -> Result<(), Violation> {
        let kept = self.gauges().into_iter().find(|(_, name, value)| {
            let is_kept = match *name {
                "sessions"
                | "hub_channels"
                | "hub_subscriptions"
                | "interest_channels"
                | "interest_waiting"
                | "names"
                | "behind_subscriptions"
                | "behind_connections"
                | "people"
                | "guests"
                | "present_clients"
                | "asks_open"
                | "outbox_waiting_connections"
                | "outbox_waiting_bytes"
                | "presence_ties"
                | "desk_posts_open"
                | "desk_redeems_open"
                | "desk_reads_open"
                | "desk_reads_waiting"
                | "outbox_in_flight"
                | "source_questions" => true,
                "presence_users" => !self.has_hands && !self.sizes.is_sleepy,
                _ => false,
            };
            is_kept && *value != 0.0
        });
        match kept {
            None => self.stage = Stage::Done,
            Some((place, name, value)) if self.agenda.now.since(since) > REST => {
                return Err(Violation(format!(
                    "everybody has gone, and {name} of place {place:?} is {value}"
                )));
            }
            Some(_) => {}
        }
        if self.stage == Stage::Done {
            let fanned_out = self.outside.coverage.counted(Counter::Deliveries);
            self.outside.coverage.saw_many("frames fanned out", fanned_out);
        }
        Ok(())
    }
}
