//! Viewers of a camera that answers no request for a key frame.

use super::*;

/// A camera whose encoder nobody reaches with a request.
struct Deaf {
    encoder: gst::Pipeline,
    _camera: Camera,
}

impl Deaf {
    fn new(feed: &Arc<Feed>, encode: &str) -> Self {
        let caps = "video/x-h264,stream-format=byte-stream,alignment=au";
        let camera = Camera::new(
            feed,
            0,
            &format!("appsrc name=hand format=time is-live=true do-timestamp=true caps={caps}"),
        );
        let hand = camera.0.by_name("hand").and_downcast::<gst_app::AppSrc>();
        let hand = hand.expect("it is there");
        let text = format!("{encode} ! h264parse config-interval=-1 ! {caps} ! appsink name=end");
        let encoder = gst::parse::launch(&text).expect("good text");
        let encoder = encoder.downcast::<gst::Pipeline>().expect("it is one");
        let end = encoder.by_name("end").and_downcast::<gst_app::AppSink>();
        end.expect("it is there").set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let mut unit = sample.buffer_owned().ok_or(gst::FlowError::Error)?;
                    // It is stamped anew.
                    unit.make_mut().set_pts(None);
                    unit.make_mut().set_dts(None);
                    hand.push_buffer(unit)
                })
                .build(),
        );
        encoder.set_state(gst::State::Playing).expect("it starts");
        Self {
            encoder,
            _camera: camera,
        }
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        let _ = self.encoder.set_state(gst::State::Null);
    }
}

/// Reads on until so many frames have come as far apart as they are captured; how many came closer
/// together, of those that came.
fn caught_up_with(viewer: &mut Client, live: usize) -> usize {
    let mut times = std::iter::from_fn(|| viewer.packet())
        .filter(client::Packet::marker)
        .map(|end| end.time());
    let mut last = times.next().expect("a frame");
    let (mut close, mut far) = (0, 0);
    while far < live {
        let time = times.next().expect("another frame");
        let step = time.wrapping_sub(last) as i32;
        assert!(step > 0, "{step} ticks");
        // A hundredth of a second.
        match step < 900 {
            true => close += 1,
            false => far += 1,
        }
        last = time;
    }
    close
}

#[test]
fn they_see_the_live_picture_at_once() {
    const FRAMES: usize = 60;
    let relay = Relay::start();
    let feed = relay.feed("door");
    let _camera = Deaf::new(
        &feed,
        "videotestsrc is-live=true pattern=ball \
         ! video/x-raw,width=320,height=240,framerate=30/1 ! openh264enc gop-size=100000",
    );
    let stream = feed.stream(0).expect("a good number");
    until("some frames", || stream.counts().frames > FRAMES as u64);
    for _ in 0..2 {
        let mut viewer = relay.play("door");
        let close = caught_up_with(&mut viewer, 30);
        assert!(close >= FRAMES - 2, "{close} frames");
    }
    for transport in ["tcp", "udp"] {
        let frames = FRAMES as u32 * 2;
        let said = ffmpeg(&relay, "door", transport, frames);
        assert!(!said.contains("error"), "nothing is missing: {said}");
    }
}
