//! Listening ports, shared by every element of the process on the same address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use camrelay_protocol::{Accept, Access, Admissions, Config, PrivateKey, Stats};

use super::delivery::Observer;
use super::driver::Driver;
use super::feed::{Patience, Subscriber};
use super::queue::Queue;
use super::router::Router;
use super::socket::Socket;
use super::{CAT, PortError, PortEvent};

type Ports = BTreeMap<SocketAddr, Weak<Port>>;

/// The listening ports of this process, by the address they are bound to. An entry goes when
/// its address is free again.
///
/// Lock order: taken before any other lock, and held while a port is opened.
static PORTS: Mutex<Ports> = Mutex::new(Ports::new());
/// An entry went.
static FREED: Condvar = Condvar::new();

/// How a listening port is opened.
#[derive(Clone)]
pub struct PortSettings {
    /// Where to listen; port 0 lets the system pick.
    pub address: SocketAddr,
    /// The relay's key; without one only anonymous sessions can be accepted.
    pub identity: Option<PrivateKey>,
    /// Who may open a session.
    pub access: Access,
}

/// A UDP port that cameras and viewers call: one socket and one thread.
pub struct Port {
    driver: Arc<Driver<Router>>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    /// Binds and registers the port, so that camrelaysrc elements with the same address and
    /// port share it. It is kept while the `Arc` or an element lives.
    ///
    /// # Errors
    /// [`PortError::Bind`] where the address is taken (by this process, too) or is not this
    /// machine's, [`PortError::Socket`] or [`PortError::Random`] where the system refuses.
    pub fn listen(settings: PortSettings) -> Result<Arc<Self>, PortError> {
        Self::open(lock_ports(), settings)
    }

    /// The port that is open on that address, or a new one. One that is open keeps its
    /// settings.
    ///
    /// # Errors
    /// As [`Self::listen`].
    pub(crate) fn share(settings: PortSettings) -> Result<Arc<Self>, PortError> {
        let ports = lock_ports();
        if let Some(port) = ports.get(&settings.address).and_then(Weak::upgrade) {
            gst::debug!(CAT, "sharing the port on {}", settings.address);
            return Ok(port);
        }
        Self::open(ports, settings)
    }

    fn open(
        mut ports: MutexGuard<'static, Ports>,
        settings: PortSettings,
    ) -> Result<Arc<Self>, PortError> {
        let PortSettings {
            address,
            identity,
            access,
        } = settings;
        let closing = |ports: &Ports| {
            ports
                .get(&address)
                .is_some_and(|one| one.strong_count() == 0)
        };
        while closing(&ports) {
            ports = FREED.wait(ports).unwrap_or_else(PoisonError::into_inner);
        }
        let socket =
            Socket::for_listening(address).map_err(|source| PortError::Bind { address, source })?;
        let config = Config {
            identity,
            access: Some(access),
            ..Config::default()
        };
        let (driver, thread) =
            Driver::start("camrelay-port", socket, config, |_| Router::default())?;
        let port = Arc::new(Self {
            driver,
            thread: Some(thread),
        });
        ports.insert(port.local_addr(), Arc::downgrade(&port));
        gst::info!(CAT, "listening on {}", port.local_addr());
        Ok(port)
    }

    /// The address it listens on, with the port that the system picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.driver.local_addr()
    }

    /// What to tell the system where it grants too small a receive buffer: a sentence for a
    /// person, with the command.
    pub fn advice(&self) -> Option<String> {
        self.driver.socket().advice()
    }

    /// What the port did about those who want to begin a session.
    pub fn admissions(&self) -> Admissions {
        self.driver.read(|_, endpoint, _| endpoint.admissions())
    }

    /// Changes who may connect; sessions no longer allowed end at once.
    pub fn set_access(&self, access: Access) {
        self.driver
            .with(|_, endpoint, now| endpoint.set_access(now, access));
    }

    /// Changes who may watch without a key, of those that may connect without one: all, where
    /// nothing is said. Sessions no longer allowed end at once.
    pub fn set_viewers(&self, viewers: Accept) {
        self.driver
            .with(|_, endpoint, now| endpoint.set_viewers(now, viewers));
    }

    /// Every event from now on, cameras that are there already first. The receiver ends with
    /// the port, and when it is more than 1024 events behind.
    pub fn events(&self) -> Receiver<PortEvent> {
        self.driver.read(|router, _, _| router.events())
    }

    /// Takes `stream` of a camera, or of the first camera that comes.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        camera: Option<&str>,
        stream: u16,
        patience: Patience,
        observer: Observer,
    ) -> PortSubscription {
        let queue = Arc::new(Queue::new(stream));
        let subscriber = Subscriber {
            patience,
            queue: queue.clone(),
            observer,
        };
        self.driver
            .with(|router, endpoint, _| router.subscribe(endpoint, camera, subscriber));
        PortSubscription {
            port: self.clone(),
            queue,
        }
    }
}

impl Drop for Port {
    /// Tells the cameras, then frees the address before it returns.
    fn drop(&mut self) {
        self.driver.stop(Duration::ZERO);
        let thread = self.thread.take();
        // The last element may be let go by a notice that the thread itself delivers.
        let other = |one: &JoinHandle<()>| one.thread().id() != std::thread::current().id();
        if let Some(thread) = thread.filter(other) {
            // A panic of the thread is in the log already.
            let _ = thread.join();
        }
        lock_ports().remove(&self.local_addr());
        FREED.notify_all();
    }
}

fn lock_ports() -> MutexGuard<'static, Ports> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An element's part in a listening port.
pub(crate) struct PortSubscription {
    port: Arc<Port>,
    queue: Arc<Queue>,
}

impl PortSubscription {
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.port.local_addr()
    }

    /// Counters of the camera; `None` while there is none.
    pub(crate) fn stats(&self) -> Option<Stats> {
        self.port
            .driver
            .read(|router, endpoint, now| endpoint.stats(now, router.peer_of(&self.queue)?))
    }

    /// Datagrams of the port that the kernel dropped.
    pub(crate) fn dropped_by_kernel(&self) -> u64 {
        self.port.driver.socket().dropped_by_kernel()
    }

    /// As [`Port::advice`].
    pub(crate) fn advice(&self) -> Option<String> {
        self.port.advice()
    }

    /// Asks the camera for a key frame.
    pub(crate) fn request_keyframe(&self) {
        self.port.driver.with(|router, endpoint, now| {
            if let Some(peer) = router.peer_of(&self.queue) {
                endpoint.request_keyframe(now, peer, self.queue.stream());
            }
        });
    }
}

impl Drop for PortSubscription {
    fn drop(&mut self) {
        self.port
            .driver
            .read(|router, _, _| router.unsubscribe(&self.queue));
    }
}
