//! The ring of one process: `dev`, and tests.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Failed, Mark, PARTS, SEATS, Value, WATCH, Write};

/// Clones share what they keep.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    kept: Arc<watch::Sender<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    writes: u64,
    parts: HashMap<String, Value>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { kept: Arc::new(watch::Sender::new(Kept::default())) }
    }
}

impl Memory {
    pub(super) fn parts(&self) -> [Option<Value>; 3] {
        let kept = self.kept.borrow();
        PARTS.map(|part| kept.parts.get(part).cloned())
    }

    pub(super) fn write(&self, writes: Vec<Write<'_>>) -> bool {
        self.kept.send_if_modified(|kept| {
            let mark_of = |part: &str| kept.parts.get(part).map(|(mark, _)| *mark);
            if writes.iter().any(|write| mark_of(write.part) != write.was) {
                return false;
            }
            kept.writes += 1;
            let mark = Mark(kept.writes);
            for Write { part, bytes, .. } in writes {
                if let Some(bytes) = bytes {
                    kept.parts.insert(part.into(), (mark, bytes));
                }
            }
            true
        })
    }

    pub(super) async fn changed(&self, known: Mark) -> Result<(), Failed> {
        let mut news = self.kept.subscribe();
        let is_new = |kept: &Kept| kept.parts.get(SEATS).is_none_or(|(mark, _)| *mark != known);
        // Only news or the end of the time: whoever keeps the sender keeps us too.
        let _ = tokio::time::timeout(WATCH, news.wait_for(is_new)).await;
        Ok(())
    }
}
