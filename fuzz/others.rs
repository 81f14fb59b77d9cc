//! What the launcher and the elements read of others, file by file: one is a program and no library, and
//! neither shows these.
#![allow(
    dead_code,
    missing_docs,
    unused_imports,
    reason = "they are used where they belong"
)]

#[path = "../launcher/src/fuzzing.rs"]
pub mod fuzzing;
#[path = "../launcher/src/relay"]
mod relay {
    pub mod annexb;
    pub mod jpeg;
}
#[path = "../launcher/src/serve"]
mod serve {
    pub mod rtsp {
        pub mod request;
        pub mod transport;
        pub mod payload {
            pub mod cut;
            pub mod jpeg;
            pub mod units;
        }
    }
}
#[path = "../launcher/src/worker"]
mod worker {
    pub mod wire;
}

#[path = "../plugins/camrelay/src/fuzzing.rs"]
pub mod elements;
#[path = "../plugins/camrelay/src/port"]
mod port {
    pub(crate) mod caps;
}
#[path = "../plugins/camrelay/src/uri.rs"]
mod uri;
