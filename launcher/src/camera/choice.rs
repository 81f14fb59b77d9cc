//! What to do with what a source gives: send it as it is, or encode it.

/// The largest picture, in pixels, that is chosen where the deployment says nothing.
const WIDTH: i32 = 1280;
/// See [`WIDTH`].
const HEIGHT: i32 = 720;
/// The highest frame rate, per second, that is chosen where the deployment says nothing.
const RATE: i32 = 30;
/// From this rate on, pictures move smoothly: a larger picture is chosen before a
/// faster one only at or above it.
const SMOOTH: i32 = 20;

/// What a source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Whole JPEG pictures.
    Jpeg,
    /// H.264 video.
    H264,
    /// H.265 video.
    H265,
    /// Pictures that are not encoded.
    Raw,
    /// Anything else.
    Other,
}

impl Media {
    /// Of the caps of one kind.
    pub fn of(structure: &gst::StructureRef) -> Self {
        match structure.name().as_str() {
            "image/jpeg" => Self::Jpeg,
            "video/x-h264" => Self::H264,
            "video/x-h265" => Self::H265,
            "video/x-raw" => Self::Raw,
            _ => Self::Other,
        }
    }

    /// The parser that gives whole frames with all that a decoder needs, for what has one.
    pub fn parser(self) -> Option<&'static str> {
        match self {
            Self::H264 => Some(H264),
            Self::H265 => Some(H265),
            Self::Jpeg | Self::Raw | Self::Other => None,
        }
    }
}

/// What is done between a source and the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing.
    AsIs,
    /// The parser that gives H.264 or H.265 whole frames with all that a decoder needs.
    Parse(&'static str),
    /// The deployment's own encoder, which takes what the source gives.
    Encode,
    /// The deployment's own encoder, or the chosen one, after a conversion.
    ConvertAndEncode,
    /// A decoder, and what is done with its pictures.
    Decode,
}

/// What comes out of the source, and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What the source is held to; `None`: whatever it gives.
    pub filter: Option<gst::Caps>,
    /// What is done with it.
    pub way: Way,
}

/// Chooses for a source that can give `caps`.
///
/// `encode` are the caps that the deployment's own encoder takes; `None`: it has
/// none, so that whatever is encoded already is sent as it is, JPEG rather than
/// H.264 rather than H.265. `None` is returned when the encoder can take none of `caps`.
pub fn choose(caps: &gst::Caps, encode: Option<&gst::Caps>) -> Option<Choice> {
    let of = |media: Media| -> Option<gst::Caps> {
        // What has a feature is of another memory, or half pictures (interlaced).
        let caps: gst::Caps = caps
            .iter_with_features()
            .filter(|(structure, features)| {
                Media::of(structure) == media
                    && features.is_equal(&gst::CAPS_FEATURES_MEMORY_SYSTEM_MEMORY)
            })
            .map(|(structure, _)| structure.to_owned())
            .collect();
        (!caps.is_empty()).then_some(caps)
    };
    if caps.is_any() {
        let way = encode.map_or(Way::AsIs, |_| Way::Encode);
        return Some(Choice { filter: None, way });
    }
    let raw = of(Media::Raw);
    if let Some(encode) = encode {
        let takes_raw = encode.can_intersect(&gst::Caps::new_empty_simple("video/x-raw"));
        if let (Some(raw), true) = (&raw, takes_raw) {
            return Some(Choice {
                filter: Some(raw.clone()),
                way: Way::ConvertAndEncode,
            });
        }
        let taken = caps.intersect(encode);
        return if !taken.is_empty() {
            Some(Choice {
                filter: Some(taken),
                way: Way::Encode,
            })
        } else if takes_raw {
            Some(Choice {
                filter: None,
                way: Way::Decode,
            })
        } else {
            None
        };
    }
    for media in [Media::Jpeg, Media::H264, Media::H265, Media::Raw] {
        if let Some(caps) = of(media) {
            let way = match (media, media.parser()) {
                (_, Some(parser)) => Way::Parse(parser),
                (Media::Raw, None) => Way::ConvertAndEncode,
                _ => Way::AsIs,
            };
            return Some(Choice {
                filter: Some(caps),
                way,
            });
        }
    }
    Some(Choice {
        filter: None,
        way: Way::AsIs,
    })
}

const H264: &str =
    "h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au";
const H265: &str =
    "h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream,alignment=au";

/// The best reasonable mode of a device that has `modes`: up to 1280x720 at 30
/// frames a second, moving smoothly rather than large, large rather than small.
/// Where every mode is larger, the smallest.
pub fn best_mode(modes: &gst::Caps) -> gst::Caps {
    // The last of equals is taken; devices have their favourites first.
    let structures: Vec<_> = modes.iter().collect();
    let best = structures
        .into_iter()
        .rev()
        .map(|mode| {
            let mut mode = mode.to_owned();
            mode.fixate_field_nearest_int("width", WIDTH);
            mode.fixate_field_nearest_int("height", HEIGHT);
            mode.fixate_field_nearest_fraction("framerate", gst::Fraction::new(RATE, 1));
            mode
        })
        .max_by_key(|mode| {
            let size = |field| i64::from(mode.get::<i32>(field).unwrap_or(0));
            let (width, height) = (size("width"), size("height"));
            let fits = width <= i64::from(WIDTH) && height <= i64::from(HEIGHT);
            let area = width * height;
            let rate = mode.get::<gst::Fraction>("framerate").map_or(0.0, |rate| {
                f64::from(rate.numer()) / f64::from(rate.denom())
            });
            let smooth = rate >= f64::from(SMOOTH);
            let near = -(rate - f64::from(RATE)).abs() * 1000.0;
            (
                fits,
                fits && smooth,
                if fits { area } else { -area },
                near as i64,
            )
        });
    best.map_or_else(|| modes.clone(), |mode| gst::Caps::from_iter([mode]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(text: &str) -> gst::Caps {
        gst::init().unwrap();
        text.parse().unwrap()
    }

    #[test]
    fn sends_what_is_encoded_as_it_is() {
        for (given, filter, way) in [
            (
                "video/x-raw,width=640;video/x-h264,width=1920;image/jpeg,width=640",
                Some("image/jpeg,width=640"),
                Way::AsIs,
            ),
            (
                "video/x-raw,width=640;video/x-h265;video/x-h264,width=1920",
                Some("video/x-h264,width=1920"),
                Way::Parse(H264),
            ),
            ("video/x-h265", Some("video/x-h265"), Way::Parse(H265)),
            (
                "video/x-bayer;video/x-raw,width=640",
                Some("video/x-raw,width=640"),
                Way::ConvertAndEncode,
            ),
            (
                "video/x-raw(format:Interlaced),width=720;video/x-raw,width=640",
                Some("video/x-raw,width=640"),
                Way::ConvertAndEncode,
            ),
            ("video/x-vp8", None, Way::AsIs),
            ("ANY", None, Way::AsIs),
        ] {
            let filter = filter.map(caps);
            assert_eq!(
                choose(&caps(given), None),
                Some(Choice { filter, way }),
                "{given}"
            );
        }
    }

    #[test]
    fn gives_the_encoder_what_it_takes() {
        let raw = "video/x-raw,format=I420";
        for (given, encode, expected) in [
            (
                "image/jpeg;video/x-raw,format=YUY2",
                raw,
                Some((Some("video/x-raw,format=YUY2"), Way::ConvertAndEncode)),
            ),
            ("image/jpeg", raw, Some((None, Way::Decode))),
            (
                "image/jpeg,width=640;video/x-raw",
                "image/jpeg",
                Some((Some("image/jpeg,width=640"), Way::Encode)),
            ),
            ("ANY", raw, Some((None, Way::Encode))),
            ("video/x-raw", "video/x-h264", None),
        ] {
            let expected = expected.map(|(filter, way)| Choice {
                filter: filter.map(caps),
                way,
            });
            assert_eq!(
                choose(&caps(given), Some(&caps(encode))),
                expected,
                "{given} to {encode}"
            );
        }
    }

    #[test]
    fn takes_the_best_reasonable_mode() {
        for (modes, expected) in [
            // A usual webcam, largest first.
            (
                "image/jpeg,width=1920,height=1080,framerate={30/1,15/1};\
                 image/jpeg,width=1280,height=720,framerate={60/1,30/1,15/1};\
                 image/jpeg,width=640,height=480,framerate=30/1",
                "image/jpeg,width=1280,height=720,framerate=30/1",
            ),
            // Slow where it is large, as YUYV over USB 2.
            (
                "video/x-raw,width=1280,height=720,framerate=10/1;\
                 video/x-raw,width=640,height=480,framerate={30/1,15/1}",
                "video/x-raw,width=640,height=480,framerate=30/1",
            ),
            // Only larger ones.
            (
                "image/jpeg,width=3840,height=2160,framerate=30/1;\
                 image/jpeg,width=1920,height=1080,framerate=30/1",
                "image/jpeg,width=1920,height=1080,framerate=30/1",
            ),
            // Only faster ones.
            (
                "image/jpeg,width=640,height=480,framerate={120/1,60/1}",
                "image/jpeg,width=640,height=480,framerate=60/1",
            ),
            // Any size in steps.
            (
                "video/x-raw,width=[32,2592,2],height=[32,1944,2],framerate=[1/1,90/1]",
                "video/x-raw,width=1280,height=720,framerate=30/1",
            ),
            // The same twice: the first.
            (
                "video/x-raw,format=YUY2,width=640,height=480,framerate=30/1;\
                 video/x-raw,format=NV12,width=640,height=480,framerate=30/1",
                "video/x-raw,format=YUY2,width=640,height=480,framerate=30/1",
            ),
            // No size at all.
            ("image/jpeg", "image/jpeg"),
        ] {
            assert_eq!(best_mode(&caps(modes)), caps(expected), "{modes}");
        }
    }
}
