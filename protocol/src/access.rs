//! Who may open a session with a listening endpoint.

use crate::KnownCamera;

/// Who is accepted without a known key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// Private, link-local and loopback addresses.
    #[default]
    Lan,
    /// Nobody.
    Known,
    /// Everybody.
    Anyone,
}

/// Who may open a session.
#[derive(Clone, Default)]
pub struct Access {
    /// Who is accepted without a known key.
    pub accept: Accept,
    /// The known keys. At most 65,536 are used.
    pub known: Vec<KnownCamera>,
}
