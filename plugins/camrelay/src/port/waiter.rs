//! What the thread of a port waits for: datagrams, a deadline, a call from another thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// One system call waits for all of it (ppoll), which matters where datagrams come one by one.
pub(super) struct Waiter {
    /// Not zero since [`Self::wake`].
    called: OwnedFd,
}

impl Waiter {
    pub(super) fn new() -> io::Result<Self> {
        let called = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { called })
    }

    /// Ends the wait of the thread that waits, or the next one that begins.
    pub(super) fn wake(&self) -> io::Result<()> {
        match rustix::io::write(&self.called, &1u64.to_ne_bytes()) {
            // It was called so often that there is no room to count once more.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until datagrams have come to `socket`, or it takes some where `sending`, or this was
    /// woken, or `timeout` is over. Returns whether datagrams, or an error, have come.
    pub(super) fn wait(
        &self,
        socket: impl AsFd,
        sending: bool,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        let writable = if sending {
            PollFlags::OUT
        } else {
            PollFlags::empty()
        };
        let mut fds = [
            PollFd::new(&socket, PollFlags::IN | writable),
            PollFd::new(&self.called, PollFlags::IN),
        ];
        self.poll(&mut fds, timeout)?;
        Ok(fds[0].revents().intersects(PollFlags::IN | PollFlags::ERR))
    }

    /// Waits until this was woken, or `timeout` is over, whatever comes.
    pub(super) fn wait_for_call(&self, timeout: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.called, PollFlags::IN)];
        self.poll(&mut fds, Some(timeout))
    }

    /// Waits for one of `fds`, the last of which is what is called.
    fn poll(&self, fds: &mut [PollFd], timeout: Option<Duration>) -> io::Result<()> {
        // Longer than the system can wait is for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds
            .last()
            .is_some_and(|called| !called.revents().is_empty())
        {
            // Only this thread reads, and what it reads away may be nothing already.
            let _ = rustix::io::read(&self.called, &mut [0; 8]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::Instant;

    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_millis(1));

    fn socket() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
    }

    #[test]
    fn a_call_ends_one_wait_and_is_no_datagram() {
        let (waiter, socket) = (Waiter::new().unwrap(), socket());
        std::thread::scope(|scope| {
            scope.spawn(|| waiter.wake().unwrap());
            assert!(!waiter.wait(&socket, false, None).unwrap());
        });
        waiter.wake().unwrap();
        waiter.wake().unwrap();
        assert!(!waiter.wait(&socket, false, None).unwrap());
        let begin = Instant::now();
        assert!(!waiter.wait(&socket, false, SOON).unwrap());
        assert!(begin.elapsed() >= Duration::from_millis(1), "called still");
    }

    #[test]
    fn datagrams_and_room_to_send_end_a_wait() {
        let (waiter, socket) = (Waiter::new().unwrap(), socket());
        assert!(!waiter.wait(&socket, true, None).unwrap(), "it has room");
        let own = socket.local_addr().unwrap();
        socket.send_to(b"x", own).unwrap();
        assert!(waiter.wait(&socket, false, None).unwrap());
        assert!(waiter.wait(&socket, false, SOON).unwrap(), "it is not read");
        // But not of a wait for a call alone.
        let begin = Instant::now();
        waiter.wait_for_call(Duration::from_millis(1)).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(1));
        waiter.wake().unwrap();
        waiter.wait_for_call(Duration::MAX).unwrap();
    }
}
