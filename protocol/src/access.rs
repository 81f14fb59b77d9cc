//! Who may open a session with a listening endpoint.

use std::net::{IpAddr, Ipv4Addr};

use crate::{Error, KnownCamera, MAX_CAMERA_NAME, PublicKey};

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

impl Accept {
    /// Whether a session without a key is accepted from this address.
    pub fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Lan => is_local(address),
            Self::Known => false,
            Self::Anyone => true,
        }
    }
}

impl Access {
    pub(crate) fn find(&self, public: PublicKey) -> Option<&KnownCamera> {
        self.known.iter().find(|known| known.public() == public)
    }

    /// Whether a name stands in the list, so that it is its keys' alone.
    pub(crate) fn reserves(&self, name: &str) -> bool {
        let mut names = self.known.iter().flat_map(|known| known.names());
        names.any(|one| one == name)
    }
}

/// Private (RFC 1918, RFC 4193), shared (RFC 6598), link-local (RFC 3927, RFC 4291) and loopback.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = u32::from(Ipv4Addr::new(100, 64, 0, 0));
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || u32::from(v4) & 0xffc0_0000 == shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// A camera name: 1 to [`MAX_CAMERA_NAME`] of `A-Z a-z 0-9 - _ .`, the first a letter or digit,
/// so that it fits a URL's path, a file's name and a log line as it is.
///
/// # Errors
/// [`Error::BadName`].
pub fn check_name(name: &str) -> Result<(), Error> {
    let fits = name.len() <= MAX_CAMERA_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    fits.then_some(())
        .ok_or_else(|| Error::BadName(name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lan_is_private_addresses_only() {
        let lan = |text: &str| Accept::Lan.allows(text.parse().unwrap());
        for near in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:192.168.1.1",
        ] {
            assert!(lan(near), "{near}");
        }
        for far in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!lan(far), "{far}");
        }
        assert!(!Accept::Known.allows("127.0.0.1".parse().unwrap()));
        assert!(Accept::Anyone.allows("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn names_fit_a_url() {
        for good in ["a", "door", "cam-2_x.y", "7", &"x".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".",
            "..",
            "a/b",
            "a b",
            "ä",
            "<script>",
            &"x".repeat(65),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
