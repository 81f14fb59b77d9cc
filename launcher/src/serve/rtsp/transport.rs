//! The `Transport` header (RFC 2326, section 12.39): how a viewer wants its packets.

use std::net::{IpAddr, SocketAddr};

/// Where the packets of one stream go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Into the connection, on these channels.
    Tcp {
        /// For RTP.
        rtp: u8,
        /// For RTCP.
        rtcp: u8,
    },
    /// To these ports of the viewer.
    Udp {
        /// For RTP.
        rtp: SocketAddr,
        /// For RTCP.
        rtcp: SocketAddr,
    },
}

impl Transport {
    /// Whether both would use the same channel or port.
    pub fn collides(&self, other: &Self) -> bool {
        let ends = |transport: &Self| match *transport {
            Self::Tcp { rtp, rtcp } => (true, [u16::from(rtp), rtcp.into()]),
            Self::Udp { rtp, rtcp } => (false, [rtp.port(), rtcp.port()]),
        };
        let ((tcp, ours), (other_tcp, theirs)) = (ends(self), ends(other));
        tcp == other_tcp && ours.iter().any(|end| theirs.contains(end))
    }

    /// As an answer has it; `ports` are those that the server sends from over UDP.
    pub fn to_text(self, ports: Option<(u16, u16)>) -> String {
        match (self, ports.unwrap_or_default()) {
            (Self::Tcp { rtp, rtcp }, _) => {
                format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}")
            }
            (Self::Udp { rtp, rtcp }, (first, last)) => format!(
                "RTP/AVP;unicast;client_port={}-{};server_port={first}-{last}",
                rtp.port(),
                rtcp.port()
            ),
        }
    }
}

/// The first of the offers in `header` that can be met. Packets only ever go to `viewer`,
/// whoever the header names as their destination; without `udp`, into the connection only.
/// `channel`: the first channel that is free, where the viewer names none.
pub fn choose(header: &str, viewer: IpAddr, udp: bool, channel: u8) -> Option<Transport> {
    header.split(',').find_map(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        let profile = parts.next()?;
        let parameters: Vec<_> = parts.collect();
        let value = |name: &str| {
            let mut found = parameters.iter().filter_map(|part| part.split_once('='));
            found.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
        };
        let has = |name: &str| (parameters.iter()).any(|part| part.eq_ignore_ascii_case(name));
        let records = value("mode").is_some_and(|mode| {
            let mode = mode.trim_matches('"');
            !mode.eq_ignore_ascii_case("PLAY")
        });
        if has("multicast") || records {
            return None;
        }
        match profile.to_ascii_uppercase().as_str() {
            "RTP/AVP/TCP" => {
                let (rtp, rtcp) = match value("interleaved") {
                    Some(pair) => numbers(pair)?,
                    None => (channel, channel.checked_add(1)?),
                };
                (rtp != rtcp).then_some(Transport::Tcp { rtp, rtcp })
            }
            "RTP/AVP" | "RTP/AVP/UDP" if udp => {
                let (rtp, rtcp): (u16, u16) = numbers(value("client_port")?)?;
                let at = |port| SocketAddr::new(viewer, port);
                // Below 1024 are services that nobody watches from.
                (rtp >= 1024 && rtcp >= 1024 && rtp != rtcp).then_some(Transport::Udp {
                    rtp: at(rtp),
                    rtcp: at(rtcp),
                })
            }
            _ => None,
        }
    })
}

/// `6-7`, or `6` for the same.
fn numbers<T: std::str::FromStr + Copy + Into<u32> + TryFrom<u32>>(text: &str) -> Option<(T, T)> {
    let (first, second) = match text.split_once('-') {
        Some((first, second)) => (first.parse::<T>().ok()?, second.parse().ok()?),
        None => {
            let first: T = text.parse().ok()?;
            (first, T::try_from(first.into() + 1).ok()?)
        }
    };
    Some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offer_that_can_be_met_is_taken() {
        let viewer: IpAddr = [192, 0, 2, 1].into();
        let udp = |rtp, rtcp| {
            Some(Transport::Udp {
                rtp: SocketAddr::new(viewer, rtp),
                rtcp: SocketAddr::new(viewer, rtcp),
            })
        };
        let tcp = |rtp, rtcp| Some(Transport::Tcp { rtp, rtcp });
        for (header, with_udp, without) in [
            (
                "RTP/AVP;unicast;client_port=5000-5001",
                udp(5000, 5001),
                None,
            ),
            (
                "RTP/AVP/UDP;unicast;client_port=5000",
                udp(5000, 5001),
                None,
            ),
            ("RTP/AVP/TCP;unicast;interleaved=2-3", tcp(2, 3), tcp(2, 3)),
            ("rtp/avp/tcp; unicast ;mode=\"PLAY\"", tcp(4, 5), tcp(4, 5)),
            (
                "RTP/AVP;multicast,RTP/AVP;client_port=5000-5001,RTP/AVP/TCP",
                udp(5000, 5001),
                tcp(4, 5),
            ),
            (
                "RTP/AVP;unicast;destination=198.51.100.1;client_port=5000-5001",
                udp(5000, 5001),
                None,
            ),
        ] {
            assert_eq!(choose(header, viewer, true, 4), with_udp, "{header}");
            assert_eq!(choose(header, viewer, false, 4), without, "{header}");
        }
        for header in [
            "",
            ";;,",
            "RTP/SAVP;unicast;client_port=5000-5001",
            "RTP/AVP;unicast",
            "RTP/AVP;multicast;client_port=5000-5001",
            "RTP/AVP;client_port=53-54",
            "RTP/AVP;client_port=65535",
            "RTP/AVP;client_port=65536-1",
            "RTP/AVP;client_port=5000-5000",
            "RTP/AVP/TCP;interleaved=255",
            "RTP/AVP/TCP;interleaved=1-1",
            "RTP/AVP/TCP;interleaved=-1-0",
            "RTP/AVP/TCP;interleaved=0-1;mode=record",
        ] {
            assert_eq!(choose(header, viewer, true, 0), None, "{header}");
        }
    }
}
