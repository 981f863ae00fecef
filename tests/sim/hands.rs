//! The driver's hands: questions answered by the database after a while, late, by an excuse, or not at all.

use std::time::Duration;

use campanile::ids::{Ask, Role};
use campanile::wire::Message;

use crate::agenda::{Agenda, Arrival, Happening, micros, millis};
use crate::answers::encoded;
use crate::database::Database;
use crate::outside::Outside;
use crate::random::Random;

#[derive(Debug)]
pub(crate) struct Hands {
    pub(crate) random: Random,
    /// Faults that are on now.
    pub(crate) is_away: bool,
    pub(crate) is_read_only: bool,
    pub(crate) slow_ms: u64,
    /// In a thousand: sessions that lead to a follower.
    pub(crate) followed: u64,
    /// In a thousand: questions that never reach the database, answers that never come back, words of commits that are lost.
    pub(crate) questions_lost: u64,
    pub(crate) answers_lost: u64,
    pub(crate) words_lost: u64,
    /// A broken source: so many tips in a thousand are one too low.
    pub(crate) lies: u64,
}

impl Hands {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            random,
            is_away: false,
            is_read_only: false,
            slow_ms: 0,
            followed: 0,
            questions_lost: 0,
            answers_lost: 0,
            words_lost: 0,
            lies: 0,
        }
    }

    /// A shard asks.
    pub(crate) fn ask(
        &mut self,
        agenda: &mut Agenda,
        outside: &mut Outside,
        process: u32,
        (role, ask, question): (Role, Ask, Vec<u8>),
    ) {
        let decoded = Message::decode(&question).expect("shards encode");
        outside.coverage.message(decoded.name());
        if self.random.chance(self.questions_lost) {
            return outside.coverage.saw("questions lost");
        }
        let pause = self.pause();
        agenda.after(pause, Happening::Do { process, role, ask, question });
    }

    /// The database does it. `control`: the place that is told. `ring`: what the ring store says, if it was asked.
    pub(crate) fn carry_out(
        &mut self,
        agenda: &mut Agenda,
        outside: &mut Outside,
        (process, control): (u32, usize),
        (role, ask, question): (Role, Ask, &[u8]),
        ring: Option<Vec<u8>>,
    ) {
        let decoded = Message::decode(question).expect("shards encode");
        outside.trace.note(agenda.now, b'd', [u64::from(ask.0), role as u64], question);
        outside.trace.tell(agenda.now, || {
            format!("  database: {} {ask:?} {decoded:?}", decoded.name())
                .chars()
                .take(200)
                .collect()
        });
        let (list, rows) = match decoded {
            Message::RingRead { .. } => (ring.into_iter().collect(), Vec::new()),
            // Such a session is not used: nothing is asked by it, and what was to be written is not.
            ref other if self.followed > 0 && self.random.chance(self.followed) => {
                outside.coverage.saw("sessions of a follower");
                (Database::excuse(ask, other), Vec::new())
            }
            ref other if self.is_away || self.is_read_only && Database::writes(other) => {
                outside.coverage.saw("questions excused");
                (Database::excuse(ask, other), Vec::new())
            }
            Message::Tip { name, .. } if self.random.chance(self.lies) => {
                let tip = outside.database.tip(name).saturating_sub(1);
                (vec![encoded(&Message::TipIs { ask, found: true, tip })], Vec::new())
            }
            ref other => outside.database.answer(ask, other),
        };
        self.tell(agenda, outside, (process, control), &rows);
        for answer in &list {
            outside.coverage.message(Message::decode(answer).map_or("?", |answer| answer.name()));
        }
        if self.random.chance(self.answers_lost) {
            outside.coverage.saw("answers lost");
        } else if !list.is_empty() {
            let pause = self.pause();
            let what = Arrival::Answer { role, ask, list };
            agenda.after(pause, Happening::Arrive { process, place: control, what });
        }
    }

    /// The writer tells the dispatcher of committed rows, which it need not hear.
    pub(crate) fn tell(
        &mut self,
        agenda: &mut Agenda,
        outside: &mut Outside,
        (process, control): (u32, usize),
        rows: &[u64],
    ) {
        let pause = micros(self.random.between(5, 400));
        for row in rows {
            let Some(word) = outside.database.committed(*row) else { continue };
            if self.random.chance(self.words_lost) {
                outside.coverage.saw("words of commits lost");
                continue;
            }
            let what = Arrival::Word(word);
            agenda.after(pause, Happening::Arrive { process, place: control, what });
        }
    }

    /// Whether somebody who uses the Web API can do something.
    pub(crate) fn can_write(&self) -> bool {
        !(self.is_away || self.is_read_only)
    }

    /// What the driver does without the database.
    pub(crate) fn short_pause(&mut self) -> Duration {
        micros(self.random.between(20, 400))
    }

    fn pause(&mut self) -> Duration {
        let usual = micros(self.random.between(50, 3_000));
        if self.slow_ms == 0 { usual } else { usual + millis(self.random.below(self.slow_ms)) }
    }
}
