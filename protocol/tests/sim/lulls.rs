//! A relay that does not wake for every packet of a frame that is far from whole.

use std::time::Duration;

use path_emulator::Conditions;

use crate::world::{CAMERA, RELAY, World};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Streams 300 frames of 50 kB; returns how long each took, longest first, and how often the relay's
/// thread read datagrams.
fn hop(path: Conditions, lulls: bool) -> (Vec<Duration>, u64) {
    let mut world = World::new(1, path);
    world.mtu = 1400;
    world.lulls = lulls;
    world.start_relay();
    world.start(CAMERA, Default::default());
    let peer = world.publish(CAMERA, "yard");
    world.run(ms(500));
    let before = world.reads;
    world.stream(CAMERA, peer, 300, Duration::from_nanos(33_333_333), 50_000);
    world.run(ms(500));
    assert_eq!(world.assert_intact(RELAY).len(), 300);
    let took = (world.arrivals.iter()).map(|(came, captured)| came.since(*captured));
    let mut took: Vec<_> = took.collect();
    took.sort_unstable_by(|a, b| b.cmp(a));
    (took, world.reads - before)
}

#[test]
fn behind_a_bottleneck_a_few_readings_bring_a_frame_and_none_comes_later() {
    let path = Conditions {
        delay: ms(10),
        rate: 16_000_000,
        queue: ms(60),
        ..Conditions::default()
    };
    let (each, often) = hop(path, false);
    let (lulls, rarely) = hop(path, true);
    println!("{often} and {rarely} readings");
    assert!(rarely * 2 < often, "{rarely} of {often}");
    for (each, lulls) in each.iter().zip(lulls) {
        assert!(
            lulls <= *each + Duration::from_micros(10),
            "{lulls:?}, {each:?}"
        );
    }
}

#[test]
fn what_is_lost_is_reported_as_soon() {
    let path = Conditions {
        delay: ms(10),
        loss: 0.05,
        rate: 24_000_000,
        queue: ms(60),
        ..Conditions::default()
    };
    let (each, _) = hop(path, false);
    let (lulls, _) = hop(path, true);
    let mean = |took: &[Duration]| took.iter().sum::<Duration>() / took.len() as u32;
    println!("{:?} and {:?} on average", mean(&each), mean(&lulls));
    assert!(mean(&lulls) < mean(&each) + ms(1));
    assert!(
        lulls[3] < each[3] + ms(5),
        "{:?}, {:?}",
        &each[..4],
        &lulls[..4]
    );
}
