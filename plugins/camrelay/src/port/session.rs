//! Sessions that this process opened, shared by every element with the same settings.

use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use camrelay_protocol::{
    CameraToken, Config, Error, Frame, LatePolicy, Role, Stats, check_camera_name,
};

use super::PortError;
use super::caller::Caller;
use super::delivery::Observer;
use super::driver::Driver;
use super::queue::Queue;
use super::socket::Socket;

/// How long a session that nobody uses any more may take to say goodbye, in the background.
const LINGER: Duration = Duration::from_secs(1);
/// How long whoever ends a session waits for this process to have sent what was handed over, and
/// the goodbye after it.
const FLUSH: Duration = Duration::from_millis(500);

type Sessions = BTreeMap<SessionKey, Weak<Session>>;

/// The sessions of this process. Lock order: taken before any other lock.
static SESSIONS: Mutex<Sessions> = Mutex::new(Sessions::new());

/// Whether a session sends a camera or receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Publish,
    Watch,
}

/// How to call a relay.
#[derive(Clone)]
pub(crate) struct SessionSettings {
    pub(crate) direction: Direction,
    /// The relay's host name or address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) camera: String,
    pub(crate) token: Option<CameraToken>,
    pub(crate) latency: Duration,
    pub(crate) late_policy: LatePolicy,
    /// UDP payload, in bytes; 0 finds it out.
    pub(crate) mtu: u16,
}

/// What elements must have in common to share a session.
type SessionKey = (Direction, String, u16, String, Option<String>);

impl SessionSettings {
    fn key(&self) -> SessionKey {
        (
            self.direction,
            self.host.clone(),
            self.port,
            self.camera.clone(),
            self.token.as_ref().map(CameraToken::to_text),
        )
    }

    pub(super) fn role(&self) -> Role {
        let camera = self.camera.clone();
        match self.direction {
            Direction::Publish => Role::Publish { camera },
            Direction::Watch => Role::Watch { camera },
        }
    }
}

/// A session with a relay: one socket and one thread.
struct Session {
    driver: Arc<Driver<Caller>>,
}

impl Session {
    /// Has `join` run with the session of those settings while that is open, or with a new one
    /// before it calls: an answer that comes at once finds whoever is to hear it.
    fn join<R>(
        settings: SessionSettings,
        join: impl Fn(&mut Caller) -> R,
    ) -> Result<(Arc<Self>, R), PortError> {
        check_camera_name(&settings.camera)?;
        let key = settings.key();
        let mut sessions = lock_sessions();
        let old = sessions.get(&key).and_then(Weak::upgrade);
        let joined = old.clone().and_then(|session| {
            let joined = session
                .driver
                .read(|caller, _, _| caller.is_open().then(|| join(caller)))?;
            Some((session, joined))
        });
        let joined = match joined {
            Some(joined) => joined,
            None => {
                let (session, joined) = Self::open(settings, join)?;
                let session = Arc::new(session);
                sessions.retain(|_, one| one.strong_count() > 0);
                sessions.insert(key, Arc::downgrade(&session));
                (session, joined)
            }
        };
        // The last one to let a session go waits, which must not happen under the lock.
        drop(sessions);
        drop(old);
        Ok(joined)
    }

    fn open<R>(
        settings: SessionSettings,
        join: impl Fn(&mut Caller) -> R,
    ) -> Result<(Self, R), PortError> {
        let socket = Socket::for_calling()?;
        let side = |driver: &Weak<_>| Caller::new(driver.clone(), settings);
        let (driver, _) = Driver::start("camrelay-call", socket, Config::default(), side)?;
        let session = Self { driver };
        let joined = session.driver.with(|caller, endpoint, now| {
            let joined = join(caller);
            caller.begin(endpoint, now).map(|()| joined)
        })?;
        Ok((session, joined))
    }
}

impl Drop for Session {
    /// Says goodbye in the background, having waited until it has left this machine.
    fn drop(&mut self) {
        let flushed = self.driver.stop(LINGER);
        // Nothing more can be done about a network that takes nothing.
        let _ = flushed.recv_timeout(FLUSH);
    }
}

fn lock_sessions() -> MutexGuard<'static, Sessions> {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The part of an element that sends a stream.
pub(crate) struct Publisher {
    session: Arc<Session>,
    stream: u16,
}

impl Publisher {
    /// Joins the session of those settings, or opens it.
    ///
    /// # Errors
    /// [`PortError::StreamTaken`]; [`PortError::Protocol`] where the camera's name is none;
    /// [`PortError::Socket`] or [`PortError::Random`] where the system refuses.
    pub(crate) fn new(
        settings: SessionSettings,
        stream: u16,
        observer: Observer,
    ) -> Result<Self, PortError> {
        let camera = settings.camera.clone();
        let (session, joined) =
            Session::join(settings, |caller| caller.publish(stream, observer.clone()))?;
        if joined {
            Ok(Self { session, stream })
        } else {
            Err(PortError::StreamTaken { camera, stream })
        }
    }

    /// Says what the frames are from now on.
    pub(crate) fn set_caps(&self, caps: &str) -> Result<(), Error> {
        self.session
            .driver
            .with(|caller, endpoint, now| caller.set_caps(endpoint, now, self.stream, caps))
    }

    /// Sends a frame; without a session it is dropped and counted.
    pub(crate) fn send(&self, frame: Frame) -> Result<(), Error> {
        self.session
            .driver
            .send(|caller, endpoint, now| caller.send(endpoint, now, self.stream, frame))
    }

    /// Says that no more frames will come, and ends the session with its last stream.
    /// Returns whether `ended` will hear that the relay has everything.
    pub(crate) fn end(&self, ended: SyncSender<()>) -> bool {
        self.session
            .driver
            .with(|caller, endpoint, now| caller.end(endpoint, now, self.stream, ended))
    }

    /// Datagrams of the session that the kernel dropped.
    pub(crate) fn dropped_by_kernel(&self) -> u64 {
        self.session.driver.socket().dropped_by_kernel()
    }

    /// Counters of the session.
    pub(crate) fn stats(&self) -> Stats {
        self.session
            .driver
            .read(|caller, endpoint, now| caller.stats(endpoint, now))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.session
            .driver
            .with(|caller, endpoint, now| caller.unpublish(endpoint, now, self.stream));
    }
}

/// The part of an element that receives a stream.
pub(crate) struct SessionSubscription {
    session: Arc<Session>,
    queue: Arc<Queue>,
}

impl SessionSubscription {
    /// Joins the session of those settings, or opens it.
    ///
    /// # Errors
    /// As [`Publisher::new`], but for the stream.
    pub(crate) fn new(
        settings: SessionSettings,
        stream: u16,
        observer: Observer,
    ) -> Result<Self, PortError> {
        let queue = Arc::new(Queue::new(stream));
        let (session, ()) = Session::join(settings, |caller| {
            caller.subscribe(queue.clone(), observer.clone());
        })?;
        Ok(Self { session, queue })
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Datagrams of the session that the kernel dropped.
    pub(crate) fn dropped_by_kernel(&self) -> u64 {
        self.session.driver.socket().dropped_by_kernel()
    }

    /// Counters of the session.
    pub(crate) fn stats(&self) -> Stats {
        self.session
            .driver
            .read(|caller, endpoint, now| caller.stats(endpoint, now))
    }

    /// As [`super::Port::advice`].
    pub(crate) fn advice(&self) -> Option<String> {
        self.session.driver.socket().advice()
    }

    /// Asks the camera for a key frame.
    pub(crate) fn request_keyframe(&self) {
        let stream = self.queue.stream();
        self.session
            .driver
            .with(|caller, endpoint, now| caller.request_keyframe(endpoint, now, stream));
    }
}

impl Drop for SessionSubscription {
    fn drop(&mut self) {
        self.session
            .driver
            .read(|caller, _, _| caller.unsubscribe(&self.queue));
    }
}

#[cfg(test)]
mod tests {
    use super::super::driver::Side as _;
    use super::*;

    #[test]
    fn who_joins_a_session_does_so_before_it_calls() {
        let settings = |host: &str| SessionSettings {
            direction: Direction::Publish,
            host: host.into(),
            port: 9,
            camera: "door".into(),
            token: None,
            latency: Duration::ZERO,
            late_policy: LatePolicy::default(),
            mtu: 0,
        };
        let calls = |caller: &mut Caller| caller.has_called();
        let (first, called) = Session::join(settings("127.0.0.1"), calls).unwrap();
        assert!(!called, "an answer finds nobody");
        let (second, called) = Session::join(settings("127.0.0.1"), calls).unwrap();
        assert!(called && Arc::ptr_eq(&first, &second), "it is shared");

        // One that is over answers nobody any more.
        first.driver.tell(|caller, _, _, out| caller.fail(out));
        let (third, called) = Session::join(settings("127.0.0.1"), calls).unwrap();
        assert!(!called && !Arc::ptr_eq(&first, &third));
    }
}
