//! What the thread of a port waits for: datagrams, a deadline, a call from another thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use camrelay_protocol::Time;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// One system call waits for all of it (ppoll), which matters where datagrams come one by one.
pub(super) struct Waiter {
    /// Not zero since [`Self::wake`].
    called: OwnedFd,
    /// Set by [`Self::wake_at`], on the clock of ports.
    alarm: OwnedFd,
    /// When that is to ring, in nanoseconds; or [`NEVER`].
    rings: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Waiter {
    pub(super) fn new() -> io::Result<Self> {
        let called = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            called,
            alarm,
            rings: AtomicU64::new(NEVER),
        })
    }

    /// Ends the wait of the thread that waits, or the next one that begins.
    pub(super) fn wake(&self) -> io::Result<()> {
        match rustix::io::write(&self.called, &1u64.to_ne_bytes()) {
            // It was called so often that there is no room to count once more.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the wait of the thread that waits, or the next one that begins, end at that time, or
    /// sooner where that was asked for: what is due is to be looked up before each wait.
    pub(super) fn wake_at(&self, at: Time) -> io::Result<()> {
        // Zero would never come.
        let mut at = at.as_nanos().max(1);
        if self.rings.fetch_min(at, Ordering::SeqCst) <= at {
            return Ok(());
        }
        loop {
            self.set_alarm(Duration::from_nanos(at))?;
            // Another thread may have set it to a time before this one, just before.
            match self.rings.load(Ordering::SeqCst) {
                sooner if sooner < at => at = sooner,
                _ => return Ok(()),
            }
        }
    }

    fn set_alarm(&self, at: Duration) -> io::Result<()> {
        let it_value = Timespec::try_from(at).map_err(|_| Errno::INVAL)?;
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value,
        };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
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
            PollFd::new(&self.alarm, PollFlags::IN),
        ];
        self.poll(&mut fds, timeout)?;
        Ok(fds[0].revents().intersects(PollFlags::IN | PollFlags::ERR))
    }

    /// Waits until this was woken, or `timeout` is over, whatever comes.
    pub(super) fn wait_for_call(&self, timeout: Duration) -> io::Result<()> {
        let mut fds = [
            PollFd::new(&self.called, PollFlags::IN),
            PollFd::new(&self.alarm, PollFlags::IN),
        ];
        self.poll(&mut fds, Some(timeout))
    }

    /// Waits for one of `fds`, the last of which are what is called and the alarm.
    fn poll(&self, fds: &mut [PollFd], timeout: Option<Duration>) -> io::Result<()> {
        // Longer than the system can wait is for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let [.., called, alarm] = fds {
            if !called.revents().is_empty() {
                // Only this thread reads, and what it reads away may be nothing already.
                let _ = rustix::io::read(&self.called, &mut [0; 8]);
            }
            let is_set = self.rings.load(Ordering::SeqCst) != NEVER;
            if is_set || !alarm.revents().is_empty() {
                // In this order: an alarm that is set meanwhile may be lost, as what is due is looked
                // up after this, but none may seem set that is not.
                self.set_alarm(Duration::ZERO)?;
                self.rings.store(NEVER, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::Instant;

    use super::super::clock;
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
    fn an_alarm_ends_one_wait_when_its_time_has_come() {
        let (waiter, socket) = (Waiter::new().unwrap(), socket());
        for wait in [Duration::ZERO, Duration::from_millis(2)] {
            let at = clock::now() + wait;
            waiter.wake_at(at).unwrap();
            assert!(!waiter.wait(&socket, false, None).unwrap());
            assert!(clock::now() >= at);
            waiter.wake_at(at + wait).unwrap();
            waiter.wait_for_call(Duration::MAX).unwrap();
            assert!(clock::now() >= at + wait);
        }
        // The sooner of two rings,
        let begin = clock::now();
        waiter.wake_at(begin + Duration::from_millis(1)).unwrap();
        waiter.wake_at(begin + Duration::from_secs(3600)).unwrap();
        assert!(!waiter.wait(&socket, false, None).unwrap());
        // and one that was not waited for does not any more.
        waiter.wake_at(clock::now() + SOON.unwrap() * 2).unwrap();
        assert!(!waiter.wait(&socket, false, SOON).unwrap());
        let begin = Instant::now();
        waiter
            .wait(&socket, false, SOON.map(|soon| soon * 3))
            .unwrap();
        assert!(begin.elapsed() >= SOON.unwrap() * 3, "it rang still");
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
