//! Our own io_uring inside an executor: accepts, polls and sends of sockets, and the eventfd by which others wake it.
//!
//! Everything unsafe of the data plane is in this file. The proofs: an entry of the submission queue refers to a file descriptor that its
//! caller holds open until after the next `enter`, and to bytes only in `send_all`, which enters before it returns; a send with
//! `MSG_DONTWAIT` and `MSG_WAITALL` is finished then, so that the kernel keeps no pointer.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::Flags;
use io_uring::types::{Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};

/// What a completion belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Op {
    Accept = 1,
    Readable = 2,
    Writable = 3,
    Send = 4,
    Deadline = 5,
    Cancel = 6,
    Wake = 7,
}

/// Who asked: the operation, and 56 bits of the asker's choice (generation 24, index 32).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tag {
    pub(super) op: Op,
    pub(super) generation: u32,
    pub(super) index: u32,
}

impl Tag {
    /// `generation` is cut to 24 bits.
    pub(super) fn new(op: Op, generation: u32, index: u32) -> Self {
        Self { op, generation: generation & 0x00ff_ffff, index }
    }
    fn bits(self) -> u64 {
        u64::from(self.op as u8) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }
    fn of(bits: u64) -> Self {
        let op = match bits >> 56 {
            1 => Op::Accept,
            2 => Op::Readable,
            3 => Op::Writable,
            4 => Op::Send,
            5 => Op::Deadline,
            7 => Op::Wake,
            _ => Op::Cancel,
        };
        Self { op, generation: (bits >> 32) as u32 & 0x00ff_ffff, index: bits as u32 }
    }
}

/// Something came to an end, or happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) tag: Tag,
    /// As the system call would return; negative: an error number.
    pub(super) result: i32,
    /// A multishot operation goes on.
    pub(super) more: bool,
}

/// One write of one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<'a> {
    pub(super) tag: Tag,
    pub(super) fd: RawFd,
    pub(super) bytes: &'a [u8],
}

/// Bits of a poll's result that say that the other side ended.
pub(super) const HANGUPS: u32 = libc_flags::POLLRDHUP | libc_flags::POLLHUP | libc_flags::POLLERR;

/// Per core; made and used by the thread of its executor only.
pub(super) struct Uring {
    ring: IoUring,
    timespec: Box<Timespec>,
    timespec_is_used: bool,
}

/// Entries of the submission queue; the completion queue has twice as many and then the kernel keeps a list.
const ENTRIES: u32 = 4_096;

impl Uring {
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(ENTRIES * 2)
            .build(ENTRIES)?;
        Ok(Self { ring, timespec: Box::new(Timespec::new()), timespec_is_used: false })
    }

    /// Tells each time that somebody writes to an eventfd. Nobody reads it: its counter does not come to an end.
    pub(super) fn poll_wake(&mut self, fd: RawFd, tag: Tag) {
        self.push(opcode::PollAdd::new(Fd(fd), libc_flags::POLLIN).multi(true).build(), tag);
    }

    /// Accepts connections until it ends with `more` false.
    pub(super) fn accept(&mut self, listener: RawFd, tag: Tag) {
        let flags = libc_flags::SOCK_NONBLOCK | libc_flags::SOCK_CLOEXEC;
        let entry = opcode::AcceptMulti::new(Fd(listener)).flags(flags).build();
        self.push(entry, tag);
    }

    /// Tells each time that there is something to read; edge triggered.
    pub(super) fn poll_readable(&mut self, fd: RawFd, tag: Tag) {
        let events = libc_flags::POLLIN | libc_flags::POLLRDHUP;
        self.push(opcode::PollAdd::new(Fd(fd), events).multi(true).build(), tag);
    }

    /// Tells once that there is room to write.
    pub(super) fn poll_writable(&mut self, fd: RawFd, tag: Tag) {
        self.push(opcode::PollAdd::new(Fd(fd), libc_flags::POLLOUT).build(), tag);
    }

    pub(super) fn cancel(&mut self, what: Tag) {
        let entry = opcode::AsyncCancel::new(what.bits()).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS), Tag::new(Op::Cancel, 0, 0));
    }

    /// Tells once, after `pause`.
    pub(super) fn wake_after(&mut self, pause: Duration, tag: Tag) {
        if self.timespec_is_used {
            // The kernel reads it when it takes the entry.
            let _ = self.enter();
        }
        *self.timespec = Timespec::from(pause);
        self.timespec_is_used = true;
        let entry = opcode::Timeout::new(&raw const *self.timespec).build();
        self.push(entry, tag);
    }

    /// Writes to many sockets with one call into the kernel. No completion: all bytes of that write were taken. At most one write a
    /// socket, and at most [`ENTRIES`] in all.
    pub(super) fn send_all(&mut self, writes: &[Write<'_>]) -> io::Result<()> {
        assert!(writes.len() <= ENTRIES as usize / 2, "one call takes them all");
        let left = {
            let queue = self.ring.submission();
            queue.capacity() - queue.len()
        };
        if left < writes.len() {
            self.enter()?;
        }
        // All three: without WAITALL a short write would be silent, without DONTWAIT the bytes would have to live longer.
        let flags = libc_flags::MSG_DONTWAIT | libc_flags::MSG_WAITALL | libc_flags::MSG_NOSIGNAL;
        for write in writes {
            let len = u32::try_from(write.bytes.len()).expect("a write is bounded");
            let entry =
                opcode::Send::new(Fd(write.fd), write.bytes.as_ptr(), len).flags(flags).build();
            self.push(entry.flags(Flags::SKIP_SUCCESS), write.tag);
        }
        self.enter()
    }

    fn push(&mut self, entry: squeue::Entry, tag: Tag) {
        let entry = entry.user_data(tag.bits());
        loop {
            // SAFETY: descriptors and bytes live until after the next `enter`, see the head of this file.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            if let Err(error) = self.enter() {
                panic!("io_uring takes no entries: {error}");
            }
        }
    }

    /// Gives the kernel what is queued, and lets it finish what it can, without waiting.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        self.enter_for(0)
    }

    /// The same, and sleeps until something completes, if nothing did yet. May end early.
    pub(super) fn sleep(&mut self) -> io::Result<()> {
        self.enter_for(1)
    }

    fn enter_for(&mut self, completions_min: u32) -> io::Result<()> {
        const GETEVENTS: u32 = 1;
        loop {
            let queued = self.ring.submission().len() as u32;
            let submitter = self.ring.submitter();
            // SAFETY: no argument is a pointer.
            let entered =
                unsafe { submitter.enter::<()>(queued, completions_min, GETEVENTS, None) };
            match entered {
                Ok(taken) if taken >= queued as usize => {
                    self.timespec_is_used = false;
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The completion queue is full: it is emptied, and then we come again.
                Err(error) if error.raw_os_error() == Some(libc_flags::EBUSY) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// What completed since the last time: all of it, also what the kernel keeps in a list as the queue was full. Of a write that is not among it
    /// everything was taken.
    pub(super) fn completions(&mut self, into: &mut Vec<Completion>) -> io::Result<()> {
        loop {
            for entry in self.ring.completion() {
                into.push(Completion {
                    tag: Tag::of(entry.user_data()),
                    result: entry.result(),
                    more: cqueue::more(entry.flags()),
                });
            }
            if !self.ring.submission().cq_overflow() {
                return Ok(());
            }
            self.enter()?;
        }
    }
}

/// An accepted connection, from the result of its completion.
pub(super) fn accepted(result: i32) -> OwnedFd {
    assert!(result >= 0, "an error is no connection");
    // SAFETY: the kernel made this descriptor for us, and told of it once.
    unsafe { OwnedFd::from_raw_fd(result) }
}

/// What wakes an executor: its ring, its peers, the control plane. Non-blocking for writers.
pub(super) fn wake_fd() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}

/// Numbers of the Linux ABI that the crates above leave to `libc`.
mod libc_flags {
    pub(super) const SOCK_NONBLOCK: i32 = 0o4000;
    pub(super) const SOCK_CLOEXEC: i32 = 0o2_000_000;
    pub(super) const POLLIN: u32 = 0x001;
    pub(super) const POLLOUT: u32 = 0x004;
    pub(super) const POLLERR: u32 = 0x008;
    pub(super) const POLLHUP: u32 = 0x010;
    pub(super) const POLLRDHUP: u32 = 0x2000;
    pub(super) const MSG_DONTWAIT: i32 = 0x40;
    pub(super) const MSG_WAITALL: i32 = 0x100;
    pub(super) const MSG_NOSIGNAL: i32 = 0x4000;
    pub(super) const EBUSY: i32 = 16;
}
