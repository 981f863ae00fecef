//! The bounds of one world: a hundred times smaller than real ones, so that every edge is hit, and different in each seed.

use std::time::Duration;

use campanile::limits::{BULK_PARTS, Limits};

use crate::agenda::millis;
use crate::random::Random;

/// Bounds, and what of the world around must fit them.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) limits: Limits,
    pub(crate) cores: usize,
    /// Batches that may lie between two places.
    pub(crate) batches_max: usize,
    /// Bytes of one write.
    pub(crate) write_bytes_max: usize,
    /// Users fall away during the run.
    pub(crate) is_sleepy: bool,
    /// Channels that each tourist wants: more than there is room for.
    pub(crate) sights: u64,
}

/// Channels of users, of the team, of conversations and of guests: so many are wanted of one core at most.
const CHANNELS_MAX: u64 = 8 + 1 + 9 + 4;

impl Sizes {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let publication = *random.pick(&[768, 1_024, 2_048]);
        let catch_up = *random.pick(&[512, 1_024, 3_000]);
        let outbox = *random.pick(&[8 << 10, 12 << 10, 32 << 10]);
        let bulk = *random.pick(&[2, 2, 3, 6]);
        let is_sleepy = random.chance(150);
        let ping = random.between(2, 5);
        let age = *random.pick(&[15, 28_800, 28_800]);
        let limits = Limits {
            posts_per_1000_seconds: *random.pick(&[10_000, 100_000]),
            posts_burst: *random.pick(&[4, 100]),
            paces_max: *random.pick(&[2, 1_000]),
            handshake_bytes_max: 1_024,
            handshake_timeout: seconds(random.between(2, 5)),
            message_bytes_max: 8 << 10,
            fragments_timeout: seconds(random.between(3, 10)),
            control_per_second: 10,
            control_burst: 20,
            // Room for all devices and some strangers on one core: who is kept out is never complete.
            connections_max: *random.pick(&[40, 64]),
            outbox_soft_bytes: outbox / *random.pick(&[2, 4, 8]),
            outbox_bytes_max: outbox,
            outboxes_bytes_max: u64::from(outbox) * random.between(1, 8),
            guest_outbox_bytes_max: outbox * 2,
            stall_timeout: millis(random.between(500, 5_000)),
            connections_per_user_max: *random.pick(&[4, 6, 20]),
            typing_interval: millis(*random.pick(&[50, 500, 3_000])),
            ping_interval: seconds(ping),
            // Whoever connects anew is awake: nobody would ever be asleep.
            connection_age_max: seconds(if is_sleepy { 28_800 } else { age }),
            goodbye_window: millis(random.between(500, 3_000)),
            resume_timeout: millis(random.between(800, 4_000)),
            asks_per_conn_max: *random.pick(&[1, 3, 64]),
            asks_max: *random.pick(&[16, 64, 65_536]),
            ask_timeout: millis(*random.pick(&[500, 1_500, 5_000])),
            replay_per_channel_max: *random.pick(&[5, 20, 60]),
            replay_per_conn_max: *random.pick(&[60, 100, 300]),
            catch_up_frames: *random.pick(&[1, 3, 16, 64]),
            catch_up_bytes: catch_up,
            catch_up_interval: millis(*random.pick(&[1, 5, 20])),
            tally_interval: millis(2_000),
            behind_max: *random.pick(&[40, 100, 4_096]),
            channels_max: 4_096,
            publication_bytes_max: publication,
            backlog_bytes: publication * *random.pick(&[5, 8, 30]),
            held_per_channel_max: *random.pick(&[1, 4, 64]),
            gap_timeout: millis(*random.pick(&[2, 10, 50])),
            fetches_max: *random.pick(&[2, 8, 64]),
            away_after: if is_sleepy { seconds(6) } else { seconds(600) },
            presence_lease: millis(random.between(500, 6_000)),
            activity_interval: seconds(1),
            mail_bytes_max: BULK_PARTS * (publication + catch_up + 1)
                + *random.pick(&[1_000, 8_000, 64_000]),
            mail_messages_max: bulk * BULK_PARTS + *random.pick(&[0, 0, 10, 60]),
            bulk_messages_per_room: bulk,
            // Rows leave at the pace of finalising, four times a second.
            dispatch_max: *random.pick(&[24, 64]),
            dispatch_bytes_max: 64 << 10,
            dispatch_timeout: millis(*random.pick(&[50, 300, 1_000])),
            commits_max: *random.pick(&[1, 4, 32]),
            source_reads_max: *random.pick(&[1, 2, 16]),
            ticket_timeout: seconds(*random.pick(&[3, 30])),
            boots_burst: *random.pick(&[2, 8, 100]),
            ..Limits::DEFAULT
        };
        let sizes = Self {
            limits,
            cores: random.between(1, 4) as usize,
            batches_max: *random.pick(&[1, 2, 8]),
            write_bytes_max: *random.pick(&[700, 4 << 10, 64 << 10]),
            is_sleepy,
            sights: 0,
        };
        let limits = Limits {
            moves_per_second: *random.pick(&[1, 5, 100]),
            move_window: millis(random.between(50, 2_000)),
            move_rest: millis(random.between(500, 3_000)),
            catch_up_pages_max: *random.pick(&[1, 2, 8]),
            ..sizes.limits
        };
        assert_eq!(limits.fault(), None, "the relations hold for every draw");
        Self { limits, ..sizes }
    }

    /// Budgets of memory that are reached, in some worlds: of what is kept for a moment, and of channels, while tourists take their room.
    pub(crate) fn cramp(&mut self, random: &mut Random) {
        let publication = u64::from(self.limits.publication_bytes_max);
        if random.chance(250) {
            self.limits.holes_max = *random.pick(&[1, 2, 8]);
            self.limits.held_bytes_max = publication * *random.pick(&[2, 4, 16]);
            self.limits.openings_max = *random.pick(&[1, 2, 8]);
            self.limits.questions_max = *random.pick(&[1, 2, 8]);
        }
        if random.chance(100) {
            self.limits.channels_max = (CHANNELS_MAX + random.below(8)) as u32;
            self.sights = random.between(8, 40);
        }
        assert_eq!(self.limits.fault(), None, "the relations hold for every draw");
    }

    /// Of a node whose operator wrote other bounds than on the others: of its mailboxes, of what it sends at once, of what it keeps.
    pub(crate) fn of_another_mind(&self, random: &mut Random) -> Self {
        let is_alike =
            |other: &Limits| other.publication_bytes_max == self.limits.publication_bytes_max;
        let drawn = (0..20).map(|_| Self::draw(random).limits).find(is_alike);
        let Some(other) = drawn else { return self.clone() };
        let limits = Limits {
            mail_bytes_max: other.mail_bytes_max,
            mail_messages_max: other.mail_messages_max,
            bulk_messages_per_room: other.bulk_messages_per_room,
            catch_up_bytes: other.catch_up_bytes,
            catch_up_frames: other.catch_up_frames,
            catch_up_interval: other.catch_up_interval,
            catch_up_pages_max: other.catch_up_pages_max,
            outbox_soft_bytes: other.outbox_soft_bytes,
            outbox_bytes_max: other.outbox_bytes_max,
            outboxes_bytes_max: other.outboxes_bytes_max,
            guest_outbox_bytes_max: other.guest_outbox_bytes_max,
            backlog_bytes: other.backlog_bytes,
            held_per_channel_max: other.held_per_channel_max,
            gap_timeout: other.gap_timeout,
            fetches_max: other.fetches_max,
            asks_max: other.asks_max,
            asks_per_conn_max: other.asks_per_conn_max,
            behind_max: other.behind_max,
            dispatch_timeout: other.dispatch_timeout,
            source_reads_max: other.source_reads_max,
            ..self.limits.clone()
        };
        assert_eq!(limits.fault(), None, "the relations hold for every draw");
        Self { limits, ..self.clone() }
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
