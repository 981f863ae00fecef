//! A publication that takes no place in its channel: to everybody who follows it now.

use crate::centrifuge::rules::Rules;
use crate::centrifuge::{payload, push};
use crate::gateway::frames::Frame;
use crate::gateway::guests::deltas::Variant;
use crate::gateway::members::Member;
use crate::gateway::outbox::Kind;
use crate::gateway::session::Dialect;
use crate::gateway::shard::{Gateway, Turn};
use crate::shard::Counter;

impl Gateway {
    pub(super) fn pass(&mut self, turn: &mut Turn<'_>, place: u32, payload: &[u8]) {
        let members: Vec<Member> =
            self.hub.members(place).filter(|member| !member.is_behind()).collect();
        let outside: Box<str> = Rules::outside(self.names.text(self.hub.name(place))).into();
        let (marks, encoded) = payload::split(payload);
        let tags = self.guests.filters.tags_of(place, payload);
        let mut frames: [Option<Frame>; Dialect::ALL.len() * Variant::COUNT] = [const { None }; _];
        for member in members {
            let (index, dialect) = (member.index(), member.dialect());
            let Some(framing) = dialect.framing() else { continue };
            if !self.guests.filters.passes(tags.as_ref(), index) {
                continue;
            }
            if marks.is_binary && dialect == Dialect::Json {
                self.note_unfit(index, place);
                continue;
            }
            let variant = self.guests.deltas.break_chain(index, place);
            let nth = dialect as usize * Variant::COUNT + variant as usize;
            if frames[nth].is_none() {
                turn.out.count(Counter::FramesEncoded);
                frames[nth] = Some(self.frame_in(dialect, |into| match variant {
                    Variant::Plain => push::publication(framing, &outside, 0, encoded, into),
                    _ => push::delta(framing, &outside, 0, (encoded, None), into),
                }));
            }
            let frame = frames[nth].take().expect("just made");
            self.append(turn, index, &frame, Kind::Durable);
            frames[nth] = Some(frame);
        }
        for frame in frames.into_iter().flatten() {
            self.outboxes.release(frame);
        }
    }
}
