//! A hop over a path that fails for a while, or gives the camera another address.

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use gst::prelude::*;
use gst_check::Harness;
use path_emulator::{Conditions, Direction, Proxy, Route};

const FRAME: Duration = Duration::from_millis(20);
/// The size of the first frame; each is larger by a byte than the one before.
const FIRST: usize = 1_000;

/// A camera and its viewer, with a path between them.
struct Hop {
    proxy: Proxy,
    sink: Harness,
    source: Harness,
    sent: usize,
    last_sent: Instant,
    /// Frames up to this one came.
    came: usize,
    /// Frames before it that did not.
    missing: usize,
    removed: Arc<AtomicBool>,
}

impl Hop {
    /// One that pictures go over.
    fn new() -> Self {
        let source = source("camera=door");
        let removed = Arc::<AtomicBool>::default();
        let seen = removed.clone();
        let element = source.element().unwrap();
        element.connect("camera-removed", false, move |_| {
            seen.store(true, Ordering::Relaxed);
            None
        });
        let route = Route {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            to: (Ipv4Addr::LOCALHOST, port(&source) as u16).into(),
        };
        let path = Conditions::clean(Duration::from_millis(5));
        let proxy = Proxy::start(&[route], path, path, 1).unwrap();
        let sink = sink(
            proxy.addresses()[0].port().into(),
            "camera=door",
            "image/jpeg",
        );
        connected(&sink);
        let mut hop = Self {
            proxy,
            sink,
            source,
            sent: 0,
            last_sent: Instant::now(),
            came: 0,
            missing: 0,
            removed,
        };
        hop.show(10);
        hop
    }

    fn set_down(&self, down: bool) {
        for direction in [Direction::There, Direction::Back] {
            let conditions = self.proxy.conditions(direction);
            self.proxy.set(direction, Conditions { down, ..conditions });
        }
    }

    /// Sends a frame where it is time, and takes what came: in order, and nothing twice.
    fn go_on(&mut self) {
        if self.last_sent.elapsed() >= FRAME {
            self.last_sent = Instant::now();
            self.sink.push(buffer(FIRST + self.sent, 0)).unwrap();
            self.sent += 1;
        }
        while let Some(frame) = self.source.try_pull() {
            let number = frame.size() - FIRST + 1;
            assert!(number > self.came, "{number} after {}", self.came);
            let discont = frame.flags().contains(gst::BufferFlags::DISCONT);
            assert!(
                discont || number == self.came + 1,
                "{number} after {}",
                self.came
            );
            self.missing += number - self.came - 1;
            self.came = number;
        }
    }

    /// Goes on until some frames came that are sent from now on.
    fn show(&mut self, frames: usize) {
        let wanted = self.sent + frames;
        until("the pictures go on", || {
            self.go_on();
            self.came >= wanted
        });
    }
}

#[test]
fn pictures_and_the_session_outlast_an_outage() {
    let mut hop = Hop::new();
    hop.set_down(true);
    let begun = Instant::now();
    until("5 s have passed", || {
        hop.go_on();
        begun.elapsed() >= Duration::from_secs(5)
    });
    assert!(!stat::<bool>(&hop.sink, "connected"));
    hop.set_down(false);
    hop.show(10);
    assert!(stat::<bool>(&hop.sink, "connected"));
    assert!(!hop.removed.load(Ordering::Relaxed), "the camera was lost");
}

#[test]
fn frames_that_are_lost_are_told_and_counted_with_their_reason() {
    let mut hop = Hop::new();
    let before = hop.missing;
    hop.set_down(true);
    let begun = Instant::now();
    until("half a second has passed", || {
        hop.go_on();
        begun.elapsed() >= Duration::from_millis(500)
    });
    hop.set_down(false);
    hop.show(10);
    let missing = hop.missing - before;
    assert!(missing > 0);

    event(&mut hop.source, gst::EventType::Gap);
    let bus = hop.source.element().unwrap().bus().unwrap();
    let mut told = 0;
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Element]) {
        let gap = message.structure().unwrap();
        assert_eq!(gap.name(), "camrelay-gap");
        assert!(["network", "late", "sender"].contains(&gap.get::<&str>("reason").unwrap()));
        told += gap.get::<u32>("frames").unwrap() as usize;
    }
    assert_eq!(told, hop.missing);
    let counted = ["frames-lost", "frames-late", "frames-not-sent"]
        .map(|name| stat::<u64>(&hop.source, name) as usize);
    assert_eq!(counted.iter().sum::<usize>(), hop.missing, "{counted:?}");
}

#[test]
fn a_camera_with_another_address_goes_on_in_its_session() {
    let mut hop = Hop::new();
    for moves in 1..=2u64 {
        hop.proxy.rebind();
        hop.show(10);
        assert_eq!(stat::<u64>(&hop.source, "moves"), moves);
    }
    assert_eq!(stat::<u64>(&hop.sink, "reconnects"), 0);
    assert!(!hop.removed.load(Ordering::Relaxed), "the camera was lost");
}
