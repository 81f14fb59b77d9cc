//! The pairs of elements that are compared, each as the two ends of a hop.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use gst::prelude::*;
use gst_app::{AppSink, AppSrc};
use serde::{Deserialize, Serialize};

use crate::chunk::{self, CHUNK};
use crate::pipeline::{child, failure, out, parse};

/// A pair of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transport {
    /// `camrelaysink` to `camrelaysrc`, encrypted and authenticated.
    Camrelay,
    /// `srtsink` to `srtsrc`, in the clear.
    Srt,
    /// `srtsink` to `srtsrc`, encrypted with AES-256.
    SrtAes,
    /// `ristsink` to `ristsrc`, in the clear.
    Rist,
    /// `udpsink` to `udpsrc`, nothing else.
    Udp,
}

impl Transport {
    /// What it is called in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Camrelay => "camrelay",
            Self::Srt => "SRT",
            Self::SrtAes => "SRT, AES",
            Self::Rist => "RIST",
            Self::Udp => "bare UDP",
        }
    }

    /// The part of a buffer that [`chunk::Joiner`] takes; `None`: it is a whole frame.
    pub(crate) fn piece(self, data: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Camrelay => None,
            Self::Srt | Self::SrtAes | Self::Udp => Some(data),
            Self::Rist => Some(data.get(RTP_HEADER..).unwrap_or_default()),
        }
    }

    /// How many ports, one after the other and the first one even, a hop takes.
    pub(crate) fn ports(self) -> u16 {
        if self == Self::Rist { 2 } else { 1 }
    }
}

/// How frames are carried by each pair, for those who read the tables.
pub(crate) const HOW: &str = "\
Each pair runs in two processes of its own. camrelay carries whole frames; the others carry \
packets, so frames go through them in pieces of 1316 bytes with a header of 12 bytes \
each (for RIST after an RTP header of 12 bytes), which this program joins again: less work than \
any container or payloader that is in use. SRT: one buffer a frame, latency = budget. RIST: one \
buffer list a frame, receiver-buffer = budget, sender-buffer = 2 x budget + 1 s, \
reorder-section = 5 ms, min-rtcp-interval = 10 ms (defaults: 70 and 100). UDP: one buffer list a \
frame, buffer-size = 4 MiB. Sinks other than camrelaysink have sync=false.";

const SRT_SECRET: &str = "passphrase=benchbenchbench&pbkeylen=32";
/// RTP version 2, payload type 33.
const RTP_HEAD: [u8; 2] = [0x80, 33];
const SSRC: u32 = 0x0bec_0de0;
const RTP_HEADER: usize = 12;

/// The receiving end.
pub(crate) struct Receiving {
    pub(crate) pipeline: gst::Pipeline,
    pub(crate) sink: AppSink,
}

impl Receiving {
    /// Starts to receive on a port that the system picks; returns it too.
    pub(crate) fn start(transport: Transport, budget: Duration) -> anyhow::Result<(Self, u16)> {
        let ms = budget.as_millis();
        let mut port = match transport {
            Transport::Srt | Transport::SrtAes | Transport::Rist => free_port(transport.ports())?,
            Transport::Camrelay | Transport::Udp => 0,
        };
        let source = match transport {
            Transport::Camrelay => {
                format!("camrelaysrc address=127.0.0.1 port=0 camera=bench latency={ms}")
            }
            Transport::Srt => {
                format!("srtsrc uri=srt://127.0.0.1:{port}?mode=listener latency={ms}")
            }
            Transport::SrtAes => {
                let uri = format!("srt://127.0.0.1:{port}?mode=listener&{SRT_SECRET}");
                format!("srtsrc uri={uri} latency={ms}")
            }
            Transport::Rist => format!(
                "ristsrc address=127.0.0.1 port={port} receiver-buffer={ms} \
                 reorder-section=5 min-rtcp-interval=10"
            ),
            Transport::Udp => {
                format!("udpsrc address=127.0.0.1 port=0 buffer-size={}", 4 << 20)
            }
        };
        let pipeline = parse(&format!("{source} name=net ! appsink name=out sync=false"))?;
        let sink = out(&pipeline)?;
        pipeline.set_state(gst::State::Playing)?;
        let net = child(&pipeline, "net")?;
        match transport {
            Transport::Camrelay => port = net.property::<u32>("port") as u16,
            Transport::Udp => port = net.property::<i32>("port") as u16,
            _ => {}
        }
        Ok((Self { pipeline, sink }, port))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // The process ends with it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The sending end.
pub(crate) struct Sending {
    pub(crate) pipeline: gst::Pipeline,
    source: AppSrc,
    transport: Transport,
    /// Next RTP sequence number.
    sequence: u16,
}

impl Sending {
    /// Connects to 127.0.0.1:`port`.
    pub(crate) fn start(transport: Transport, port: u16, budget: Duration) -> anyhow::Result<Self> {
        let ms = budget.as_millis();
        let sink = match transport {
            Transport::Camrelay => format!("camrelaysink port={port} camera=bench latency={ms}"),
            Transport::Srt => format!("srtsink uri=srt://127.0.0.1:{port} latency={ms} sync=false"),
            Transport::SrtAes => {
                let uri = format!("srt://127.0.0.1:{port}?{SRT_SECRET}");
                format!("srtsink uri={uri} latency={ms} sync=false")
            }
            Transport::Rist => format!(
                "ristsink address=127.0.0.1 port={port} sender-buffer={} min-rtcp-interval=10",
                2 * ms + 1000
            ),
            Transport::Udp => {
                let size = 4 << 20;
                format!("udpsink host=127.0.0.1 port={port} sync=false buffer-size={size}")
            }
        };
        let caps = match transport {
            Transport::Camrelay => "image/jpeg,width=1280,height=720,framerate=30/1",
            Transport::Rist => &format!(
                "application/x-rtp,media=video,clock-rate=90000,encoding-name=MP2T,payload=33,\
                 ssrc=(uint){SSRC}"
            ),
            _ => "application/octet-stream",
        };
        let pipeline = parse(&format!("appsrc name=in ! {sink} name=net"))?;
        let source = child(&pipeline, "in")?;
        let source: AppSrc = source.downcast().map_err(|_| anyhow!("not an appsrc"))?;
        source.set_caps(Some(&caps.parse()?));
        source.set_format(gst::Format::Time);
        source.set_is_live(true);
        source.set_max_bytes(0);
        if transport == Transport::Rist {
            quicken(&child(&pipeline, "net")?);
        }
        pipeline.set_state(gst::State::Playing)?;
        Ok(Self {
            pipeline,
            source,
            transport,
            sequence: 0,
        })
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, number: u32, frame: Vec<u8>) -> anyhow::Result<()> {
        let pts = self.source.current_running_time();
        let sent = match self.transport {
            Transport::Camrelay => self.source.push_buffer(buffer(frame, pts)),
            Transport::Srt | Transport::SrtAes => {
                // srtsink cuts a buffer every 1316 bytes.
                let mut pieces = Vec::with_capacity(frame.len() + frame.len() / 64 + CHUNK);
                chunk::cut(number, &frame, |header, data| {
                    pieces.extend_from_slice(header);
                    pieces.extend_from_slice(data);
                });
                self.source.push_buffer(buffer(pieces, pts))
            }
            Transport::Rist | Transport::Udp => {
                let rtp_time = pts.map_or(0, |pts| pts.nseconds() * 9 / 100_000) as u32;
                let mut list = gst::BufferList::new();
                let packets = list.make_mut();
                chunk::cut(number, &frame, |header, data| {
                    let mut packet = Vec::with_capacity(CHUNK + RTP_HEADER);
                    if self.transport == Transport::Rist {
                        packet.extend_from_slice(&RTP_HEAD);
                        packet.extend_from_slice(&self.sequence.to_be_bytes());
                        packet.extend_from_slice(&rtp_time.to_be_bytes());
                        packet.extend_from_slice(&SSRC.to_be_bytes());
                        self.sequence = self.sequence.wrapping_add(1);
                    }
                    packet.extend_from_slice(header);
                    packet.extend_from_slice(data);
                    packets.add(buffer(packet, pts));
                });
                self.source.push_buffer_list(list)
            }
        };
        sent.map(drop).map_err(|error| self.why(error))
    }

    /// What the pipeline has to say about an error.
    fn why(&self, error: gst::FlowError) -> anyhow::Error {
        failure(&self.pipeline).unwrap_or_else(|| anyhow!("cannot send: {error}"))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // The process ends with it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A sink inside a bin sends at once instead of by the clock.
fn quicken(bin: &gst::Element) {
    let Some(bin) = bin.downcast_ref::<gst::Bin>() else {
        return;
    };
    for sink in bin
        .iterate_all_by_element_factory_name("udpsink")
        .into_iter()
        .flatten()
    {
        sink.set_property("sync", false);
    }
}

fn buffer(data: Vec<u8>, pts: Option<gst::ClockTime>) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(data);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(pts);
    }
    buffer
}

/// The first of `count` free UDP ports in a row; an even one where there are several.
pub(crate) fn free_port(count: u16) -> anyhow::Result<u16> {
    for _ in 0..1000 {
        let first = UdpSocket::bind("127.0.0.1:0")?;
        let port = first.local_addr()?.port();
        let is_free = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if count == 1 || port % 2 == 0 && (1..count).all(|more| is_free(port + more)) {
            return Ok(port);
        }
    }
    bail!("no {count} free UDP ports in a row")
}
