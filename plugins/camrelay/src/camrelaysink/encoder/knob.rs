//! The property of an encoder that says how much it makes of a picture.

use gst::glib;
use gst::prelude::*;

/// What a knob turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Quality from 0 to 100, as of libjpeg.
    Quality,
    /// A bitrate; 0 leaves it to the encoder.
    Bitrate,
}

/// The quality that a V4L2 driver is taken to have where none is set, as most have.
const DRIVERS_QUALITY: i64 = 80;

/// A property of an encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Knob {
    kind: Kind,
    property: &'static str,
    /// The field of a structure that the property is.
    field: Option<&'static str>,
    /// Bits per second of one step.
    unit: u64,
}

impl Knob {
    /// The knob of an encoder, where it has one that is known.
    pub(super) fn of(encoder: &gst::Element) -> Option<Self> {
        let jpeg = makes_jpeg(encoder);
        if encoder.has_property_with_type("extra-controls", gst::Structure::static_type()) {
            // The drivers' names, by V4L2_CID_JPEG_COMPRESSION_QUALITY and V4L2_CID_MPEG_VIDEO_BITRATE.
            let (kind, field) = match jpeg {
                true => (Kind::Quality, "compression_quality"),
                false => (Kind::Bitrate, "video_bitrate"),
            };
            return Some(Self {
                kind,
                property: "extra-controls",
                field: Some(field),
                unit: 1,
            });
        }
        let plain = |kind, property, unit| Self {
            kind,
            property,
            field: None,
            unit,
        };
        if jpeg {
            let spec = encoder.find_property("quality")?;
            return is_number(&spec).then(|| plain(Kind::Quality, "quality", 1));
        }
        ["target-bitrate", "bitrate"].into_iter().find_map(|name| {
            let spec = encoder.find_property(name)?;
            let unit = unit_of(spec.blurb()?)?;
            is_number(&spec).then(|| plain(Kind::Bitrate, name, unit))
        })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Bits per second of one step of a bitrate.
    pub(super) fn unit(&self) -> u64 {
        self.unit
    }

    /// Whether a bitrate of 0 makes the encoder choose one while it runs. A V4L2 driver keeps the last
    /// one that it was given.
    pub(super) fn zero_is_automatic(&self) -> bool {
        self.field.is_none()
    }

    /// What it is set to. A field of a structure that is not there is [`DRIVERS_QUALITY`], or a bitrate of 0.
    pub(super) fn get(&self, encoder: &gst::Element) -> Option<i64> {
        let value = encoder.property_value(self.property);
        let Some(field) = self.field else {
            return value.transform::<i64>().ok()?.get().ok();
        };
        let structure = value.get::<Option<gst::Structure>>().ok()?;
        let set = structure.and_then(|structure| structure.get::<i32>(field).ok());
        let unset = match self.kind {
            Kind::Quality => DRIVERS_QUALITY,
            Kind::Bitrate => 0,
        };
        Some(set.map_or(unset, i64::from))
    }

    /// Sets it, as far as its range goes.
    pub(super) fn set(&self, encoder: &gst::Element, value: i64) {
        if let Some(field) = self.field {
            let structure = encoder.property::<Option<gst::Structure>>(self.property);
            let mut structure = structure.unwrap_or_else(|| gst::Structure::new_empty("controls"));
            match (self.kind, value) {
                (Kind::Bitrate, 0) => structure.remove_field(field),
                _ => structure.set(field, i32::try_from(value).unwrap_or(i32::MAX)),
            }
            encoder.set_property(self.property, structure);
            return;
        }
        if let Some(spec) = encoder.find_property(self.property)
            && let Some(value) = value_in_range(&spec, value)
        {
            encoder.set_property_from_value(self.property, &value);
        }
    }
}

/// The value of the property's type that is nearest.
fn value_in_range(spec: &glib::ParamSpec, value: i64) -> Option<glib::Value> {
    let unsigned = value.max(0) as u64;
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt>() {
        let (least, most) = (spec.minimum().into(), spec.maximum().into());
        Some((value.clamp(least, most) as i32).to_value())
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
        let (least, most) = (spec.minimum().into(), spec.maximum().into());
        Some((unsigned.clamp(least, most) as u32).to_value())
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt64>() {
        Some(value.clamp(spec.minimum(), spec.maximum()).to_value())
    } else {
        let spec = spec.downcast_ref::<glib::ParamSpecUInt64>()?;
        Some(unsigned.clamp(spec.minimum(), spec.maximum()).to_value())
    }
}

fn is_number(spec: &glib::ParamSpec) -> bool {
    spec.flags().contains(glib::ParamFlags::READWRITE) && value_in_range(spec, 0).is_some()
}

/// Whether an encoder makes JPEG and nothing else.
fn makes_jpeg(encoder: &gst::Element) -> bool {
    let caps = encoder.static_pad("src").map(|pad| pad.pad_template_caps());
    caps.is_some_and(|caps| {
        !caps.is_empty() && !caps.is_any() && caps.iter().all(|one| one.name() == "image/jpeg")
    })
}

/// Bits per second of one step of a property with this description.
fn unit_of(blurb: &str) -> Option<u64> {
    let blurb = blurb.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| blurb.contains(word));
    if says(&["kbit", "kbps", "kilobit"]) {
        Some(1000)
    } else {
        says(&["bit/s", "bits/s", "bps", "bits per second"]).then_some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_have_knobs() {
        gst::init().unwrap();
        for (name, kind, property, unit) in [
            ("jpegenc", Kind::Quality, "quality", 1),
            ("openh264enc", Kind::Bitrate, "bitrate", 1),
            ("vp8enc", Kind::Bitrate, "target-bitrate", 1),
            ("x265enc", Kind::Bitrate, "bitrate", 1000),
            ("av1enc", Kind::Bitrate, "target-bitrate", 1000),
        ] {
            let encoder = gst::ElementFactory::make(name).build().unwrap();
            let knob = Knob::of(&encoder).unwrap();
            assert_eq!(
                (knob.kind, knob.property, knob.unit),
                (kind, property, unit)
            );
            let before = knob.get(&encoder).unwrap();
            // Some round to thousands.
            let other = before / 2 / unit.max(1000) as i64 * 1000 + 10;
            knob.set(&encoder, other);
            let off = knob.get(&encoder).unwrap().abs_diff(other);
            assert!(off < 1000 && knob.get(&encoder) != Some(before), "{name}");
            // Beyond the range there is its end.
            knob.set(&encoder, i64::MAX / 2);
            knob.set(&encoder, before);
            assert_eq!(knob.get(&encoder), Some(before), "{name}");
        }
    }

    /// An encoder as those of V4L2 are seen.
    mod driver {
        use std::sync::Mutex;

        use gst::glib;
        use gst::prelude::*;
        use gst::subclass::prelude::*;

        #[derive(Default)]
        pub struct Driver(Mutex<Option<gst::Structure>>);

        #[glib::object_subclass]
        impl ObjectSubclass for Driver {
            const NAME: &'static str = "CamrelayTestDriver";
            type Type = super::Driver;
            type ParentType = gst::Element;
        }

        impl ObjectImpl for Driver {
            fn properties() -> &'static [glib::ParamSpec] {
                static PROPERTIES: std::sync::OnceLock<[glib::ParamSpec; 1]> =
                    std::sync::OnceLock::new();
                PROPERTIES.get_or_init(|| {
                    [glib::ParamSpecBoxed::builder::<gst::Structure>("extra-controls").build()]
                })
            }

            fn set_property(&self, _id: usize, value: &glib::Value, _spec: &glib::ParamSpec) {
                *self.0.lock().unwrap() = value.get().unwrap();
            }

            fn property(&self, _id: usize, _spec: &glib::ParamSpec) -> glib::Value {
                self.0.lock().unwrap().to_value()
            }
        }

        impl GstObjectImpl for Driver {}
        impl ElementImpl for Driver {}
    }

    glib::wrapper! {
        pub struct Driver(ObjectSubclass<driver::Driver>) @extends gst::Element, gst::Object;
    }

    #[test]
    fn a_driver_is_never_given_a_bitrate_of_nothing() {
        gst::init().unwrap();
        let encoder = glib::Object::new::<Driver>().upcast::<gst::Element>();
        let other = gst::Structure::builder("controls").field("h264_profile", 4);
        encoder.set_property("extra-controls", other.build());
        let controls = || encoder.property::<gst::Structure>("extra-controls");
        let knob = Knob::of(&encoder).unwrap();
        assert_eq!((knob.kind(), knob.unit()), (Kind::Bitrate, 1));
        assert!(!knob.zero_is_automatic());
        assert_eq!(knob.get(&encoder), Some(0));
        knob.set(&encoder, 900_000);
        assert_eq!(controls().get::<i32>("video_bitrate"), Ok(900_000));
        assert_eq!(knob.get(&encoder), Some(900_000));
        knob.set(&encoder, 0);
        assert!(!controls().has_field("video_bitrate"), "{}", controls());
        assert_eq!(controls().get::<i32>("h264_profile"), Ok(4));
    }

    #[test]
    fn the_unit_is_what_the_encoder_says() {
        for (blurb, unit) in [
            ("Bitrate in kbit/sec", Some(1000)),
            (
                "The desired bitrate expressed in kbps (0: auto-calculate)",
                Some(1000),
            ),
            ("Target bitrate (in bits/sec)", Some(1)),
            ("Bitrate (in bits per second)", Some(1)),
            ("How well it looks", None),
        ] {
            assert_eq!(unit_of(blurb), unit, "{blurb}");
        }
    }
}
