//! The thread that drives one endpoint over one socket.
//!
//! Lock order: the core's lock is taken alone. It is held neither across a system call
//! nor across a delivery; queues and observers, which have locks of their own, are
//! reached only after it was let go.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use camrelay_protocol::{Config, Endpoint, Event, PeerId, Time};

use super::delivery::Delivery;
use super::random::SystemRandom;
use super::socket::{Incoming, Outgoing, Socket};
use super::waiter::Waiter;
use super::{CAT, PortError, clock};

/// Datagram batches taken in a row before something is sent.
const MAX_BATCHES: usize = 8;

/// Lull that is worth a system call more.
const SHORTEST_LULL: Duration = Duration::from_micros(500);

/// What a port does with the events of its endpoint.
pub(super) trait Side: Send + 'static {
    /// Takes an event; what it leads to outside goes to `out`.
    fn handle(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        peer: PeerId,
        event: Event,
        out: &mut Vec<Delivery>,
    );

    /// Carries out what is due on this side; returns when to call again.
    fn poll(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        out: &mut Vec<Delivery>,
    ) -> Option<Time> {
        let _ = (endpoint, now, out);
        None
    }

    /// Ends every session.
    fn close(&mut self, endpoint: &mut Endpoint, now: Time);

    /// Whether every session has ended.
    fn is_closed(&self) -> bool;

    /// The port's thread failed; nothing will come any more.
    fn fail(&mut self, out: &mut Vec<Delivery>);
}

/// One socket, its endpoint and its side, shared by the thread and the elements.
pub(super) struct Driver<S> {
    socket: Socket,
    waiter: Waiter,
    core: Mutex<Core<S>>,
}

struct Core<S> {
    endpoint: Endpoint,
    side: S,
    stop: Option<Stop>,
    /// What [`Driver::send`] writes datagrams to.
    outgoing: Outgoing,
    /// What the kernel did not take from other threads; these leave the rest to this one then.
    unsent: Vec<Outgoing>,
}

/// How long the thread has nothing to do.
struct Pause {
    /// Unless something comes; `None`: for ever.
    timeout: Option<Duration>,
    /// Although datagrams may come.
    lull: Option<Duration>,
}

struct Stop {
    deadline: Time,
    closed: bool,
    flushed: Option<SyncSender<()>>,
}

impl<S: Side> Driver<S> {
    /// Starts the thread `name`. `side` is given a way back to the driver.
    pub(super) fn start(
        name: &str,
        socket: Socket,
        config: Config,
        side: impl FnOnce(&Weak<Self>) -> S,
    ) -> Result<(Arc<Self>, JoinHandle<()>), PortError> {
        let endpoint = Endpoint::new(config, Box::new(SystemRandom::new()?));
        let waiter = Waiter::new()?;
        let driver = Arc::new_cyclic(|weak| Self {
            socket,
            waiter,
            core: Mutex::new(Core {
                endpoint,
                side: side(weak),
                stop: None,
                outgoing: Outgoing::default(),
                unsent: Vec::new(),
            }),
        });
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let driver = driver.clone();
            move || driver.run()
        })?;
        Ok((driver, thread))
    }

    pub(super) fn local_addr(&self) -> std::net::SocketAddr {
        self.socket.local_addr()
    }

    /// The socket, for what the system says of it.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Runs `action` with the side and the endpoint, then lets the thread send what it led to.
    pub(super) fn with<R>(&self, action: impl FnOnce(&mut S, &mut Endpoint, Time) -> R) -> R {
        let result = self.read(action);
        self.wake();
        result
    }

    /// As [`Self::with`], but sends what it led to from the thread that calls, as far as that may
    /// leave at once; the port's need not wake for it.
    pub(super) fn send<R>(&self, action: impl FnOnce(&mut S, &mut Endpoint, Time) -> R) -> R {
        let mut core = self.lock();
        let Core { endpoint, side, .. } = &mut *core;
        let result = action(side, endpoint, clock::now());
        let mut outgoing = std::mem::take(&mut core.outgoing);
        let segments = self.socket.max_segments();
        while core.unsent.is_empty() {
            let transmit =
                core.endpoint
                    .poll_transmit(clock::now(), segments, &mut outgoing.buffer);
            let Some(transmit) = transmit else {
                let due = core.endpoint.poll_timeout();
                let due = due.filter(|_| !core.endpoint.has_events());
                core.outgoing = outgoing;
                drop(core);
                self.wake_at(due);
                return result;
            };
            drop(core);
            outgoing.begin(transmit);
            let sent = self.socket.send(&mut outgoing);
            core = self.lock();
            if !sent {
                core.unsent.push(std::mem::take(&mut outgoing));
            }
        }
        drop(core);
        self.wake();
        result
    }

    /// As [`Self::with`], for what has something to hand on.
    pub(super) fn tell(
        &self,
        action: impl FnOnce(&mut S, &mut Endpoint, Time, &mut Vec<Delivery>),
    ) {
        let mut out = Vec::new();
        self.read(|side, endpoint, now| action(side, endpoint, now, &mut out));
        self.deliver(&mut out);
        self.wake();
    }

    /// As [`Self::with`], for what leads to nothing to send.
    pub(super) fn read<R>(&self, action: impl FnOnce(&mut S, &mut Endpoint, Time) -> R) -> R {
        let mut core = self.lock();
        let Core { endpoint, side, .. } = &mut *core;
        action(side, endpoint, clock::now())
    }

    /// Ends every session and, `linger` later at the latest, the thread. The receiver hears
    /// when everything that was waiting has left the socket.
    pub(super) fn stop(&self, linger: Duration) -> Receiver<()> {
        let (flushed, receiver) = sync_channel(1);
        self.lock().stop = Some(Stop {
            deadline: clock::now() + linger,
            closed: false,
            flushed: Some(flushed),
        });
        self.wake();
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Core<S>> {
        // A thread that panicked leaves a core that is told to fail, and is then only closed.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Err(error) = self.waiter.wake() {
            gst::error!(CAT, "cannot wake the port's thread: {error}");
        }
    }

    /// Wakes the thread at that time, or now.
    fn wake_at(&self, due: Option<Time>) {
        match due.map(|due| self.waiter.wake_at(due)) {
            Some(Ok(())) => {}
            Some(Err(_)) | None => self.wake(),
        }
    }

    fn run(&self) {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.drive()));
        let problem = match ran {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".into(),
        };
        gst::error!(CAT, "the port's thread ended: {problem}");
        let mut out = Vec::new();
        self.lock().side.fail(&mut out);
        out.into_iter().for_each(|delivery| {
            delivery.carry_out();
        });
    }

    fn drive(&self) -> io::Result<()> {
        let mut incoming = Incoming::new();
        let mut outgoing = Outgoing::default();
        let mut out = Vec::new();
        let mut readable = false;
        loop {
            let mut due = None;
            // What is at hand is taken before what is due: it came before that.
            for _ in 0..MAX_BATCHES {
                if readable {
                    readable = self
                        .socket
                        .recv(&mut incoming, &mut outgoing)
                        .unwrap_or_else(|error| {
                            gst::debug!(CAT, "cannot receive: {error}");
                            false
                        });
                }
                due = self.advance(&mut incoming, &mut out);
                self.deliver(&mut out);
                if !readable {
                    break;
                }
            }
            self.flush(&mut outgoing);
            let sending = outgoing.is_pending();
            let Some(Pause { timeout, lull }) = self.pause(due, sending) else {
                return Ok(());
            };
            readable = match lull {
                Some(lull) if !readable && !sending => {
                    self.waiter.wait_for_call(lull)?;
                    true
                }
                _ => self.waiter.wait(&self.socket, sending, timeout)?,
            };
        }
    }

    /// Feeds what was received to the endpoint and its events to the side; returns when the
    /// side has something to do.
    fn advance(&self, incoming: &mut Incoming, out: &mut Vec<Delivery>) -> Option<Time> {
        let mut core = self.lock();
        let Core {
            endpoint,
            side,
            stop,
            ..
        } = &mut *core;
        let now = clock::now();
        incoming.for_each(|arrived, from, datagram| {
            endpoint.handle_datagram(now, arrived.min(now), from, datagram);
        });
        if let Some(stop) = stop.as_mut().filter(|stop| !stop.closed) {
            side.close(endpoint, now);
            stop.closed = true;
        }
        if endpoint.poll_timeout().is_some_and(|due| due <= now) {
            endpoint.handle_timeout(now);
        }
        let due = side.poll(endpoint, now, out);
        while let Some((peer, event)) = endpoint.poll_event() {
            side.handle(endpoint, now, peer, event, out);
        }
        due
    }

    /// Hands on what `out` holds, and asks for the key frames that queues then need.
    fn deliver(&self, out: &mut Vec<Delivery>) {
        for delivery in out.drain(..) {
            if let Some((peer, stream)) = delivery.carry_out() {
                self.read(|_, endpoint, now| endpoint.request_keyframe(now, peer, stream));
            }
        }
    }

    /// Sends until nothing is left or the kernel takes no more.
    fn flush(&self, outgoing: &mut Outgoing) {
        while self.socket.send(outgoing) {
            let segments = self.socket.max_segments();
            let mut core = self.lock();
            if let Some(unsent) = core.unsent.pop() {
                outgoing.take_up(unsent);
                continue;
            }
            let transmit =
                core.endpoint
                    .poll_transmit(clock::now(), segments, &mut outgoing.buffer);
            drop(core);
            let Some(transmit) = transmit else {
                return;
            };
            outgoing.begin(transmit);
        }
    }

    /// How long to wait for something to do; `None`: the port is done.
    fn pause(&self, due: Option<Time>, sending: bool) -> Option<Pause> {
        let mut core = self.lock();
        let now = clock::now();
        let mut due = [due, core.endpoint.poll_timeout()]
            .into_iter()
            .flatten()
            .min();
        let closed = core.side.is_closed();
        let said = core.endpoint.has_said_goodbye();
        if let Some(stop) = core.stop.as_mut().filter(|stop| stop.closed) {
            if !sending
                && said
                && let Some(flushed) = stop.flushed.take()
            {
                // Whoever asked may have stopped waiting.
                let _ = flushed.try_send(());
            }
            if closed && !sending || stop.deadline <= now {
                return None;
            }
            due = Some(due.map_or(stop.deadline, |due| due.min(stop.deadline)));
        }
        let lull = core.endpoint.poll_lull();
        let lull = lull.map(|lull| due.map_or(lull, |due| due.min(lull)).since(now));
        Some(Pause {
            timeout: due.map(|due| due.since(now)),
            lull: lull.filter(|lull| *lull >= SHORTEST_LULL),
        })
    }
}
