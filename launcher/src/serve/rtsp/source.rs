//! From a stream's frames to the `appsrc` at the head of a media.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gst::prelude::*;

use crate::relay::consumer::{Consumer, Limits};
use crate::relay::frame::{Codec, Frame};
use crate::relay::stream::{Attachment, Stream};

/// What may wait for the payloader while it is busy, or is held between a
/// viewer's DESCRIBE and PLAY. Pictures that stand alone are worth nothing when
/// they are old; those that build on each other are kept longer, as a gap costs more.
fn limits(codec: &Codec) -> Limits {
    let (frames, time) = match codec {
        Codec::Opus => (50, gst::ClockTime::from_mseconds(500)),
        codec if codec.is_inter() => (64, gst::ClockTime::SECOND),
        _ => (4, gst::ClockTime::from_mseconds(500)),
    };
    Limits {
        frames,
        bytes: 8 << 20,
        time,
    }
}

/// Moves the frames of a stream to an `appsrc`. That holds one at most, so it is
/// the consumer's queue that decides what a media that does not keep up misses.
pub struct Source {
    camera: Arc<str>,
    codec: Codec,
    appsrc: glib::WeakRef<gst_app::AppSrc>,
    consumer: Arc<Consumer>,
    attachment: Attachment,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether the pipeline plays, so that its base time is known.
    playing: bool,
    /// The caps of the stream and its picture size, as last given to the `appsrc`.
    caps: Option<(gst::Caps, Option<(u32, u32)>)>,
    /// The time that the buffer before goes out by.
    last: Option<gst::ClockTime>,
    /// Whether the frame before was one that RTP cannot carry.
    misfit: bool,
    /// Shown when there is nothing else to begin with, as a media that never
    /// shows anything holds its first viewer's request for 20 s.
    start: Option<Arc<Frame>>,
}

impl Source {
    /// An `appsrc` that shows `stream` for as long as it lives, and its source.
    /// `start` is a frame to begin with; only what is coded like it is shown.
    pub fn new(
        camera: &str,
        stream: &Arc<Stream>,
        start: Arc<Frame>,
    ) -> (gst_app::AppSrc, Weak<Self>) {
        let appsrc = gst_app::AppSrc::builder()
            .is_live(true)
            .format(gst::Format::Time)
            .stream_type(gst_app::AppStreamType::Stream)
            .min_latency(0)
            .max_buffers(2)
            .max_bytes(0)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        let source = Arc::new_cyclic(|source: &Weak<Self>| {
            let wake = source.clone();
            let consumer = Arc::new(Consumer::new(limits(&start.codec), move || {
                if let Some(source) = wake.upgrade() {
                    source.pump(false);
                }
            }));
            Self {
                camera: camera.into(),
                codec: start.codec.clone(),
                appsrc: appsrc.downgrade(),
                attachment: stream.attach(consumer.clone()),
                consumer,
                state: Mutex::new(State {
                    start: Some(start),
                    ..State::default()
                }),
            }
        });
        let weak = Arc::downgrade(&source);
        appsrc.set_callbacks(
            gst_app::AppSrcCallbacks::builder()
                .need_data(move |_, _| source.pump(true))
                .build(),
        );
        (appsrc, weak)
    }

    /// Shows the newest picture again, or asks for a key frame: for a viewer that
    /// joins those who watch already.
    pub fn refresh(&self) {
        self.attachment.refresh();
    }

    /// Hands frames on until the `appsrc` has one or none is left. `asked`: the
    /// `appsrc` asks for data, which it does only while it plays.
    fn pump(&self, asked: bool) {
        let Some(appsrc) = self.appsrc.upgrade() else {
            return;
        };
        // Held over the push, which only queues, so that buffers stay in order.
        let mut state = self.lock();
        state.playing |= asked;
        if !state.playing {
            return;
        }
        while appsrc.current_level_buffers() == 0 {
            let frame = match self.consumer.take() {
                Some(frame) if self.can_carry(&mut state, &frame) => frame,
                Some(_) => continue,
                None => match state.start.take() {
                    Some(start) => start,
                    None => return,
                },
            };
            state.start = None;
            let buffer = state.stamp(&frame, appsrc.base_time().unwrap_or_default());
            let size = frame.jpeg.and_then(|_| frame.size());
            if state
                .caps
                .as_ref()
                .is_none_or(|(caps, before)| *caps != frame.caps || *before != size)
            {
                appsrc.set_caps(Some(&with_size(&frame.caps, size)));
                state.caps = Some((frame.caps.clone(), size));
            }
            if appsrc.push_buffer(buffer).is_err() {
                // The media stops, or was paused: it asks again if it goes on.
                state.playing = false;
                return;
            }
        }
    }

    /// Whether the payloader of this media can take `frame`; says so in the log
    /// when that begins and when it ends.
    fn can_carry(&self, state: &mut State, frame: &Frame) -> bool {
        if frame.codec != self.codec {
            return false;
        }
        let misfit = frame.jpeg.and_then(|picture| picture.misfit);
        let was = std::mem::replace(&mut state.misfit, misfit.is_some());
        match misfit {
            Some(misfit) if !was => tracing::warn!(
                "camera {}: RTSP viewers see no more pictures: RTP cannot carry its JPEG ({misfit}); {}",
                self.camera,
                misfit.advice()
            ),
            None if was => {
                tracing::info!("camera {}: RTSP viewers see pictures again", self.camera)
            }
            _ => {}
        }
        misfit.is_none()
    }

    #[cfg(test)]
    pub fn fail_for_test(&self) {
        let appsrc = self.appsrc.upgrade().expect("the media is there");
        gst::element_error!(appsrc, gst::StreamError::Failed, ("asked to fail"));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// `frame` with the times of a pipeline with this base time. The time that
    /// buffers go out by (DTS, or PTS without) is always there and never goes
    /// back: gst-rtsp-server 1.22 asserts that, and takes the process down.
    fn stamp(&mut self, frame: &Frame, base_time: gst::ClockTime) -> gst::Buffer {
        let captured = frame.captured.saturating_sub(base_time);
        let mut due = frame.decoded.saturating_sub(base_time);
        if let Some(last) = self.last.filter(|last| due <= *last) {
            // A frame that is shown again is shown now.
            let now = gst::SystemClock::obtain().time().saturating_sub(base_time);
            let next = last + gst::ClockTime::NSECOND;
            due = if frame.codec.is_inter() {
                next
            } else {
                next.max(now)
            };
        }
        self.last = Some(due);
        let mut buffer = frame.buffer.copy();
        let stamped = buffer.make_mut();
        stamped.set_pts(captured.max(due));
        stamped.set_dts(frame.codec.is_inter().then_some(due));
        buffer
    }
}

/// `caps` with the size that the picture itself has, which payloaders rely on.
fn with_size(caps: &gst::Caps, size: Option<(u32, u32)>) -> gst::Caps {
    let mut caps = caps.clone();
    if let Some((width, height)) = size {
        let caps = caps.make_mut();
        caps.set("width", width as i32);
        caps.set("height", height as i32);
    }
    caps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(codec: Codec, captured: u64, decoded: u64) -> Frame {
        Frame {
            decoded: gst::ClockTime::from_mseconds(decoded),
            ..Frame::for_test(codec, gst::ClockTime::from_mseconds(captured))
        }
    }

    #[test]
    fn buffers_never_go_back_in_time() {
        gst::init().expect("GStreamer starts");
        let base_time = gst::ClockTime::from_mseconds(100);
        // Captured and decoded, as with pictures that are shown in another order; two that
        // come from before the media played; and one that is shown again.
        let frames = [
            (50, 50),
            (60, 60),
            (240, 140),
            (180, 170),
            (210, 200),
            (210, 200),
        ];
        for codec in [Codec::H264, Codec::Jpeg] {
            let mut state = State::default();
            let mut last = None;
            for (captured, decoded) in frames {
                let buffer = state.stamp(&frame(codec.clone(), captured, decoded), base_time);
                let pts = buffer.pts().expect("players need it");
                assert_eq!(buffer.dts().is_some(), codec == Codec::H264);
                let due = buffer.dts_or_pts();
                assert!(
                    due > last && buffer.dts() <= Some(pts),
                    "{codec}: {buffer:?}"
                );
                last = due;
            }
        }
    }
}
