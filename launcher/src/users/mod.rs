//! Who may watch, and what: the users of a deployment, their rights and their passwords.
//!
//! Every way out asks [`Users::admit`] who is there and [`Visitor::may`] for each
//! camera, on every request.

mod attempts;
mod glob;
pub mod password;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use camrelay_protocol::Accept;
use ring::{hmac, rand};

use self::attempts::{Attempts, Who};
use crate::config::{Audience, User};
use crate::relay::address::is_own;

/// Password checks that may wait for one another; each takes some 50 ms and 19 MiB.
const MAX_WAITING: usize = 128;

/// What somebody may do with a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See it.
    View,
    /// Nothing yet: it is kept for users that send pictures, of which the relay takes none.
    Publish,
    /// See it, and have it forgotten when it is gone.
    Admin,
}

/// A name and a password, as somebody gave them.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The user's name.
    pub name: &'a str,
    /// The password in plain text.
    pub password: &'a str,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No name and password, or not the right ones: ask for them.
    #[error("log in with a name and password of this relay")]
    Unknown,
    /// Without users, only addresses of the same network are let in.
    #[error(
        "only the relay's own network may watch; its owner can add a [[user]], or say access = \"anyone\" in [relay]"
    )]
    Address,
    /// The deployment says that only these are let in, with and without users.
    #[error(
        "access = \"lan\" in [relay] keeps out whoever is not in the relay's own network, users \
         as well; without that line users may log in from anywhere"
    )]
    Lan,
    /// Too many wrong passwords of late, or too many being checked right now.
    #[error("too many attempts to log in; try again in a minute")]
    Busy,
}

/// The users of a relay.
pub struct Users {
    /// From where one may come, as the deployment says.
    audience: Option<Audience>,
    users: Vec<Arc<Known>>,
    /// Makes what is remembered of a password useless outside this process.
    salt: hmac::Key,
    attempts: Mutex<Attempts>,
    /// Held while a password is checked, so that one is at a time. No other lock is
    /// taken while it is waited for; `attempts` may be taken under it.
    checking: Mutex<()>,
    waiting: AtomicUsize,
}

struct Known {
    user: User,
    /// The keyed hash of the right password, once somebody gave it.
    verified: OnceLock<hmac::Tag>,
}

/// Somebody who was let in.
#[derive(Clone)]
pub struct Visitor(Option<Arc<Known>>);

impl Users {
    /// The users of a deployment. Without any, whoever is of this `audience` may view
    /// every camera; it is the relay's own network (and machine, whatever its addresses)
    /// where nothing is said. With users,
    /// who logs in may come from anywhere, unless an audience is said as well.
    pub fn new(audience: Option<Audience>, users: &[User]) -> anyhow::Result<Self> {
        let salt = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
        let known = |user: &User| {
            Arc::new(Known {
                user: user.clone(),
                verified: OnceLock::new(),
            })
        };
        Ok(Self {
            audience,
            users: users.iter().map(known).collect(),
            salt,
            attempts: Mutex::default(),
            checking: Mutex::default(),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Who is there: from their address and, where they gave any, name and password.
    ///
    /// The first check of a password takes some 50 ms of CPU, and waits for those before
    /// it: not for an async thread. Later ones cost a hash.
    pub fn admit(&self, remote: IpAddr, login: Option<Login<'_>>) -> Result<Visitor, Denied> {
        let outside = match self.audience {
            Some(Audience::Lan) => Some(Denied::Lan),
            None if self.users.is_empty() => Some(Denied::Address),
            Some(Audience::Anyone) | None => None,
        };
        if let Some(denied) = outside.filter(|_| !Accept::Lan.allows(remote) && !is_own(remote)) {
            return Err(denied);
        }
        if self.users.is_empty() {
            return Ok(Visitor(None));
        }
        let login = login.ok_or(Denied::Unknown)?;
        let index = (self.users.iter()).position(|known| known.user.name == login.name);
        let who = Who::new(remote, index);
        if self.attempts().is_over(&who, Instant::now()) {
            return Err(Denied::Busy);
        }
        let known = index.map(|index| &self.users[index]);
        if self.is_right(&who, known, login.password)? {
            return Ok(Visitor(known.cloned()));
        }
        if self.attempts().failed(who, Instant::now()) {
            tracing::warn!(
                "{}: many wrong passwords for {}; those from there are refused for a minute",
                remote.to_canonical(),
                known.map_or("names that are no user's".into(), |known| format!(
                    "user '{}'",
                    known.user.name
                ))
            );
        }
        Err(Denied::Unknown)
    }

    /// Who may watch where nobody can log in.
    pub fn strangers(&self) -> Accept {
        match self.audience {
            _ if !self.users.is_empty() => Accept::Known,
            Some(Audience::Anyone) => Accept::Anyone,
            Some(Audience::Lan) | None => Accept::Lan,
        }
    }

    /// Whether one has to log in.
    pub fn ask_for_login(&self) -> bool {
        !self.users.is_empty()
    }

    fn is_right(
        &self,
        who: &Who,
        known: Option<&Arc<Known>>,
        password: &str,
    ) -> Result<bool, Denied> {
        let remembered = |known: &Arc<Known>| {
            let verified = known.verified.get()?;
            Some(hmac::verify(&self.salt, password.as_bytes(), verified.as_ref()).is_ok())
        };
        if let Some(right) = known.and_then(remembered) {
            return Ok(right);
        }
        let _place = Place::take(&self.waiting).ok_or(Denied::Busy)?;
        let _checking = self.checking.lock().unwrap_or_else(PoisonError::into_inner);
        // While this one waited, others may have used up the attempts, or found the answer.
        if self.attempts().is_over(who, Instant::now()) {
            return Err(Denied::Busy);
        }
        if let Some(right) = known.and_then(remembered) {
            return Ok(right);
        }
        // A name that is no user's takes as long as one that is.
        let hash = &known.unwrap_or(&self.users[0]).user.password;
        let right = password::is_right(password, hash) && known.is_some();
        if let (true, Some(known)) = (right, known) {
            let _ = known
                .verified
                .set(hmac::sign(&self.salt, password.as_bytes()));
        }
        Ok(right)
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the [`MAX_WAITING`] places.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize) -> Option<Self> {
        let place = Self(taken);
        (taken.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Visitor {
    /// Whether they may do that with the camera of this name.
    pub fn may(&self, right: Right, camera: &str) -> bool {
        let sees = |known: &Known| {
            let mut cameras = known.user.cameras.iter();
            cameras.any(|glob| glob::matches(glob, camera))
        };
        self.may_any(right) && self.0.as_deref().is_none_or(sees)
    }

    /// Whether they may do that with any camera, or with what belongs to no camera.
    pub fn may_any(&self, right: Right) -> bool {
        match self.0.as_deref() {
            None => right == Right::View,
            Some(known) => {
                (known.user.rights.iter()).any(|given| *given == right || *given == Right::Admin)
            }
        }
    }

    /// The user's name; `None` where nobody has to log in.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref().map(|known| known.user.name.as_str())
    }
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Visitor").field(&self.name()).finish()
    }
}
