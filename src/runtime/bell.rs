//! The bell of a core: who puts something into one of its queues rings, and a sleeping core wakes.
//!
//! The core says that it sleeps, then looks into its queues once more; others put something in, then look whether it sleeps. With a full
//! fence between the two steps on either side, one of them sees the other, and a core that is awake costs nobody a system call.
//!
//! Only the first one rings. The last look may take both what that one put in and its ring, and then nothing tells of a second one that came
//! behind the look: so the core sleeps only where nobody rang since it said that it would.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Shared by a core and by everybody who has something to tell it.
#[derive(Debug)]
pub(super) struct Bell {
    fd: OwnedFd,
    sleeps: AtomicBool,
}

impl Bell {
    /// `fd`: the eventfd that the core's ring polls.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, sleeps: AtomicBool::new(false) }
    }

    /// After something was put into a queue of this core.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::Relaxed) && self.sleeps.swap(false, Ordering::Relaxed) {
            // Only a counter near 2^64 makes it fail, and then the core is awake.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// The core will sleep, if nobody rings while it looks into its queues for the last time.
    pub(super) fn will_sleep(&self) {
        self.sleeps.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether nobody rang since the core said that it would sleep. Whoever rings after this writes to the eventfd.
    pub(super) fn is_silent(&self) -> bool {
        self.sleeps.load(Ordering::Relaxed)
    }

    /// The core is awake and will look into its queues before it sleeps again.
    pub(super) fn is_awake(&self) {
        self.sleeps.store(false, Ordering::Relaxed);
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::uring::wake_fd;

    #[test]
    fn it_rings_once_for_a_sleeper_and_not_at_all_for_who_is_awake() {
        let bell = Bell::new(wake_fd().expect("an eventfd"));
        let count = || {
            let mut count = [0; 8];
            rustix::io::read(&bell.fd, &mut count).expect("it rang");
            u64::from_ne_bytes(count)
        };
        bell.ring();
        bell.will_sleep();
        assert!(bell.is_silent());
        bell.ring();
        bell.ring();
        assert_eq!(count(), 1);
        assert!(!bell.is_silent(), "the second one is still to be found");
        bell.will_sleep();
        bell.is_awake();
        bell.ring();
        bell.will_sleep();
        bell.ring();
        assert_eq!(count(), 1);
    }
}
