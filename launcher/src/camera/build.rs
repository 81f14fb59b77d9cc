//! The pipeline of one camera: source ! what is chosen ! camrelaysink.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gst::prelude::*;

use super::choice::{self, Choice, Media, Way};
use super::dynamic;
use super::plan::Plan;
use super::text;
use super::trouble::Trouble;
use crate::config::Source;

/// How long a device may give no frame before it counts as frozen.
const FROZEN_DEVICE: Duration = Duration::from_secs(5);
/// The same for a camera on the network, which may need as long to connect.
const FROZEN_NETWORK: Duration = Duration::from_secs(10);
/// Elements that only pass on what a device gives.
const PASSING: [&str; 3] = ["v4l2src", "capsfilter", "identity"];

/// A camera's pipeline, stopped when it is dropped.
pub struct Running {
    /// The pipeline, in READY.
    pub pipeline: gst::Pipeline,
    /// Its camrelaysink.
    pub sink: gst::Element,
    /// Frames that came to the sink.
    pub frames: Arc<AtomicU64>,
    /// How its source is called in messages.
    source: String,
    /// The device that it reads, if it does.
    pub device: Option<PathBuf>,
    /// How long it may give no frame; `None`: as long as it likes.
    pub frozen_after: Option<Duration>,
    /// Whether it is a file, which is told before it begins to begin again at its end.
    pub repeats: bool,
    /// Whether it is a file without a container, which cannot be told that.
    pub bare: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left to do for a pipeline that does not even stop.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Running {
    /// The pipeline of a camera, with nothing but its sink.
    pub fn new(plan: &Plan) -> Result<Self, Trouble> {
        let sink = sink(plan)?;
        let pad = sink.static_pad("sink").expect("a sink has a pad 'sink'");
        let frames = Arc::new(AtomicU64::new(0));
        let counter = frames.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        let running = Self {
            pipeline: gst::Pipeline::new(),
            sink,
            frames,
            source: plan.source.to_string(),
            device: None,
            frozen_after: None,
            repeats: false,
            bare: Arc::default(),
        };
        add(&running.pipeline, &running.sink)?;
        Ok(running)
    }

    /// Adds the source and what is chosen for it. A device is opened and asked what it gives.
    pub fn prepare(&mut self, plan: &Plan) -> Result<(), Trouble> {
        match &plan.source {
            Source::Device(path) => {
                let source = element("v4l2src")?;
                source.set_property("device", path.to_string_lossy().as_ref());
                self.attach(plan, &source)
            }
            Source::Text(text) => {
                let source = text::source(text).map_err(|e| Trouble::of_text("source", &e))?;
                self.attach(plan, source.upcast_ref())
            }
            Source::File(path) => {
                let bare = self.bare.clone();
                dynamic::attach_file(&self.pipeline, &self.sink, path, plan, bare)
            }
            Source::Rtsp(uri) => {
                self.frozen_after = Some(FROZEN_NETWORK);
                dynamic::attach_rtsp(&self.pipeline, &self.sink, uri, plan)
            }
        }
    }

    /// Adds a source with a pad `src` that is there from the start, and what is chosen for it.
    fn attach(&mut self, plan: &Plan, source: &gst::Element) -> Result<(), Trouble> {
        add(&self.pipeline, source)?;
        let factories = factories(source);
        let is = |name: &str| factories.iter().any(|(factory, _)| factory == name);
        self.device = factories
            .iter()
            .find(|(factory, _)| factory == "v4l2src")
            .and_then(|(_, element)| element.property::<Option<String>>("device"))
            .map(PathBuf::from);
        if is("v4l2src") || is("libcamerasrc") {
            self.frozen_after = Some(FROZEN_DEVICE);
        } else if is("rtspsrc") {
            self.frozen_after = Some(FROZEN_NETWORK);
        }
        if source.set_state(gst::State::Ready).is_err() {
            return Err(self.first_error());
        }
        let pad = source
            .static_pad("src")
            .ok_or_else(|| Trouble::Failed("the source has no output".into()))?;
        let modes = pad.query_caps(None);
        let encoder = encoder(plan)?;
        let mut choice = choose(&modes, encoder.as_ref())?;
        let only_passes = factories
            .iter()
            .all(|(factory, _)| PASSING.contains(&factory.as_str()));
        if let (Some(filter), true) = (&choice.filter, only_passes) {
            choice.filter = Some(choice::best_mode(filter));
        }
        tail(&self.pipeline, &pad, &self.sink, choice, encoder)
    }

    /// What an error message means.
    pub fn trouble(&self, error: &gst::message::Error) -> Trouble {
        Trouble::of_message(error, &self.source, self.device.as_deref())
    }

    /// What the first error on the bus means.
    pub fn first_error(&self) -> Trouble {
        let bus = self.pipeline.bus().expect("a pipeline has a bus");
        let message = bus.pop_filtered(&[gst::MessageType::Error]);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => self.trouble(error),
            _ => Trouble::Failed(format!("{} does not start", self.source)),
        }
    }
}

/// The element and every element in it, by the names of their factories.
fn factories(source: &gst::Element) -> Vec<(String, gst::Element)> {
    let mut elements = vec![source.clone()];
    if let Some(bin) = source.downcast_ref::<gst::Bin>() {
        elements = bin.iterate_recurse().into_iter().flatten().collect();
    }
    elements
        .into_iter()
        .filter(|element| !element.is::<gst::Bin>())
        .filter_map(|element| Some((element.factory()?.name().to_string(), element)))
        .collect()
}

/// The deployment's own encoder, if it has one.
pub fn encoder(plan: &Plan) -> Result<Option<gst::Element>, Trouble> {
    plan.encode
        .as_deref()
        .map(text::encoder)
        .transpose()
        .map(|encoder| encoder.map(Cast::upcast))
        .map_err(|errors| Trouble::of_text("encode", &errors))
}

/// What to do with a source that gives `caps`.
pub fn choose(caps: &gst::Caps, encoder: Option<&gst::Element>) -> Result<Choice, Trouble> {
    let taken = encoder
        .and_then(|encoder| encoder.static_pad("sink"))
        .map(|pad| pad.query_caps(None));
    choice::choose(caps, taken.as_ref()).ok_or_else(|| {
        let mut kinds: Vec<_> = caps.iter().map(|kind| kind.name().as_str()).collect();
        kinds.dedup();
        Trouble::Failed(format!(
            "expected an encoder for what the source gives, {}",
            kinds.join(" or ")
        ))
    })
}

/// Links `pad` to `sink` as chosen, and brings what is added to the pipeline's state.
pub fn tail(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    sink: &gst::Element,
    choice: Choice,
    encoder: Option<gst::Element>,
) -> Result<(), Trouble> {
    let mut chain = Vec::new();
    let encoded = encoder.as_ref().and_then(parser);
    if let Some(filter) = choice.filter {
        let capsfilter = element("capsfilter")?;
        capsfilter.set_property("caps", filter);
        chain.push(capsfilter);
    }
    match choice.way {
        Way::AsIs => {}
        Way::Parse(parser) => chain.push(chosen(parser)?),
        Way::Encode => chain.extend(encoder),
        Way::ConvertAndEncode => match encoder {
            Some(encoder) => {
                chain.push(element("videoconvert")?);
                chain.extend(watchable(&encoder)?);
                chain.push(encoder);
            }
            None => chain.push(chosen(CHOSEN_ENCODER)?),
        },
        Way::Decode => return dynamic::decode(pipeline, pad, sink, encoder),
    }
    if let Some(parser) = encoded {
        chain.push(chosen(parser)?);
    }
    for element in &chain {
        add(pipeline, element)?;
    }
    chain.push(sink.clone());
    gst::Element::link_many(&chain).map_err(|_| cannot_link(pad))?;
    let first = chain[0]
        .static_pad("sink")
        .ok_or_else(|| cannot_link(pad))?;
    pad.link(&first).map_err(|_| cannot_link(pad))?;
    for element in chain.iter().rev() {
        element
            .sync_state_with_parent()
            .map_err(|_| Trouble::Failed(format!("{} does not start", element.name())))?;
    }
    Ok(())
}

/// What holds an encoder's input to 4:2:0 or 4:2:2 where it takes that: JPEG of more
/// than that does not fit RTP (RFC 2435, section 4.1), and few players take such H.264.
fn watchable(encoder: &gst::Element) -> Result<Option<gst::Element>, Trouble> {
    let formats = ["I420", "YV12", "NV12", "NV21", "YUY2", "UYVY", "YVYU"];
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", gst::List::new(formats))
        .build();
    let takes = encoder
        .static_pad("sink")
        .is_some_and(|pad| pad.query_caps(None).can_intersect(&caps));
    if !takes {
        return Ok(None);
    }
    let filter = element("capsfilter")?;
    filter.set_property("caps", caps);
    Ok(Some(filter))
}

/// The parser for what an encoder gives.
fn parser(encoder: &gst::Element) -> Option<&'static str> {
    let caps = encoder.static_pad("src")?.query_caps(None);
    Media::of(caps.structure(0)?).parser()
}

/// The encoder where the deployment has none: 4:2:0, which every viewer takes.
const CHOSEN_ENCODER: &str = "videoconvert ! video/x-raw,format=I420 ! jpegenc quality=85";

fn cannot_link(pad: &gst::Pad) -> Trouble {
    let caps = pad.query_caps(None);
    Trouble::Failed(format!("what the source gives cannot be sent ({caps})"))
}

fn chosen(text: &str) -> Result<gst::Element, Trouble> {
    text::encoder(text)
        .map(Cast::upcast)
        .map_err(|errors| Trouble::of_text("encode", &errors))
}

/// One element, or the package to install.
pub fn element(name: &str) -> Result<gst::Element, Trouble> {
    text::element(name).map_err(|errors| Trouble::of_text("source", &errors))
}

/// Adds an element to the pipeline.
pub fn add(pipeline: &gst::Pipeline, element: &gst::Element) -> Result<(), Trouble> {
    pipeline
        .add(element)
        .map_err(|error| Trouble::Failed(error.to_string()))
}

fn sink(plan: &Plan) -> Result<gst::Element, Trouble> {
    let sink = element("camrelaysink")?;
    sink.set_property("host", &plan.host);
    sink.set_property("port", u32::from(plan.port));
    sink.set_property("camera", &plan.name);
    sink.set_property("key", &plan.key);
    sink.set_property("latency", plan.latency.as_millis() as u32);
    Ok(sink)
}

/// Whether the device can be opened at all now.
pub fn is_present(device: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(device);
    match opened {
        Ok(_) => true,
        Err(error) => !matches!(
            error.raw_os_error(),
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)
        ),
    }
}
