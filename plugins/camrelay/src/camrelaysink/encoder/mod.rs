//! `auto-bitrate`: the encoder before the sink follows what the path carries, at most as good as
//! it was set up to be.
//!
//! JPEG gets coarser, then slower; other encoders get another bitrate. Frames that do not fit
//! are left out before they are encoded, evenly, so that no other frame misses them.

mod bitrate;
mod cadence;
mod find;
mod knob;
mod quality;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;

use self::bitrate::Bitrate;
pub(super) use self::cadence::Thinning;
use self::knob::{Kind, Knob};
use self::quality::Quality;

/// What the frames of one sink may take, and what was left out for it.
#[derive(Default)]
pub(super) struct Limit {
    /// Bits per second; 0 is no limit.
    bitrate: AtomicU64,
    /// Frames left out.
    left_out: AtomicU64,
}

impl Limit {
    /// Bits per second; `None` where there is no limit.
    pub(super) fn get(&self) -> Option<u64> {
        Some(self.bitrate.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    pub(super) fn set(&self, limit: Option<u64>) {
        self.bitrate.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes note of a frame that was left out.
    pub(super) fn leave_out(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames left out.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

/// What decides about one encoder.
enum Control {
    Quality(Quality),
    Bitrate(Bitrate),
}

/// What is to be done before a frame is encoded.
struct Plan {
    /// What the knob is to be set to, where that changes.
    set: Option<i64>,
    /// Whether the frame is encoded at all.
    admit: bool,
}

impl Control {
    fn plan(&mut self, pts: Option<gst::ClockTime>, limit: Option<u64>, current: i64) -> Plan {
        match self {
            Self::Quality(quality) => quality.plan(pts, limit, current),
            Self::Bitrate(bitrate) => bitrate.plan(pts, limit, current),
        }
    }

    fn encoded(&mut self, size: usize) {
        match self {
            Self::Quality(quality) => quality.encoded(size),
            Self::Bitrate(bitrate) => bitrate.encoded(size),
        }
    }

    /// Takes note of what the knob reads after it was set.
    fn is_set(&mut self, value: i64) {
        match self {
            Self::Quality(quality) => quality.is_set(value),
            Self::Bitrate(bitrate) => bitrate.is_set(value),
        }
    }

    /// What the encoder was set up with.
    fn ceiling(&self) -> i64 {
        match self {
            Self::Quality(quality) => quality.ceiling(),
            Self::Bitrate(bitrate) => bitrate.ceiling(),
        }
    }
}

/// An encoder that follows a limit until this is dropped. It is set to what it was, then.
pub(super) struct Steering {
    encoder: gst::Element,
    knob: Knob,
    control: Arc<Mutex<Control>>,
    probes: Vec<(gst::Pad, gst::PadProbeId)>,
}

impl Steering {
    /// Steers the encoder whose frames reach `pad`, where there is one that can be.
    pub(super) fn new(pad: &gst::Pad, limit: &Arc<Limit>) -> Option<Self> {
        let (encoder, input, output) = find::encoder(pad)?;
        let knob = Knob::of(&encoder)?;
        let current = knob.get(&encoder)?;
        let control = Arc::new(Mutex::new(match knob.kind() {
            Kind::Quality => Control::Quality(Quality::new(current)),
            Kind::Bitrate => {
                Control::Bitrate(Bitrate::new(current, knob.unit(), knob.zero_is_automatic()))
            }
        }));
        let before = input.add_probe(gst::PadProbeType::BUFFER, {
            let (encoder, control, limit) = (encoder.downgrade(), control.clone(), limit.clone());
            let knob = knob.clone();
            move |_, info| match encoder.upgrade() {
                Some(encoder) => before(&encoder, &knob, &control, &limit, info),
                None => gst::PadProbeReturn::Ok,
            }
        });
        let after = output.add_probe(gst::PadProbeType::BUFFER, {
            let control = control.clone();
            move |_, info| {
                if let Some(buffer) = info.buffer() {
                    lock(&control).encoded(buffer.size());
                }
                gst::PadProbeReturn::Ok
            }
        });
        let probes = [(input, before), (output, after)];
        let probes = probes.into_iter().filter_map(|(pad, id)| Some((pad, id?)));
        Some(Self {
            encoder,
            knob,
            control,
            probes: probes.collect(),
        })
    }

    /// The encoder's name.
    pub(super) fn name(&self) -> String {
        self.encoder.name().into()
    }

    /// Whether this steers the encoder whose frames reach `pad`.
    pub(super) fn is_of(&self, pad: &gst::Pad) -> bool {
        find::encoder(pad).is_some_and(|(encoder, ..)| encoder == self.encoder)
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        for (pad, id) in self.probes.drain(..) {
            pad.remove_probe(id);
        }
        let ceiling = lock(&self.control).ceiling();
        if self.knob.get(&self.encoder) != Some(ceiling) {
            self.knob.set(&self.encoder, ceiling);
        }
    }
}

/// Before a frame is encoded, on the thread that will encode it.
fn before(
    encoder: &gst::Element,
    knob: &Knob,
    control: &Mutex<Control>,
    limit: &Limit,
    info: &gst::PadProbeInfo,
) -> gst::PadProbeReturn {
    let (Some(buffer), Some(current)) = (info.buffer(), knob.get(encoder)) else {
        return gst::PadProbeReturn::Ok;
    };
    let plan = lock(control).plan(buffer.pts(), limit.get(), current);
    if let Some(value) = plan.set {
        knob.set(encoder, value);
        // Some encoders round it.
        let set = knob.get(encoder).unwrap_or(value);
        lock(control).is_set(set);
    }
    if plan.admit {
        gst::PadProbeReturn::Ok
    } else {
        limit.leave_out();
        gst::PadProbeReturn::Handled
    }
}

fn lock(control: &Mutex<Control>) -> std::sync::MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}
