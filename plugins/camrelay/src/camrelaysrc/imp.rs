/**
 * SECTION:element-camrelaysrc
 * @see_also: camrelaysink
 *
 * `camrelaysrc` receives one stream of a camera. As `mode=listener` it binds `port`, and
 * cameras connect to it; elements with the same `address` and `port` share one socket, one
 * for each camera or stream, and the `key`, `cameras` and `accept` of the first of them count.
 * As `mode=caller` it asks the relay at `host` for a camera's feed.
 *
 * A buffer is one whole frame with the caps that the camera gave it, stamped with its
 * capture time on the pipeline's clock. A frame that comes back from the network's losses
 * within `latency` is delivered the moment it is whole; a later one is a gap: a GAP event,
 * DISCONT on the next buffer, and an element message `camrelay-gap` with the fields `stream`,
 * `frames` (how many are missing), `reason` (`network`, `late`, `sender`, `undecodable`,
 * `slow-consumer`) and `stats`.
 *
 * When frames are taken too slowly, the oldest go, and with them those that need them.
 *
 * ## Example pipelines
 * |[
 * gst-launch-1.0 camrelaysrc port=8000 camera=door ! jpegdec ! autovideosink
 * ]| Shows a camera with no relay in between.
 * |[
 * gst-launch-1.0 camrelaysrc mode=caller host=relay.local camera=door ! jpegdec ! autovideosink
 * ]| Shows a camera that a relay has.
 */
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use camrelay_protocol::{Accept, Access, Code, DEFAULT_PORT, MAX_STREAMS, Rejection};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;

use super::input::Input;
use super::settings::{
    DEFAULT_ADDRESS, DEFAULT_HOST, DEFAULT_LATENCY, Late, MAX_LATENCY, Mode, Settings, Who,
};
use crate::clocks::Running;
use crate::notices::{self, Notices, Noticing, Told};
use crate::port::queue::{CameraFrame, Missing, Output};
use crate::port::{Direction, Notice, Patience, PortEvent, PortSettings, SessionSettings};
use crate::{keys, stats, uri};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "camrelaysrc",
        gst::DebugColorFlags::empty(),
        Some("Receives live frames of a camera"),
    )
});

/// Reference of the capture times that buffers carry.
static UNIX_TIME: LazyLock<gst::Caps> =
    LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-unix"));

#[derive(Default)]
struct State {
    input: Option<Arc<Input>>,
    /// Where the stream has got to: the end of the last buffer, and how long a frame lasts.
    position: Option<gst::ClockTime>,
    frame_duration: Option<gst::ClockTime>,
    /// The warnings that were posted since the session was last up.
    told: Told,
}

/// Lock order: `settings` and `state` are each taken alone, and let go before anything else
/// is called.
#[derive(Default)]
pub(crate) struct CamRelaySrc {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    notices: Notices,
}

#[glib::object_subclass]
impl ObjectSubclass for CamRelaySrc {
    const NAME: &'static str = "GstCamRelaySrc";
    type Type = super::CamRelaySrc;
    type ParentType = gst_base::PushSrc;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for CamRelaySrc {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecEnum::builder_with_default("mode", Mode::default())
                    .nick("Mode")
                    .blurb("Whether cameras connect to this element, or it calls a relay")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("address")
                    .nick("Address")
                    .blurb("Address of this machine to listen on (listener)")
                    .default_value(DEFAULT_ADDRESS)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("host")
                    .nick("Host")
                    .blurb("Host name or address of the relay (caller)")
                    .default_value(DEFAULT_HOST)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("port")
                    .nick("Port")
                    .blurb(
                        "UDP port to listen on (0 = the system picks one, and reading tells \
                         which), or of the relay",
                    )
                    .maximum(u16::MAX.into())
                    .default_value(DEFAULT_PORT.into())
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("camera")
                    .nick("Camera")
                    .blurb("Name of the camera (listener: null = the first that connects)")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("key")
                    .nick("Key")
                    .blurb(
                        "Private key of this relay (listener) or token made by the relay's \
                         owner (caller), or the path of a file that holds it (null = anonymous)",
                    )
                    .write_only()
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("cameras")
                    .nick("Cameras")
                    .blurb("Path of the list of known cameras (listener)")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("accept", Who::default())
                    .nick("Accept")
                    .blurb("Who may connect without a known key (listener)")
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
                glib::ParamSpecEnum::builder_with_default("late-policy", Late::default())
                    .nick("Late policy")
                    .blurb("What becomes of frames that are not whole when a newer one is")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("stream")
                    .nick("Stream")
                    .blurb("Number of the stream within its camera")
                    .maximum(u32::from(MAX_STREAMS) - 1)
                    .default_value(0)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("keep-listening")
                    .nick("Keep listening")
                    .blurb(
                        "Wait for the camera to come back after it ended its stream \
                         (false = end of stream)",
                    )
                    .default_value(true)
                    .build(),
                glib::ParamSpecString::builder("uri")
                    .nick("URI")
                    .blurb("camrelay://HOST:PORT/CAMERA?mode=…&latency=…&key=…&stream=…, instead of the other properties")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("Counters of the camera's session; frames-dropped counts those that were taken too slowly")
                    .read_only()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            let name = String::static_type();
            vec![
                // A camera registered with the port: its name.
                glib::subclass::Signal::builder("camera-added")
                    .param_types([name])
                    .build(),
                // A camera left the port: its name.
                glib::subclass::Signal::builder("camera-removed")
                    .param_types([name])
                    .build(),
                // A camera was refused by the port: its name, and why.
                glib::subclass::Signal::builder("camera-rejected")
                    .param_types([name, name])
                    .build(),
            ]
        });
        &SIGNALS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if pspec.name() == "uri" {
            let uri = value.get::<String>().unwrap_or_default();
            let wrong = URIHandlerImpl::set_uri(self, &uri).err();
            self.settings().wrong_uri = wrong.map(|error| error.message().into());
            return;
        }
        let mut settings = self.settings();
        let number = || value.get::<u32>().expect("type checked upstream");
        let string = || {
            value
                .get::<Option<String>>()
                .expect("type checked upstream")
        };
        match pspec.name() {
            "mode" => settings.mode = value.get().expect("type checked upstream"),
            "address" => settings.address = string().unwrap_or_else(|| DEFAULT_ADDRESS.into()),
            "host" => settings.host = string().unwrap_or_else(|| DEFAULT_HOST.into()),
            "port" => settings.port = number() as u16,
            "camera" => settings.camera = string(),
            "key" => settings.key = string(),
            "cameras" => settings.cameras = string(),
            "accept" => settings.accept = value.get().expect("type checked upstream"),
            "latency" => settings.latency = number(),
            "late-policy" => settings.late_policy = value.get().expect("type checked upstream"),
            "stream" => settings.stream = number() as u16,
            "keep-listening" => {
                settings.keep_listening = value.get().expect("type checked upstream");
            }
            other => unreachable!("there is no property {other}"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let input = self.input();
        let settings = self.settings();
        match pspec.name() {
            "mode" => settings.mode.to_value(),
            "address" => settings.address.to_value(),
            "host" => settings.host.to_value(),
            "port" => {
                let bound = input.and_then(|input| input.bound_port());
                u32::from(bound.unwrap_or(settings.port)).to_value()
            }
            "camera" => settings.camera.to_value(),
            "uri" => settings.to_uri().to_value(),
            "cameras" => settings.cameras.to_value(),
            "accept" => settings.accept.to_value(),
            "latency" => settings.latency.to_value(),
            "late-policy" => settings.late_policy.to_value(),
            "stream" => u32::from(settings.stream).to_value(),
            "keep-listening" => settings.keep_listening.to_value(),
            "stats" => {
                drop(settings);
                let dropped = input.as_ref().map_or(0, |input| input.dropped_by_kernel());
                let stats = input.map(|input| input.stats()).unwrap_or_default();
                stats::structure(&stats, dropped).to_value()
            }
            other => unreachable!("there is no property {other}"),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_live(true);
        obj.set_format(gst::Format::Time);
    }
}

impl GstObjectImpl for CamRelaySrc {}

impl ElementImpl for CamRelaySrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Camera relay source",
                "Source/Network",
                "Receives the frames of a camera over UDP, as a camrelay relay or from one",
                "The camrelay authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = gst::PadTemplate::new(
                "src",
                gst::PadDirection::Src,
                gst::PadPresence::Always,
                &gst::Caps::new_any(),
            );
            vec![template.expect("a template of any caps")]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        // Live: what was captured while the element did not play is not played later.
        let input = self.input();
        if transition == gst::StateChange::PausedToPlaying
            && let Some(input) = &input
        {
            input.queue().set_open(true);
        }
        let changed = self.parent_change_state(transition);
        if transition == gst::StateChange::PlayingToPaused
            && let Some(input) = &input
        {
            input.queue().set_open(false);
        }
        changed
    }
}

impl BaseSrcImpl for CamRelaySrc {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        self.notices.reset();
        let settings = self.settings().clone();
        if let Some(why) = &settings.wrong_uri {
            return Err(wrong(why));
        }
        let input = match settings.mode {
            Mode::Listener => self.listen(&settings),
            Mode::Caller => self.call(&settings),
        }?;
        if let Some(advice) = input.advice() {
            static ADVISED: Once = Once::new();
            ADVISED.call_once(|| {
                gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{advice}"));
            });
        }
        *self.state() = State {
            input: Some(Arc::new(input)),
            ..State::default()
        };
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.notices.reset();
        let state = std::mem::take(&mut *self.state());
        drop(state);
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(input) = self.input() {
            input.queue().set_flushing(true);
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(input) = self.input() {
            input.queue().set_flushing(false);
        }
        Ok(())
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Latency(query) = query.view_mut() {
            let latency = u64::from(self.settings().latency);
            query.set(true, gst::ClockTime::from_mseconds(latency), None);
            return true;
        }
        BaseSrcImplExt::parent_query(self, query)
    }

    fn event(&self, event: &gst::Event) -> bool {
        if event.type_() == gst::EventType::CustomUpstream
            && gst_video::ForceKeyUnitEvent::is(event)
        {
            if let Some(input) = self.input() {
                input.request_keyframe();
            }
            return true;
        }
        self.parent_event(event)
    }
}

impl PushSrcImpl for CamRelaySrc {
    fn create(
        &self,
        _buffer: Option<&mut gst::BufferRef>,
    ) -> Result<CreateSuccess, gst::FlowError> {
        let input = self.input().ok_or(gst::FlowError::Flushing)?;
        loop {
            match input.queue().next() {
                Output::Frame { frame, discont } => return self.take(frame, discont),
                Output::Gap { frames, reason } => self.gap(&input, frames, reason),
                Output::Ended if self.settings().keep_listening => {
                    gst::info!(CAT, imp = self, "the stream ended; waiting for its return");
                }
                Output::Ended => return Err(gst::FlowError::Eos),
                Output::Failed(reason) => {
                    self.fail(&reason);
                    return Err(gst::FlowError::Error);
                }
                Output::Flushing => return Err(gst::FlowError::Flushing),
            }
        }
    }
}

impl URIHandlerImpl for CamRelaySrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &[uri::SCHEME]
    }

    fn uri(&self) -> Option<String> {
        Some(self.settings().to_uri())
    }

    fn set_uri(&self, text: &str) -> Result<(), glib::Error> {
        if self.obj().current_state() > gst::State::Ready {
            let text = "the URI of a running camrelaysrc cannot be changed";
            return Err(glib::Error::new(gst::URIError::BadState, text));
        }
        let mut settings = self.settings();
        *settings = settings.with_uri(text)?;
        Ok(())
    }
}

impl Noticing for CamRelaySrc {
    fn notices(&self) -> &Notices {
        &self.notices
    }

    fn notice(&self, notice: Notice) {
        let obj = self.obj();
        match notice {
            Notice::Port(PortEvent::CameraAdded { camera, .. }) => {
                obj.emit_by_name::<()>("camera-added", &[&camera]);
            }
            Notice::Port(PortEvent::CameraRemoved { camera, .. }) => {
                obj.emit_by_name::<()>("camera-removed", &[&camera]);
            }
            Notice::Port(PortEvent::CameraRejected { camera, reason, .. }) => {
                obj.emit_by_name::<()>("camera-rejected", &[&camera, &reason.to_string()]);
            }
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
            Notice::Port(PortEvent::Caps { .. })
            | Notice::Failed(_)
            | Notice::KeyframeRequested
            | Notice::TargetBitrate(_) => {}
        }
    }
}

impl CamRelaySrc {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn input(&self) -> Option<Arc<Input>> {
        self.state().input.clone()
    }

    fn listen(&self, settings: &Settings) -> Result<Input, gst::ErrorMessage> {
        let Ok(ip) = settings.address.parse::<IpAddr>() else {
            let address = &settings.address;
            return Err(wrong(&format!(
                "address={address} is no address of this machine; use 0.0.0.0 for all of them"
            )));
        };
        let identity = settings.key.as_deref().map(keys::private_key);
        let known = settings.cameras.as_deref().map(keys::known_cameras);
        let access = Access {
            accept: Accept::from(settings.accept),
            known: known
                .transpose()
                .map_err(|why| wrong(&why))?
                .unwrap_or_default(),
        };
        let port = PortSettings {
            address: SocketAddr::new(ip, settings.port),
            identity: identity.transpose().map_err(|why| wrong(&why))?,
            access,
        };
        Input::listen(
            port,
            settings
                .camera
                .as_deref()
                .filter(|camera| !camera.is_empty()),
            settings.stream,
            Patience {
                latency: Duration::from_millis(settings.latency.into()),
                policy: settings.late_policy.into(),
            },
            notices::observer(self),
        )
        .map_err(|error| gst::error_msg!(gst::ResourceError::OpenRead, ("{error}")))
    }

    fn call(&self, settings: &Settings) -> Result<Input, gst::ErrorMessage> {
        let camera = settings.camera.clone().filter(|camera| !camera.is_empty());
        let token = settings.key.as_deref().map(keys::camera_token);
        let session = SessionSettings {
            direction: Direction::Watch,
            host: settings.host.clone(),
            port: settings.port,
            camera: camera.ok_or_else(|| wrong("Say which camera to watch with camera=NAME"))?,
            token: token.transpose().map_err(|why| wrong(&why))?,
            latency: Duration::from_millis(settings.latency.into()),
            late_policy: settings.late_policy.into(),
            mtu: 0,
        };
        Input::call(session, settings.stream, notices::observer(self))
            .map_err(|error| gst::error_msg!(gst::ResourceError::OpenRead, ("{error}")))
    }

    /// The buffer of a frame, without a copy.
    fn take(&self, taken: CameraFrame, discont: bool) -> Result<CreateSuccess, gst::FlowError> {
        let CameraFrame { frame, caps } = taken;
        let obj = self.obj();
        if obj.src_pad().current_caps().as_ref() != Some(&caps) {
            gst::info!(CAT, imp = self, "the stream is {caps}");
            obj.set_caps(&caps)
                .map_err(|_| gst::FlowError::NotNegotiated)?;
        }
        let running = Running::of(&*obj).ok_or(gst::FlowError::Flushing)?;
        let pts = running.running_time(frame.capture);
        let duration = frame
            .duration
            .and_then(|one| gst::ClockTime::try_from(one).ok());
        let (wall, flags, dts_offset) = (frame.wall, frame.flags, frame.dts_offset);
        let mut buffer = gst::Buffer::from_slice(frame.data);
        let writable = buffer.make_mut();
        writable.set_pts(pts);
        if dts_offset != 0 || flags.discardable {
            writable.set_dts(before(pts, dts_offset));
        }
        writable.set_duration(duration);
        let mut set = gst::BufferFlags::empty();
        set.set(gst::BufferFlags::DELTA_UNIT, !flags.key);
        set.set(gst::BufferFlags::DROPPABLE, flags.discardable);
        set.set(gst::BufferFlags::HEADER, flags.header);
        set.set(gst::BufferFlags::DISCONT, flags.discont || discont);
        writable.set_flags(set);
        let wall = wall.map(Duration::from_micros);
        if let Some(wall) = wall.and_then(|wall| gst::ClockTime::try_from(wall).ok()) {
            gst::ReferenceTimestampMeta::add(writable, &UNIX_TIME, wall, None);
        }
        let mut state = self.state();
        let lasts = duration.or_else(|| pts.checked_sub(state.position?));
        state.frame_duration = lasts.filter(|_| !discont).or(state.frame_duration);
        state.position = Some(pts.saturating_add(duration.unwrap_or_default()));
        Ok(CreateSuccess::NewBuffer(buffer))
    }

    /// Tells downstream and the application that frames are missing.
    fn gap(&self, input: &Input, frames: u32, reason: Missing) {
        let reason = reason.name();
        gst::info!(CAT, imp = self, "{frames} frames are missing: {reason}");
        let obj = self.obj();
        let structure = gst::Structure::builder("camrelay-gap")
            .field("stream", u32::from(self.settings().stream))
            .field("frames", frames)
            .field("reason", reason)
            .field(
                "stats",
                stats::structure(&input.stats(), input.dropped_by_kernel()),
            )
            .build();
        let message = gst::message::Element::builder(structure).src(&*obj).build();
        // There is no bus outside of a pipeline.
        let _ = obj.post_message(message);
        let mut state = self.state();
        let Some(position) = state.position else {
            return;
        };
        let all = |one: gst::ClockTime| one.saturating_mul(frames.into());
        let lasts = state.frame_duration.map(all);
        state.position = Some(position.saturating_add(lasts.unwrap_or_default()));
        drop(state);
        let event = gst::event::Gap::builder(position).duration(lasts).build();
        obj.src_pad().push_event(event);
    }

    /// What the element takes, for messages.
    fn about(&self) -> String {
        let settings = self.settings();
        let camera = settings.camera.as_deref().unwrap_or_default();
        format!(
            "camera '{camera}' at the relay {}:{}",
            settings.host, settings.port
        )
    }

    /// Warns, once for each reason until the session is up again.
    fn warn(&self, code: Code, why: &str) {
        if !self.state().told.is_news(code) {
            gst::debug!(CAT, imp = self, "still waiting: {why}");
            return;
        }
        gst::element_imp_warning!(
            self,
            gst::ResourceError::OpenRead,
            ("Waiting for {}: {why}", self.about())
        );
    }

    /// Posts the one error after which nothing more comes.
    fn fail(&self, reason: &Rejection) {
        let about = self.about();
        match reason.code {
            Code::UnknownKey | Code::NameNotAllowed | Code::SecurityRequired => {
                gst::element_imp_error!(
                    self,
                    gst::ResourceError::NotAuthorized,
                    ("Refused: {about}: {reason}")
                );
            }
            _ => gst::element_imp_error!(
                self,
                gst::ResourceError::Read,
                ("Ended: {about}: {reason}")
            ),
        }
    }
}

fn wrong(why: &str) -> gst::ErrorMessage {
    gst::error_msg!(gst::ResourceError::Settings, ("{why}"))
}

/// `pts` less an offset, which may be negative; `None` where that is before the stream.
fn before(pts: gst::ClockTime, offset: i64) -> Option<gst::ClockTime> {
    let nanoseconds = pts.nseconds().checked_add_signed(offset.checked_neg()?)?;
    gst::ClockTime::try_from(Duration::from_nanos(nanoseconds)).ok()
}
