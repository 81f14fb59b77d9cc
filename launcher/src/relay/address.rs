//! The addresses of this machine, for people to type.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// `address`, or where it stands for every address of this machine, the one that
/// others in the network reach it at; 127.0.0.1 without a network.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let ip = in_network().unwrap_or(Ipv4Addr::LOCALHOST.into());
        SocketAddr::new(ip, address.port())
    } else {
        address
    }
}

/// This machine's address in its network; `None` without one.
pub fn in_network() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Sends nothing: it only picks the address that packets would leave from.
    // 192.0.2.1 is nobody's (RFC 5737).
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// Whether `address` is one of this machine's own.
pub fn is_own(address: IpAddr) -> bool {
    // Only an own address can be bound.
    UdpSocket::bind((address.to_canonical(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_knows_its_own_addresses() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(is_own(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()));
        assert!(in_network().is_none_or(is_own));
        // Nobody's (RFC 5737).
        assert!(!is_own(Ipv4Addr::new(203, 0, 113, 7).into()));
    }
}
