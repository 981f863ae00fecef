//! Which publications of a stream a request for its history means (`centrifuge.md` 3).

use std::ops::Range;

use super::code::Fault;
use super::message::HistoryRequest;
use super::push;

/// Publications of one answer.
const COUNT_MAX: u32 = 300;

/// # Errors
/// What is wrong with a request, wherever the channel stands.
pub fn check(request: &HistoryRequest) -> Result<(), Fault> {
    let is_before_all = request.since.as_ref().is_some_and(|since| since.offset == 0);
    if request.reverse && is_before_all { Err(Fault::BadRequest) } else { Ok(()) }
}

/// The offsets `start < offset <= end` that are wanted of a channel which stands at `tip` and promises its last `promised` publications.
///
/// # Errors
/// The request is about another life of the channel.
pub fn span(
    request: &HistoryRequest,
    promised: u32,
    epoch: u32,
    tip: u64,
) -> Result<Range<u64>, Fault> {
    let since = request.since.as_ref();
    if since.is_some_and(|since| !since.epoch.is_empty() && since.epoch != push::epoch(epoch)) {
        return Err(Fault::UnrecoverablePosition);
    }
    let count = u64::from(u32::try_from(request.limit).unwrap_or(COUNT_MAX).min(COUNT_MAX));
    // Older ones may be there, but are not promised.
    let oldest = tip.saturating_sub(u64::from(promised));
    let range = match (since, request.reverse) {
        (since, false) => {
            let start = since.map_or(0, |since| since.offset).max(oldest);
            start..start.saturating_add(count).min(tip)
        }
        (since, true) => {
            let end = since.map_or(tip, |since| since.offset.saturating_sub(1).min(tip));
            end.saturating_sub(count).max(oldest)..end
        }
    };
    Ok(if range.is_empty() { 0..0 } else { range })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centrifuge::message::StreamPosition;

    fn spanned(limit: i32, since: Option<u64>, reverse: bool) -> Range<u64> {
        let since = since.map(|offset| StreamPosition { offset, epoch: String::new() });
        let request = HistoryRequest { limit, since, reverse, ..HistoryRequest::default() };
        span(&request, 100, 1, 500).expect("no other life")
    }

    #[test]
    fn what_is_wanted_is_within_what_is_promised() {
        assert_eq!(spanned(-1, None, false), 400..500);
        assert_eq!(spanned(10, None, false), 400..410);
        assert_eq!(spanned(10, Some(1), false), 400..410);
        assert_eq!(spanned(10, Some(495), false), 495..500);
        assert_eq!(spanned(10, Some(500), false), 0..0);
        assert_eq!(spanned(10, Some(u64::MAX), false), 0..0);
        assert_eq!(spanned(10, None, true), 490..500);
        assert_eq!(spanned(10, Some(405), true), 400..404);
        assert_eq!(spanned(10, Some(300), true), 0..0);
        assert_eq!(spanned(0, None, false), 0..0);
        assert_eq!(spanned(0, None, true), 0..0);
    }

    #[test]
    fn another_life_and_the_time_before_all_are_refused() {
        let since = Some(StreamPosition { offset: 0, epoch: push::epoch(2) });
        let request = HistoryRequest { since, reverse: true, ..HistoryRequest::default() };
        assert_eq!(check(&request), Err(Fault::BadRequest));
        assert_eq!(span(&request, 100, 1, 500), Err(Fault::UnrecoverablePosition));
    }
}
