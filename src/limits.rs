//! Every bound, with its unit and its reason. A value, so that tests can run with tiny ones.
//!
//! `DEFAULT` is checked at compile time, any other by [`Limits::check`] before anything binds.

use std::time::Duration;

/// One core's shards have seven senders of bulk towards another core (hubs and interests to each other's, gateways to owners and to presence,
/// these two back, and owners to owners), and `PeerRoom` comes when half of a mailbox is free: a fourteenth each never overflows it.
pub const BULK_PARTS: u32 = 14;
/// Nodes of one ring: four times what the simulator carries.
pub const RING_NODES_MAX: usize = 4_096;
/// Numbers of nodes below this are given by the ring; nodes that own nothing choose theirs from here on.
pub const RING_IDS_MAX: u16 = 10_000;
/// Seats of one ring: eight a node, below the 65,536 that a table can name.
pub const RING_SEATS_MAX: usize = 8 * RING_NODES_MAX;
/// Slots that one write of a plan moves: their owners pause for it.
pub const RING_STEP_SLOTS_MAX: usize = 256;

/// Regions of a deployment, and of these those that drain: more than there are places with a sea between them.
pub const REGIONS_MAX: usize = 64;
/// Bytes of a region's name: a label of a host's name.
pub const REGION_NAME_BYTES_MAX: usize = 63;
/// Networks of clients in a deployment: each boot looks at all of them, which is microseconds.
pub const REGION_NETWORKS_MAX: usize = 1_024;
/// Connections of one core that a region sends away in a second: as many as one core has at most.
pub const REGION_PACE_MAX: u32 = 1 << 20;
/// Seconds over which a region is drained: a day.
pub const REGION_SECONDS_MAX: u32 = 86_400;

/// Between two beats of a ring manager and a node (`reliability.md` 2.3).
pub const BEAT: Duration = Duration::from_millis(100);
/// Nothing both ways for so long: no seats are given to it.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(400);
/// And for so long: it is dead, if others think so too.
pub const DEAD_AFTER: Duration = Duration::from_millis(700);
/// The same, where the connection broke as well: time enough for a few attempts to come back.
pub const LOST_AFTER: Duration = Duration::from_millis(300);
/// What another manager or an observer said counts for so long.
pub const WORD_AGE_MAX: Duration = Duration::from_millis(500);
/// Bytes of a whole ring on its way from a manager to a node: the seats of 4,096 nodes are 1.5 MB, and both tables 328 KB.
pub const RING_BYTES_MAX: u32 = 4 << 20;
/// Bytes of it that are asked for at once, so that a beat never waits long behind them; a quarter of a mailbox where that is less.
pub const RING_PART_BYTES: u32 = 64 << 10;
/// A node that knows of a newer ring and is not given it asks again after this.
pub const RING_WANT_AGAIN: Duration = Duration::from_millis(300);
/// Cores that one core of a gateway is asked for channels by, its own node's among them: their numbers have 6 bits.
pub const SUBSCRIBERS_CORES_MAX: u8 = 64;
/// What a gateway core says of its subscriptions disagrees so often in a row with what an owner knows: the link between them begins anew.
pub const TALLIES_WRONG_MAX: u8 = 3;
/// A core that did not answer so often, once a second, does nothing any more: its node ends.
pub const CORE_SILENCES_MAX: u32 = 5;
/// Whom we heard of a moment ago as a region relay is asked after this, in which it reaches owners an ocean away; who follows nothing yet asks at once.
pub const RELAY_SETTLES: Duration = Duration::from_secs(3);
/// A region relay that has no room for what a gateway wants is not asked again before this: meanwhile owners are.
pub const RELAY_REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of one frame of a link between nodes: a whole mailbox goes into one batch.
pub const LINK_FRAME_BYTES_MAX: u32 = 64 << 20;
/// For a slot that moves by plan: as long as a link may be silent, the new owner waits for what the former one has of it.
pub const HANDOFF_MAX: Duration = Duration::from_secs(1);
/// Between two beats of a quiet link (`reliability.md` 3.3).
pub const LINK_BEAT: Duration = Duration::from_millis(200);
/// A link that was silent for so long is closed: a host that vanished says nothing.
pub const LINK_SILENCE_MAX: Duration = Duration::from_secs(1);
/// From a link's connection to the proof of who is there, a TLS handshake included: who sends a byte now and then is cut off (S4).
pub const LINK_GREETING_MAX: Duration = Duration::from_secs(3);
/// Links' connections of one node that are not proven yet, handshakes under way among them: each takes 200 KiB at most.
pub const LINK_STRANGERS_MAX: usize = 1_024;
/// Bytes of a certificate, key or authority file: some hundred authorities fit.
pub const CERTIFICATE_BYTES_MAX: u64 = 1 << 20;

/// The bounds of one node. Per shard unless the field says otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    // -- the websocket door
    /// Bytes of a handshake's request line and headers: browsers stay below 4 KiB, cookies included.
    pub handshake_bytes_max: u32,
    /// From accept to the end of the headers, and from there to the first hello.
    pub handshake_timeout: Duration,
    /// Bytes of one client message, fragments included (Slack's 16 KB rule).
    pub message_bytes_max: u32,
    /// The same of a Centrifuge client, whose first message holds all of its subscriptions (400 of them are 73 kB).
    pub guest_message_bytes_max: u32,
    /// Fragments of one client message: more are an attack, not a client.
    pub fragments_max: u32,
    /// From the first to the last fragment of a message.
    pub fragments_timeout: Duration,
    /// Control frames of one connection: sustained per second, and burst.
    pub control_per_second: u32,
    pub control_burst: u32,
    /// `/dev/echo`: bytes and fragments of one message, wide enough for section 9 of the Autobahn cases.
    pub echo_bytes_max: u32,
    pub echo_fragments_max: u32,
    /// Connections of one core. 24 bits of `Conn` are the ceiling.
    pub connections_max: u32,

    // -- the outbox
    /// Waiting bytes of a connection above which transient events are dropped for it.
    pub outbox_soft_bytes: u32,
    /// Waiting bytes of a connection above which it is closed with 4002: it comes back and resumes.
    pub outbox_bytes_max: u32,
    /// The same of a Centrifuge client, above which it is closed with 3008: the reply to a recovery fits.
    pub guest_outbox_bytes_max: u32,
    /// Waiting bytes of all connections of a core; the slowest is evicted first.
    pub outboxes_bytes_max: u64,
    /// A connection that took no byte for so long while bytes waited is closed with 4002.
    pub stall_timeout: Duration,

    // -- a session
    /// Channels that one connection follows.
    pub subscriptions_max: u32,
    /// Users whose presence one connection watches, and ids of one `presence_query`.
    pub watch_max: u32,
    /// Connections of one user on one core.
    pub connections_per_user_max: u32,
    /// RTM messages of one user: sustained per second (in thousandths) and burst.
    pub posts_per_1000_seconds: u32,
    pub posts_burst: u32,
    /// Characters of an RTM text.
    pub text_chars_max: u32,
    /// One typing event per connection and channel in this time.
    pub typing_interval: Duration,
    /// A connection from which nothing came for so long is pinged; after twice as long it is reaped.
    pub ping_interval: Duration,
    /// How old a connection may become before it is told goodbye.
    pub connection_age_max: Duration,
    /// From goodbye to Close.
    pub goodbye_window: Duration,
    /// Connections of one core that are sent away in a second when its region drains, unless the operator says otherwise: half of the tickets
    /// that a webapp gives in that time.
    pub moves_per_second: u32,
    /// From the goodbye of such a connection to its Close: time to connect elsewhere first.
    pub move_window: Duration,
    /// Who comes to a region that drains may stay for so long, and then is sent on: it had its ticket already, or knows of no other region.
    pub move_rest: Duration,
    /// From hello to the last `resume` frame.
    pub resume_timeout: Duration,
    /// Questions of one connection to other shards that are still open.
    pub asks_per_conn_max: u32,
    /// Questions of one core that are still open.
    pub asks_max: u32,
    /// A question without an answer for so long has failed.
    pub ask_timeout: Duration,

    // -- catch-up
    /// Events replayed to one connection: of one channel, and of all.
    pub replay_per_channel_max: u32,
    pub replay_per_conn_max: u32,
    /// Catch-up of one connection: so many frames or bytes in each interval (slack_sdk dies of more).
    pub catch_up_frames: u32,
    pub catch_up_bytes: u32,
    pub catch_up_interval: Duration,
    /// Pages of one connection on their way at once, which share what it may be given in an interval: twenty channels of a region far away take
    /// three round trips, not twenty. One at a time while half of `asks_max` are open, or where one was refused.
    pub catch_up_pages_max: u8,
    /// Between two words of a gateway core to an owner about what it is subscribed to there.
    pub tally_interval: Duration,
    /// Subscriptions of one core that are behind their hub.
    pub behind_max: u32,

    // -- channels
    /// Channels that one core owns or wants.
    pub channels_max: u32,
    /// Bytes of a channel's or a user's name.
    pub name_bytes_max: u32,
    /// Bytes of one publication's payload.
    pub publication_bytes_max: u32,
    /// The backlog of one core: bytes of its ring.
    pub backlog_bytes: u32,
    /// Publications of one channel that are held because one before them is missing.
    pub held_per_channel_max: u32,
    /// How long the owner waits for a missing publication before it asks the source.
    pub gap_timeout: Duration,
    /// Bytes of all held publications of one core, and channels that have some: what finds no room is sent again.
    pub held_bytes_max: u64,
    pub holes_max: u32,
    /// Fetches of one core that wait for room, at their link or at the source.
    pub fetches_max: u32,
    /// Channels of one core whose tip is to be asked of the source, each with its name: further subscribers try again.
    pub openings_max: u32,
    /// Questions of one core that are open at the source: about tips and holes, and as many about the past. More would only wait there.
    pub questions_max: u32,
    /// Lives of gateway cores' links that one owner tells apart, until a sweep over its channels has forgotten those that ended.
    pub links_max: u16,

    // -- presence
    /// Without activity for so long a user is away.
    pub away_after: Duration,
    /// How long users of a lost gateway stay as they were.
    pub presence_lease: Duration,
    /// Users that one core knows because somebody reports or watches them.
    pub users_max: u32,
    /// Reports and watches of one core, one for each user and gateway core.
    pub ties_max: u32,
    /// A gateway reports activity of a user at most so often.
    pub activity_interval: Duration,

    /// Centrifuge clients that one core knows to be in channels, one for each pair of both.
    pub present_max: u32,
    /// Calls of clients that wait for the operator's back end, per node: what one back end answers at once.
    pub calls_max: u32,
    /// Publications of back ends with a key of their own that one core knows, and for how long: a back end that repeats what it does not
    /// know the end of does so within minutes. 50 bytes each.
    pub onces_max: u32,
    pub once_kept: Duration,
    /// Channels with versions that one core knows. 70 bytes each.
    pub versions_max: u32,

    // -- mail
    /// Bytes and messages waiting from one core to another; overflow is a broken link. Between nodes that differ the larger hold.
    pub mail_bytes_max: u32,
    pub mail_messages_max: u32,
    /// Bulk messages that one shard may send to a peer for each `PeerRoom`: a fourteenth of a mailbox (see [`BULK_PARTS`]).
    pub bulk_messages_per_room: u32,

    // -- control plane
    /// Outbox rows on their way to owners.
    pub dispatch_max: u32,
    /// Bytes of these.
    pub dispatch_bytes_max: u64,
    /// An unacknowledged outbox row is sent again after this.
    pub dispatch_timeout: Duration,
    /// Posts waiting for a commit; above that they are refused.
    pub commits_max: u32,
    /// Posts of one database transaction.
    pub commit_batch_max: u32,
    /// Users whose pace of RTM messages is kept: those that posted within the last `posts_burst` posts' time.
    pub paces_max: u32,
    /// Questions to the database that only read, at once: recovery never starves posts.
    pub source_reads_max: u32,
    /// A ticket is good for so long.
    pub ticket_timeout: Duration,
    /// Tokens that the webapp knows, revoked ones too, about 150 bytes each; and those of one user that open something: a person has a few
    /// programs.
    pub tokens_max: u32,
    pub tokens_per_user_max: u32,
    /// Revocations that a webapp says again to gateways that come (back), 50 bytes each: more within a connection's age, and a gateway
    /// that was away all the while is not told of the oldest.
    pub revocations_max: u32,
    /// `rtm.connect` of a node: sustained per second, and burst.
    pub boots_per_second: u32,
    pub boots_burst: u32,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        handshake_bytes_max: 8 << 10,
        handshake_timeout: Duration::from_secs(5),
        message_bytes_max: 16_384,
        guest_message_bytes_max: 1 << 20,
        fragments_max: 64,
        fragments_timeout: Duration::from_secs(10),
        control_per_second: 10,
        control_burst: 20,
        echo_bytes_max: 16 << 20,
        echo_fragments_max: 1 << 20,
        connections_max: 1 << 20,
        outbox_soft_bytes: 64 << 10,
        outbox_bytes_max: 256 << 10,
        guest_outbox_bytes_max: 1 << 20,
        outboxes_bytes_max: 512 << 20,
        stall_timeout: Duration::from_secs(10),
        subscriptions_max: 5_000,
        watch_max: 500,
        connections_per_user_max: 20,
        posts_per_1000_seconds: 1_000,
        posts_burst: 50,
        text_chars_max: 4_000,
        typing_interval: Duration::from_secs(3),
        ping_interval: Duration::from_secs(20),
        connection_age_max: Duration::from_secs(8 * 3600),
        goodbye_window: Duration::from_secs(30),
        moves_per_second: 100,
        move_window: Duration::from_secs(2),
        move_rest: Duration::from_secs(5),
        resume_timeout: Duration::from_secs(5),
        asks_per_conn_max: 64,
        asks_max: 65_536,
        ask_timeout: Duration::from_secs(10),
        replay_per_channel_max: 1_000,
        replay_per_conn_max: 10_000,
        catch_up_frames: 256,
        catch_up_bytes: 64 << 10,
        catch_up_interval: Duration::from_millis(50),
        catch_up_pages_max: 8,
        tally_interval: Duration::from_secs(5),
        behind_max: 4 << 20,
        channels_max: (1 << 26) - 1_024,
        name_bytes_max: 255,
        publication_bytes_max: 64 << 10,
        backlog_bytes: 64 << 20,
        held_per_channel_max: 64,
        gap_timeout: Duration::from_millis(50),
        held_bytes_max: 16 << 20,
        holes_max: 4_096,
        fetches_max: 4_096,
        openings_max: 16_384,
        questions_max: 1_024,
        links_max: 16_384,
        away_after: Duration::from_secs(600),
        presence_lease: Duration::from_secs(10),
        users_max: 1 << 22,
        ties_max: 1 << 24,
        activity_interval: Duration::from_secs(60),
        present_max: 1 << 22,
        calls_max: 1_024,
        onces_max: 1 << 20,
        once_kept: Duration::from_secs(300),
        versions_max: 1 << 20,
        mail_bytes_max: 16 << 20,
        mail_messages_max: 65_536,
        bulk_messages_per_room: 4_096,
        dispatch_max: 16_384,
        dispatch_bytes_max: 64 << 20,
        dispatch_timeout: Duration::from_secs(1),
        commits_max: 4_096,
        commit_batch_max: 256,
        paces_max: 65_536,
        source_reads_max: 64,
        ticket_timeout: Duration::from_secs(30),
        tokens_max: 1 << 22,
        tokens_per_user_max: 100,
        revocations_max: 4_096,
        boots_per_second: 200,
        boots_burst: 2_000,
    };

    /// How long a revoked token may still have a connection somewhere: none lives longer.
    pub fn revocation_kept(&self) -> Duration {
        self.connection_age_max + self.goodbye_window + self.ask_timeout * 4
    }

    /// Asserts the relations between the bounds.
    ///
    /// # Panics
    /// When one does not hold: such limits would deadlock or lose something silently.
    pub const fn check(&self) {
        if let Some(fault) = self.fault() {
            panic!("{}", fault);
        }
    }

    /// The first relation between the bounds that does not hold, as a sentence.
    pub const fn fault(&self) -> Option<&'static str> {
        if self.connections_max > 1 << 24 {
            return Some("connections_max: an index has 24 bits");
        }
        if self.outbox_soft_bytes >= self.outbox_bytes_max {
            return Some("outbox_soft_bytes: transient events go first, below outbox_bytes_max");
        }
        if self.catch_up_bytes >= self.outbox_bytes_max {
            return Some("catch_up_bytes: one page of catch-up fits an outbox");
        }
        if self.catch_up_pages_max == 0 {
            return Some("catch_up_pages_max: one at least, or nobody is ever caught up");
        }
        if self.publication_bytes_max >= self.outbox_bytes_max {
            return Some("publication_bytes_max: one publication fits an outbox");
        }
        if self.publication_bytes_max >= self.backlog_bytes / 4 {
            return Some("publication_bytes_max: four publications fit the backlog");
        }
        if self.publication_bytes_max * 2 >= self.mail_bytes_max {
            return Some("publication_bytes_max: two publications fit a mailbox");
        }
        if self.bulk_messages_per_room * BULK_PARTS > self.mail_messages_max {
            return Some("bulk_messages_per_room: bulk alone never overflows a mailbox");
        }
        if self.publication_bytes_max + self.catch_up_bytes >= self.mail_bytes_max / BULK_PARTS {
            return Some("mail_bytes_max: one page of catch-up fits what one sender may send");
        }
        if self.bulk_messages_per_room < 2 {
            return Some("bulk_messages_per_room: one event and the end of its range fit");
        }
        if self.users_max >= 1 << 26 {
            return Some("users_max: a place in an index has 26 bits");
        }
        if self.channels_max > (1 << 26) - 1_024 {
            return Some(
                "channels_max: a place in an index has 26 bits, and places come by the thousand",
            );
        }
        if self.backlog_bytes >= 8 << 26 {
            return Some("backlog_bytes: a place in an index has 26 bits of 8 bytes");
        }
        if self.held_bytes_max < self.publication_bytes_max as u64 * 2 {
            return Some("held_bytes_max: a publication of the largest size can be held");
        }
        if self.holes_max == 0 || self.openings_max == 0 || self.questions_max == 0 {
            return Some(
                "holes_max, openings_max, questions_max: one at least, or nothing is ever opened",
            );
        }
        if self.links_max == 0 || self.links_max >= u16::MAX - 1 {
            return Some(
                "links_max: numbers of links have 16 bits, two of which mean something else",
            );
        }
        if self.moves_per_second == 0 {
            return Some("moves_per_second: one at least, or a region is never left");
        }
        if self.name_bytes_max > 255 {
            return Some("name_bytes_max: a name's length is one byte in the tables");
        }
        if self.replay_per_channel_max > self.replay_per_conn_max {
            return Some("replay_per_channel_max: one channel within replay_per_conn_max");
        }
        None
    }

    /// Sets one bound by its name: a whole number, for durations of milliseconds. An operator's door, for what a
    /// host or a test needs otherwise.
    ///
    /// # Errors
    /// A sentence, when there is no such setting or the value does not fit.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |why: &dyn std::fmt::Display| format!("{name}={value}: {why}");
        let number: u32 = value.parse().map_err(|error| wrong(&error))?;
        let span = Duration::from_millis(u64::from(number));
        match name {
            "outbox_soft_bytes" => self.outbox_soft_bytes = number,
            "outbox_bytes_max" => self.outbox_bytes_max = number,
            "connections_max" => self.connections_max = number,
            "connections_per_user_max" => self.connections_per_user_max = number,
            "posts_per_1000_seconds" => self.posts_per_1000_seconds = number,
            "posts_burst" => self.posts_burst = number,
            "boots_per_second" => self.boots_per_second = number,
            "boots_burst" => self.boots_burst = number,
            "replay_per_channel_max" => self.replay_per_channel_max = number,
            "replay_per_conn_max" => self.replay_per_conn_max = number,
            "mail_bytes_max" => self.mail_bytes_max = number,
            "mail_messages_max" => self.mail_messages_max = number,
            "bulk_messages_per_room" => self.bulk_messages_per_room = number,
            "publication_bytes_max" => self.publication_bytes_max = number,
            "backlog_bytes" => self.backlog_bytes = number,
            "commits_max" => self.commits_max = number,
            "ping_interval_ms" => self.ping_interval = span,
            "away_after_ms" => self.away_after = span,
            "connection_age_max_ms" => self.connection_age_max = span,
            "goodbye_window_ms" => self.goodbye_window = span,
            "moves_per_second" => self.moves_per_second = number,
            "move_window_ms" => self.move_window = span,
            "move_rest_ms" => self.move_rest = span,
            "stall_timeout_ms" => self.stall_timeout = span,
            "ticket_timeout_ms" => self.ticket_timeout = span,
            _ => return Err(wrong(&"there is no such setting")),
        }
        self.fault().map_or(Ok(()), |fault| Err(wrong(&fault)))
    }
}

const _: () = Limits::DEFAULT.check();

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_checked_against_the_others() {
        let mut limits = Limits::DEFAULT;
        assert_eq!(limits.set("boots_burst", "7"), Ok(()));
        assert_eq!(limits.set("away_after_ms", "250"), Ok(()));
        assert_eq!((limits.boots_burst, limits.away_after), (7, Duration::from_millis(250)));
        assert!(limits.set("boots_burst", "-1").is_err());
        assert!(limits.set("no_such", "1").is_err());
        assert!(limits.set("outbox_bytes_max", "1").is_err_and(|why| why.contains("outbox")));
    }
}
