//! Why a port or a session could not be opened.

use std::io;
use std::net::SocketAddr;

/// Why a port or a session could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The address is taken, not this machine's, or not allowed.
    #[error("cannot listen for cameras on {address}: {source}{}", hint(.source))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no more sockets or threads to give.
    #[error("cannot open a socket: {0}")]
    Socket(#[from] io::Error),
    /// The system has no random numbers to make keys of.
    #[error("cannot read the system's random source: {0}")]
    Random(#[from] getrandom::Error),
    /// The protocol refuses what was asked for.
    #[error(transparent)]
    Protocol(#[from] camrelay_protocol::Error),
    /// Another element of this process already sends the stream.
    #[error(
        "stream {stream} of camera '{camera}' is already sent by another camrelaysink; give this one another stream number"
    )]
    StreamTaken {
        /// The camera.
        camera: String,
        /// The stream that both ask for.
        stream: u16,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop what uses the port, or choose another port",
        io::ErrorKind::AddrNotAvailable => "; the address is none of this machine's",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need more rights",
        _ => "",
    }
}
