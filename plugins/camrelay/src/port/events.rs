//! What happens on a listening port, as the program around it sees it.

use std::net::SocketAddr;

use camrelay_protocol::Rejection;

/// Something that happened on a listening port.
#[derive(Clone, Debug)]
pub enum PortEvent {
    /// A camera registered.
    CameraAdded {
        /// Its name.
        camera: String,
        /// Its address.
        remote: SocketAddr,
    },
    /// The caps of a stream, first and each time they change.
    Caps {
        /// The camera's name.
        camera: String,
        /// Which stream, from 0.
        stream: u16,
        /// What its frames are; fixed.
        caps: gst::Caps,
    },
    /// A camera left, was replaced or was lost.
    CameraRemoved {
        /// Its name.
        camera: String,
        /// Why.
        reason: Rejection,
    },
    /// A camera was refused.
    CameraRejected {
        /// The name it asked for.
        camera: String,
        /// Its address.
        remote: SocketAddr,
        /// Why.
        reason: Rejection,
    },
}
