/**
 * SECTION:element-camrelaysink
 * @see_also: camrelaysrc
 *
 * `camrelaysink` sends the frames of a camera to a camrelay relay, or to any
 * #camrelaysrc that listens. A buffer is one frame: a whole JPEG, a whole access unit of
 * H.264 or H.265, a packet of audio; caps of any kind go with it.
 *
 * It connects by itself, and again when the relay restarts, appears late or is lost for a
 * while; frames that come in between are dropped and counted. It never waits for the network.
 *
 * The stream must be cut into frames: put a parser before it where the source does not.
 * Video and audio of one camera go through two elements with the same `host`, `port`,
 * `camera` and `key`, and another `stream` each; they share one session.
 *
 * With `auto-bitrate` the nearest encoder before it makes no more than the network carries:
 * jpegenc gets coarser and then slower, openh264enc, x264enc, vp8enc and the like get another
 * bitrate; never finer, or more, than they were set up with. Pictures that come encoded, as
 * from a webcam, are left out evenly where they do not fit. An encoder that others use too
 * (before a tee) is left alone.
 *
 * ## Example pipelines
 * |[
 * gst-launch-1.0 videotestsrc is-live=true ! jpegenc ! camrelaysink host=127.0.0.1 camera=x
 * ]| Sends a test picture to a relay on this machine.
 * |[
 * gst-launch-1.0 v4l2src ! image/jpeg ! camrelaysink host=relay.local camera=door key=door.key
 * ]| Sends what a webcam compresses itself, with the key that the relay's owner made for it.
 */
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use camrelay_protocol::{
    Code, DEFAULT_PORT, Error, Frame, FrameFlags, LatePolicy, MAX_STREAMS, Rejection,
};
use gst::CAPS_FEATURES_MEMORY_SYSTEM_MEMORY;
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;

use super::encoder::{Limit, Steering, Thinning};
use super::settings::{DEFAULT_HOST, DEFAULT_LATENCY, MAX_LATENCY, MAX_MTU, Settings, mtu};
use crate::clocks::Running;
use crate::notices::{self, Notices, Noticing, Told};
use crate::port::{Direction, Notice, Publisher, SessionSettings, clock};
use crate::{keys, stats, uri};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "camrelaysink",
        gst::DebugColorFlags::empty(),
        Some("Sends live frames to a camrelay relay"),
    )
});

/// How long the end of the stream may wait for the relay to have every frame.
const FINISH: Duration = Duration::from_secs(1);
#[derive(Default)]
struct State {
    session: Option<SessionSettings>,
    publisher: Option<Arc<Publisher>>,
    /// The caps of the stream, to say again when the stream begins anew after its end.
    caps: Option<String>,
    /// The stream has ended; the next frame begins it anew.
    ended: bool,
    /// The error that will not go away was posted.
    failed: Arc<AtomicBool>,
    /// The warnings that were posted since the session was last up.
    told: Told,
    /// A key frame was asked for since the last frame.
    key_asked: bool,
    flushing: bool,
    /// What the path carries, in bits per second, where a limit was met.
    carried: Option<u64>,
    /// The encoder that follows it.
    steering: Option<Steering>,
    /// Pictures that come encoded: their share that fits, and their size in bits, smoothed.
    thinning: Thinning,
    size: f64,
    /// Wakes whoever waits for the relay to have every frame.
    finishing: Option<SyncSender<()>>,
}

/// Lock order: `settings` and `state` are each taken alone, and let go before anything else
/// is called.
#[derive(Default)]
pub(crate) struct CamRelaySink {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    notices: Notices,
    limit: Arc<Limit>,
}

#[glib::object_subclass]
impl ObjectSubclass for CamRelaySink {
    const NAME: &'static str = "GstCamRelaySink";
    type Type = super::CamRelaySink;
    type ParentType = gst_base::BaseSink;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for CamRelaySink {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecString::builder("host")
                    .nick("Host")
                    .blurb("Host name or address of the relay")
                    .default_value(DEFAULT_HOST)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("port")
                    .nick("Port")
                    .blurb("UDP port of the relay")
                    .minimum(1)
                    .maximum(u16::MAX.into())
                    .default_value(DEFAULT_PORT.into())
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("camera")
                    .nick("Camera")
                    .blurb(
                        "Name under which viewers find the camera: 1 to 64 letters, digits, \
                         '-', '_' or '.'",
                    )
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("key")
                    .nick("Key")
                    .blurb(
                        "Token that the relay's owner made for the camera, or the path of a \
                         file that holds it (null = anonymous)",
                    )
                    .write_only()
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("latency")
                    .nick("Latency")
                    .blurb(
                        "Time beyond the network's own delay within which a frame may still \
                         be repaired, in ms",
                    )
                    .maximum(MAX_LATENCY)
                    .default_value(DEFAULT_LATENCY)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("mtu")
                    .nick("MTU")
                    .blurb("UDP payload of a datagram, in bytes (0 = find out, otherwise 1200 or more)")
                    .maximum(MAX_MTU)
                    .default_value(0)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("stream")
                    .nick("Stream")
                    .blurb("Number of the stream within its camera")
                    .maximum(u32::from(MAX_STREAMS) - 1)
                    .default_value(0)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("auto-bitrate")
                    .nick("Automatic bitrate")
                    .blurb(
                        "Have the nearest encoder upstream, never beyond what it was set up \
                         with, make what the network carries",
                    )
                    .default_value(true)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("min-bitrate")
                    .nick("Least bitrate")
                    .blurb("Bits per second that are sent even where the network carries less (0 = none)")
                    .default_value(0)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("max-bitrate")
                    .nick("Most bitrate")
                    .blurb("Bits per second that are sent at most (0 = no bound)")
                    .default_value(0)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("target-bitrate")
                    .nick("Target bitrate")
                    .blurb("Bits per second that frames should stay below (0 = no limit was met)")
                    .default_value(0)
                    .read_only()
                    .build(),
                glib::ParamSpecString::builder("uri")
                    .nick("URI")
                    .blurb("camrelay://HOST:PORT/CAMERA?latency=…&key=…&stream=…, instead of the other properties")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("Counters of the session, which elements of one camera share")
                    .read_only()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if pspec.name() == "uri" {
            let uri = value.get::<String>().unwrap_or_default();
            let wrong = URIHandlerImpl::set_uri(self, &uri).err();
            self.settings().wrong_uri = wrong.map(|error| error.message().into());
            return;
        }
        if pspec.name() == "auto-bitrate" {
            let auto = value.get().expect("type checked upstream");
            self.settings().auto_bitrate = auto;
            return self.steer();
        }
        let mut settings = self.settings();
        let number = || value.get::<u32>().expect("type checked upstream");
        let string = || {
            value
                .get::<Option<String>>()
                .expect("type checked upstream")
        };
        match pspec.name() {
            "host" => settings.host = string().unwrap_or_else(|| DEFAULT_HOST.into()),
            "port" => settings.port = number() as u16,
            "camera" => settings.camera = string(),
            "key" => settings.key = string(),
            "latency" => settings.latency = number(),
            "mtu" => settings.mtu = mtu(number()),
            "stream" => settings.stream = number() as u16,
            "min-bitrate" => settings.min_bitrate = number(),
            "max-bitrate" => settings.max_bitrate = number(),
            other => unreachable!("there is no property {other}"),
        }
        drop(settings);
        self.limit();
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" {
            let publisher = self.state().publisher.clone();
            let publisher = publisher.as_ref();
            let dropped = publisher.map_or(0, |one| one.dropped_by_kernel());
            let mut stats = publisher.map(|one| one.stats()).unwrap_or_default();
            stats.frames_dropped += self.limit.left_out();
            return stats::structure(&stats, dropped).to_value();
        }
        if pspec.name() == "uri" {
            return URIHandlerImpl::uri(self).to_value();
        }
        let settings = self.settings();
        match pspec.name() {
            "target-bitrate" => {
                let limit = self.limit.get().unwrap_or(0);
                u32::try_from(limit).unwrap_or(u32::MAX).to_value()
            }
            "auto-bitrate" => settings.auto_bitrate.to_value(),
            "min-bitrate" => settings.min_bitrate.to_value(),
            "max-bitrate" => settings.max_bitrate.to_value(),
            "host" => settings.host.to_value(),
            "port" => u32::from(settings.port).to_value(),
            "camera" => settings.camera.to_value(),
            "latency" => settings.latency.to_value(),
            "mtu" => u32::from(settings.mtu).to_value(),
            "stream" => u32::from(settings.stream).to_value(),
            other => unreachable!("there is no property {other}"),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_sync(true);
        obj.set_processing_deadline(gst::ClockTime::ZERO);
        obj.set_enable_last_sample(false);
    }
}

impl GstObjectImpl for CamRelaySink {}

impl ElementImpl for CamRelaySink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Camera relay sink",
                "Sink/Network",
                "Sends the frames of a camera to a camrelay relay over UDP",
                "The camrelay authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = gst::PadTemplate::new(
                "sink",
                gst::PadDirection::Sink,
                gst::PadPresence::Always,
                &gst::Caps::new_any(),
            );
            vec![template.expect("a template of any caps")]
        });
        &TEMPLATES
    }

    fn send_event(&self, event: gst::Event) -> bool {
        // A frame leaves when it was captured, not a pipeline's latency later: the base class
        // must not learn the latency, but elements upstream must.
        if event.type_() == gst::EventType::Latency {
            return self.obj().sink_pad().push_event(event);
        }
        self.parent_send_event(event)
    }
}

impl BaseSinkImpl for CamRelaySink {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        self.notices.reset();
        let session = self.session_settings()?;
        *self.state() = State {
            session: Some(session),
            ..State::default()
        };
        self.limit();
        self.open()
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.notices.reset();
        let state = std::mem::take(&mut *self.state());
        drop(state);
        Ok(())
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        let mut state = self.state();
        state.flushing = true;
        if let Some(finishing) = state.finishing.take() {
            // A full channel wakes as well.
            let _ = finishing.try_send(());
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        self.state().flushing = false;
        Ok(())
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let refused = |why: &str| {
            gst::element_imp_error!(self, gst::StreamError::Format, ("{why}"));
            Err(gst::loggable_error!(CAT, "{why}"))
        };
        let memory = caps.features(0);
        if memory.is_some_and(|memory| !memory.is_equal(&CAPS_FEATURES_MEMORY_SYSTEM_MEMORY)) {
            return refused(&format!(
                "Cannot send {caps}, whose memory is no other machine's: \
                 put an element before camrelaysink that brings it to system memory"
            ));
        }
        let text = caps.to_string();
        self.state().caps = Some(text.clone());
        self.steer();
        match self.running().map(|publisher| publisher.set_caps(&text)) {
            None | Some(Ok(()) | Err(Error::UnknownPeer)) => Ok(()),
            Some(Err(error)) => refused(&format!("Cannot send this to a relay: {error}")),
        }
    }

    fn render(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        if self.state().ended {
            self.begin_anew()?;
        }
        if buffer.size() == 0 {
            return Ok(gst::FlowSuccess::Ok);
        }
        if !self.admits(buffer) {
            self.limit.leave_out();
            return Ok(gst::FlowSuccess::Ok);
        }
        let frame = self.frame(buffer)?;
        let Some(publisher) = self.running() else {
            return Err(gst::FlowError::Error);
        };
        let sent = publisher.send(frame);
        self.state().key_asked = false;
        match sent {
            // The session is over, and the error that says why is on its way.
            Ok(()) | Err(Error::UnknownPeer) => Ok(gst::FlowSuccess::Ok),
            Err(Error::NoCaps(_)) => {
                gst::element_imp_error!(
                    self,
                    gst::CoreError::Negotiation,
                    ("The stream has no caps; put a parser or a capsfilter before camrelaysink")
                );
                Err(gst::FlowError::NotNegotiated)
            }
            Err(error) => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Failed,
                    ("Cannot send this to a relay: {error}")
                );
                Err(gst::FlowError::Error)
            }
        }
    }

    fn event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Eos {
            self.finish();
        }
        self.parent_event(event)
    }
}

impl URIHandlerImpl for CamRelaySink {
    const URI_TYPE: gst::URIType = gst::URIType::Sink;

    fn protocols() -> &'static [&'static str] {
        &[uri::SCHEME]
    }

    fn uri(&self) -> Option<String> {
        Some(self.settings().to_uri())
    }

    fn set_uri(&self, text: &str) -> Result<(), glib::Error> {
        if self.obj().current_state() > gst::State::Ready {
            let text = "the URI of a running camrelaysink cannot be changed";
            return Err(glib::Error::new(gst::URIError::BadState, text));
        }
        let mut settings = self.settings();
        *settings = settings.with_uri(text)?;
        Ok(())
    }
}

impl Noticing for CamRelaySink {
    fn notices(&self) -> &Notices {
        &self.notices
    }

    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Connected => {
                gst::info!(CAT, imp = self, "connected");
                self.state().told = Told::default();
            }
            Notice::Waiting(reason) => self.warn(reason.code, &reason.to_string()),
            Notice::NoAddress(words) => {
                self.warn(
                    Code::PathLost,
                    &format!(
                        "its address is not found: {words}; is the name right, and does this \
                         machine's DNS know it?"
                    ),
                );
            }
            Notice::Failed(reason) => self.fail(&reason),
            Notice::KeyframeRequested => self.ask_for_key_frame(),
            Notice::TargetBitrate(carried) => {
                self.state().carried = carried;
                self.limit();
            }
            Notice::Port(_) => {}
        }
    }
}

impl CamRelaySink {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session_settings(&self) -> Result<SessionSettings, gst::ErrorMessage> {
        let settings = self.settings().clone();
        let wrong = |why: &str| gst::error_msg!(gst::ResourceError::Settings, ("{why}"));
        if let Some(why) = settings.wrong_uri {
            return Err(wrong(&why));
        }
        let camera = settings.camera.filter(|camera| !camera.is_empty());
        let camera = camera.ok_or_else(|| wrong("Give the camera a name with camera=NAME"))?;
        let token = settings.key.as_deref().map(keys::camera_token);
        Ok(SessionSettings {
            direction: Direction::Publish,
            host: settings.host,
            port: settings.port,
            camera,
            token: token.transpose().map_err(|why| wrong(&why))?,
            latency: Duration::from_millis(settings.latency.into()),
            late_policy: LatePolicy::default(),
            mtu: settings.mtu,
        })
    }

    /// Works out what the frames may take, and tells if that changed.
    fn limit(&self) {
        let carried = self.state().carried;
        let settings = self.settings();
        let (least, most) = (settings.min_bitrate, settings.max_bitrate);
        drop(settings);
        let carried = carried.map(|carried| carried.max(least.into()));
        let most = Some(u64::from(most)).filter(|most| *most > 0);
        let limit = [carried, most].into_iter().flatten().min();
        if self.limit.get() != limit {
            self.limit.set(limit);
            self.obj().notify("target-bitrate");
        }
    }

    /// Steers the encoder upstream, or lets go of it.
    fn steer(&self) {
        let auto = self.settings().auto_bitrate;
        let pad = self.obj().sink_pad().clone();
        let old = self.state().steering.take();
        let kept = old.filter(|steering| auto && steering.is_of(&pad));
        let steering = match (kept, auto) {
            (Some(kept), _) => Some(kept),
            (None, true) => Steering::new(&pad, &self.limit),
            (None, false) => None,
        };
        if let Some(steering) = &steering {
            gst::debug!(CAT, imp = self, "{} follows the network", steering.name());
        }
        self.state().steering = steering;
    }

    /// Whether a frame fits. Of pictures that no encoder here makes smaller, some are left out.
    fn admits(&self, buffer: &gst::Buffer) -> bool {
        let auto = self.settings().auto_bitrate;
        let mut state = self.state();
        let is_picture = state
            .caps
            .as_ref()
            .is_some_and(|caps| caps.starts_with("image/"));
        if !auto || !is_picture || state.steering.is_some() {
            return true;
        }
        state.thinning.observe(buffer.pts());
        let bits = buffer.size() as f64 * 8.0;
        state.size += (bits - state.size) / 8.0;
        let Some(limit) = self.limit.get() else {
            return true;
        };
        let share = limit as f64 * state.thinning.interval() / state.size;
        state.thinning.admits(share)
    }

    /// Joins the session, or opens it.
    fn open(&self) -> Result<(), gst::ErrorMessage> {
        let Some(session) = self.state().session.clone() else {
            return Ok(());
        };
        let stream = self.settings().stream;
        let publisher = Publisher::new(session, stream, notices::observer(self))
            .map_err(|error| gst::error_msg!(gst::ResourceError::OpenWrite, ("{error}")))?;
        self.state().publisher = Some(Arc::new(publisher));
        Ok(())
    }

    /// The publisher, unless the session is over for good.
    fn running(&self) -> Option<Arc<Publisher>> {
        let state = self.state();
        state
            .publisher
            .clone()
            .filter(|_| !state.failed.load(Ordering::Relaxed))
    }

    /// Begins the stream anew after its end, as after a seek.
    fn begin_anew(&self) -> Result<(), gst::FlowError> {
        let mut state = self.state();
        state.ended = false;
        let old = state.publisher.take();
        let caps = state.caps.clone();
        drop(state);
        drop(old);
        self.open().map_err(|message| {
            self.post_error_message(message);
            gst::FlowError::Error
        })?;
        if let (Some(publisher), Some(caps)) = (self.running(), caps) {
            // The same caps were taken before.
            let _ = publisher.set_caps(&caps);
        }
        Ok(())
    }

    /// Ends the stream, and waits a little until the relay has every frame.
    fn finish(&self) {
        let (finishing, finished) = sync_channel(1);
        let mut state = self.state();
        state.ended = true;
        let publisher = state.publisher.clone().filter(|_| !state.flushing);
        state.finishing = Some(finishing.clone());
        drop(state);
        if publisher.is_some_and(|publisher| publisher.end(finishing)) {
            // Told, told to stop waiting, or not told in time: the stream has ended.
            let _ = finished.recv_timeout(FINISH);
        }
        self.state().finishing = None;
    }

    /// The frame that a buffer holds, without a copy.
    fn frame(&self, buffer: &gst::Buffer) -> Result<Frame, gst::FlowError> {
        let segment = self.obj().segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        let (pts, dts) = (buffer.pts(), buffer.dts());
        let running_time = segment.and_then(|segment| segment.to_running_time(pts.or(dts)));
        let running = Running::of(&*self.obj());
        let capture = match (running_time, running) {
            (Some(running_time), Some(running)) => running.moment(running_time),
            _ => clock::now(),
        };
        let dts_offset = match (pts, dts) {
            (Some(pts), Some(dts)) => pts.nseconds().wrapping_sub(dts.nseconds()) as i64,
            _ => 0,
        };
        let flags = buffer.flags();
        let mapped = buffer.clone().into_mapped_buffer_readable();
        let mapped = mapped.map_err(|_| {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Read,
                ("Cannot read a buffer; its memory is not the system's")
            );
            gst::FlowError::Error
        })?;
        Ok(Frame {
            data: Bytes::from_owner(mapped),
            capture,
            dts_offset,
            duration: buffer.duration().map(Into::into),
            wall: wall_of(buffer).or_else(|| clock::wall_at(capture)),
            flags: FrameFlags {
                key: !flags.contains(gst::BufferFlags::DELTA_UNIT),
                discardable: flags.contains(gst::BufferFlags::DROPPABLE),
                header: flags.contains(gst::BufferFlags::HEADER),
                discont: flags.contains(gst::BufferFlags::DISCONT),
            },
        })
    }

    /// What the session is about, for messages.
    fn about(&self) -> String {
        let state = self.state();
        let session = state.session.as_ref();
        session.map_or_else(String::new, |session| {
            let SessionSettings {
                camera, host, port, ..
            } = session;
            format!("camera '{camera}' at the relay {host}:{port}")
        })
    }

    /// Warns, once for each reason until the session is up again.
    fn warn(&self, code: Code, why: &str) {
        if !self.state().told.is_news(code) {
            gst::debug!(CAT, imp = self, "still waiting: {why}");
            return;
        }
        gst::element_imp_warning!(
            self,
            gst::ResourceError::OpenWrite,
            ("Waiting for {}: {why}", self.about())
        );
    }

    /// Posts the one error after which nothing more is sent. Frames fail only once it is posted:
    /// upstream, they lead to an error that says less.
    fn fail(&self, reason: &Rejection) {
        let failed = self.state().failed.clone();
        let about = self.about();
        match reason.code {
            Code::UnknownKey | Code::NameNotAllowed | Code::SecurityRequired => {
                gst::element_imp_error!(
                    self,
                    gst::ResourceError::NotAuthorized,
                    ("Refused: {about}: {reason}")
                );
            }
            Code::CapsUnsupported => gst::element_imp_error!(
                self,
                gst::StreamError::Format,
                ("Refused: {about}: {reason}")
            ),
            _ => gst::element_imp_error!(
                self,
                gst::ResourceError::Write,
                ("Ended: {about}: {reason}")
            ),
        }
        failed.store(true, Ordering::Relaxed);
    }

    /// Asks upstream for a key frame, at most once for each frame.
    fn ask_for_key_frame(&self) {
        if std::mem::replace(&mut self.state().key_asked, true) {
            return;
        }
        gst::debug!(CAT, imp = self, "a viewer needs a key frame");
        let event = gst_video::UpstreamForceKeyUnitEvent::builder()
            .all_headers(true)
            .build();
        if !self.obj().sink_pad().push_event(event) {
            gst::debug!(CAT, imp = self, "nobody upstream makes key frames");
        }
    }
}

/// When a buffer was captured, in microseconds since the Unix epoch, where it says so.
fn wall_of(buffer: &gst::BufferRef) -> Option<u64> {
    let mut metas = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
    let unix = metas.find(|meta| {
        let name = meta.reference().structure(0).map(|one| one.name());
        name.is_some_and(|name| name == "timestamp/x-unix")
    })?;
    Some(unix.timestamp().useconds())
}
