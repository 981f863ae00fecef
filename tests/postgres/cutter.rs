//! A way to the server that is cut at a commit: before the server hears of it, or before its answer comes back.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::proxy;

/// What is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    Question,
    Answer,
}

const NOTHING: u8 = 0;
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
/// The server has heard it.
const SWALLOW: u8 = 3;
const DONE: u8 = 4;

pub(crate) struct Cutter {
    pub(crate) port: u16,
    state: Arc<AtomicU8>,
}

impl Cutter {
    pub(crate) fn new(server: u16) -> Self {
        let state = Arc::new(AtomicU8::new(NOTHING));
        let shared = Arc::clone(&state);
        let carry = move |from, to, is_question| carry(from, to, &shared, is_question);
        Self { port: proxy::open(move || server, carry), state }
    }

    /// The next commit is cut.
    pub(crate) fn arm(&self, cut: Cut) {
        let state = if cut == Cut::Question { QUESTION } else { ANSWER };
        self.state.store(state, Ordering::SeqCst);
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.state.load(Ordering::SeqCst) == DONE
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8, is_question: bool) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let part = &bytes[..count];
        if is_question && part.windows(6).any(|word| word == b"COMMIT") {
            match state.load(Ordering::SeqCst) {
                QUESTION => {
                    state.store(DONE, Ordering::SeqCst);
                    break;
                }
                ANSWER => state.store(SWALLOW, Ordering::SeqCst),
                _ => {}
            }
        } else if !is_question && state.load(Ordering::SeqCst) == SWALLOW {
            state.store(DONE, Ordering::SeqCst);
            break;
        }
        if to.write_all(part).is_err() {
            break;
        }
    }
    // Both ways.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
