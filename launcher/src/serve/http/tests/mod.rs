//! The server over real connections on loopback.

mod access;
mod api;
mod client;
mod forget;
mod matrix;
mod pictures;
mod restricted;
mod wall;

use std::net::SocketAddr;
use std::sync::Arc;

use gst::prelude::*;

use self::client::{Answer, Client};
use super::Server;
use crate::config::{Http, Tls, User};
use crate::relay::feeds::{Feeds, Listeners};
use crate::users::Users;

/// A server and the cameras that it shows.
struct Relay {
    server: Server,
    feeds: Arc<Feeds>,
}

impl Relay {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(users: &[User]) -> Self {
        Self::of(users, None)
    }

    fn of(users: &[User], tls: Option<Tls>) -> Self {
        gst::init().expect("GStreamer starts");
        let feeds = Arc::new(Feeds::new(Listeners::default()));
        let http = Http {
            listen: ([127, 0, 0, 1], 0).into(),
            hosts: vec!["cams.example.org".into()],
            tls,
        };
        let users = Arc::new(Users::new(None, users).expect("good users"));
        let server = Server::start(&http, feeds.clone(), users, None).expect("it starts");
        Self { server, feeds }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What the server answers to a GET, with these header lines.
    fn get(&self, path: &str, headers: &[&str]) -> Answer {
        self.ask("GET", path, headers)
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        let mut client = Client::connect(self.address());
        client.ask(method, path, headers);
        client.answer()
    }

    /// A camera that is here and sends what it is told to.
    fn camera(&self, name: &str, caps: &str) -> Camera {
        let feed = self.feeds.open(name).expect("there is room");
        let stream = feed.stream(0).expect("a good number");
        let mut harness = gst_check::Harness::with_element(&stream.sink(), Some("sink"), None);
        harness.set_src_caps_str(caps);
        Camera { harness }
    }
}

struct Camera {
    harness: gst_check::Harness,
}

impl Camera {
    fn send(&mut self, bytes: &[u8]) {
        let mut buffer = gst::Buffer::from_slice(bytes.to_vec());
        buffer.make_mut().set_pts(gst::ClockTime::ZERO);
        self.harness.push(buffer).expect("the sink takes it");
    }
}

/// A picture, of noise, which makes it large.
fn jpeg(width: u32, height: u32) -> Vec<u8> {
    gst::init().expect("GStreamer starts");
    let text = format!(
        "videotestsrc num-buffers=1 pattern=snow ! video/x-raw,format=I420,width={width},height={height} \
         ! jpegenc ! appsink name=end"
    );
    let pipeline = gst::parse::launch(&text).expect("good text");
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
    let end = pipeline.by_name("end").expect("it is there");
    let end = end.downcast::<gst_app::AppSink>().expect("an appsink");
    pipeline.set_state(gst::State::Playing).expect("it starts");
    let sample = end.pull_sample().expect("a picture");
    pipeline.set_state(gst::State::Null).expect("it stops");
    let buffer = sample.buffer().expect("a picture");
    buffer.map_readable().expect("memory").to_vec()
}
