//! gst-launch text made into a bin, and what is wrong with it in words.

use std::collections::BTreeSet;

use gst::prelude::*;

use super::packages;
use crate::config::nearest;

/// What is wrong with a gst-launch text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// The word that is wrong, as it is in the text; `None`: the text as a whole.
    pub word: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl TextError {
    fn whole(message: impl Into<String>) -> Self {
        Self {
            word: None,
            message: message.into(),
        }
    }

    /// Where the word starts in `text`, in bytes; 0 where it is not found.
    pub fn offset_in(&self, text: &str) -> usize {
        let Some(word) = &self.word else { return 0 };
        let part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        text.match_indices(word.as_str())
            .find(|(at, word)| {
                !text[..*at].ends_with(part) && !text[at + word.len()..].starts_with(part)
            })
            .map_or(0, |(at, _)| at)
    }
}

/// The source that `text` describes, with one pad, `src`.
pub fn source(text: &str) -> Result<gst::Bin, Vec<TextError>> {
    // A capsfilter may be the last part of a text only when an element follows.
    let bin = parse(text, &format!("{text} ! identity name={END}"))?;
    if !is_linked(&bin, END, "sink") {
        return Err(vec![TextError::whole(NO_OUTPUT)]);
    }
    Ok(bin)
}

/// The encoder that `text` describes, with a pad `sink` and a pad `src`.
pub fn encoder(text: &str) -> Result<gst::Bin, Vec<TextError>> {
    let whole = format!("identity name={START} ! {text} ! identity name={END}");
    let bin = parse(text, &whole)?;
    if !is_linked(&bin, START, "src") || !is_linked(&bin, END, "sink") {
        return Err(vec![TextError::whole(NO_ENCODER)]);
    }
    Ok(bin)
}

const START: &str = "camera-part-start";
const END: &str = "camera-part-end";
const NO_OUTPUT: &str = "expected a source whose last element has one output that is there from \
    the start (after decodebin, say, add '! videoconvert')";
const NO_ENCODER: &str = "expected an encoder with one input and one output, such as 'jpegenc \
    quality=85'";

/// Whether the pad is linked to another element, rather than being an open end of the bin.
fn is_linked(bin: &gst::Bin, element: &str, pad: &str) -> bool {
    bin.by_name(element)
        .and_then(|element| element.static_pad(pad)?.peer())
        .is_some_and(|peer| peer.type_() != gst::ProxyPad::static_type())
}

/// One element by its name.
pub fn element(name: &str) -> Result<gst::Element, Vec<TextError>> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|_| vec![missing(name)])
}

/// `whole` made into a bin with a pad for each end that is open; messages are about
/// `text`, the part of it that a person wrote.
fn parse(text: &str, whole: &str) -> Result<gst::Bin, Vec<TextError>> {
    let mut context = gst::ParseContext::new();
    let result = gst::parse::bin_from_description_full(
        whole,
        true,
        Some(&mut context),
        gst::ParseFlags::empty(),
    );
    let element = result.map_err(|error| {
        if error.kind::<gst::ParseError>() != Some(gst::ParseError::NoSuchElement) {
            return vec![explain(text, &error)];
        }
        // The context also has the halves of media types, and elements that are
        // there but were given a wrong property.
        let names: BTreeSet<_> = context
            .missing_elements()
            .into_iter()
            .filter(|name| gst::ElementFactory::find(name).is_none())
            .filter(|name| !text.contains(&format!("{name}/")))
            .collect();
        names.iter().map(|name| missing(name)).collect()
    })?;
    element
        .downcast()
        .map_err(|_| vec![TextError::whole("expected elements with '!' between them")])
}

/// There is no such element: not installed, or misspelt.
fn missing(name: &str) -> TextError {
    let advice = match packages::package_of(name) {
        Some(package) => format!("; install it with: sudo apt install {package}"),
        None => {
            let registry = gst::Registry::get();
            let installed = registry.features(gst::ElementFactory::static_type());
            let installed: Vec<_> = installed.iter().map(GstObjectExt::name).collect();
            let mut all: Vec<&str> = installed.iter().map(|name| name.as_str()).collect();
            for element in packages::elements() {
                all.push(element);
            }
            match nearest(name, &all) {
                Some(near) => format!(" (did you mean '{near}'?)"),
                None => "; 'gst-inspect-1.0' lists what there is".into(),
            }
        }
    };
    TextError {
        word: Some(name.to_owned()),
        message: format!("there is no element '{name}'{advice}"),
    }
}

fn explain(text: &str, error: &glib::Error) -> TextError {
    let quoted: Vec<&str> = error.message().split('"').skip(1).step_by(2).collect();
    match (error.kind::<gst::ParseError>(), quoted.as_slice()) {
        (Some(gst::ParseError::NoSuchProperty), [property, element]) => {
            let properties = properties(element);
            let names: Vec<_> = properties.iter().map(|spec| spec.name()).collect();
            let advice = match nearest(property, &names) {
                Some(near) => format!("(did you mean '{near}'?)"),
                None => format!("('gst-inspect-1.0 {element}' lists them)"),
            };
            TextError {
                word: Some((*property).to_owned()),
                message: format!("'{element}' has no property '{property}' {advice}"),
            }
        }
        (Some(gst::ParseError::CouldNotSetProperty), [property, element, value]) => {
            let expected = properties(element)
                .iter()
                .find(|spec| spec.name() == *property)
                .map(expectation)
                .unwrap_or_default();
            TextError {
                word: Some((*property).to_owned()),
                message: format!(
                    "'{value}' is no value of the property '{property}' of '{element}'{expected}"
                ),
            }
        }
        (Some(gst::ParseError::Syntax), _) => TextError {
            word: None,
            message: syntax(text).to_owned(),
        },
        (Some(gst::ParseError::Link), _) if error.message().contains(END) => {
            TextError::whole(NO_OUTPUT)
        }
        (Some(gst::ParseError::Link), _) if error.message().contains(START) => {
            TextError::whole(NO_ENCODER)
        }
        _ => TextError::whole(error.message()),
    }
}

fn properties(element: &str) -> Vec<glib::ParamSpec> {
    gst::ElementFactory::make(element)
        .build()
        .map(|element| element.list_properties().to_vec())
        .unwrap_or_default()
}

/// What a property takes, as the end of a sentence.
fn expectation(spec: &glib::ParamSpec) -> String {
    let kind = spec.value_type();
    match glib::EnumClass::with_type(kind) {
        Some(values) => {
            let nicks: Vec<_> = values.values().iter().map(|value| value.nick()).collect();
            format!("; expected one of {}", nicks.join(", "))
        }
        None => format!("; expected a value of type {}", kind.name()),
    }
}

/// The commonest syntax mistakes in words; GStreamer itself says only "syntax error".
fn syntax(text: &str) -> &'static str {
    let words: Vec<_> = text.split_whitespace().collect();
    if words.first() == Some(&"!") || words.last() == Some(&"!") {
        "expected an element before and after every '!'"
    } else if words.windows(2).any(|pair| pair == ["!", "!"]) {
        "expected an element between '!' and '!'"
    } else if text.matches('"').count() % 2 == 1 {
        "expected a second '\"' after the first"
    } else {
        "expected elements with '!' between them, such as 'v4l2src device=/dev/video0 ! videoflip'"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_error(text: &str, word: Option<&str>, message: &str) {
        gst::init().unwrap();
        let errors = source(text).expect_err(text);
        let expected = TextError {
            word: word.map(str::to_owned),
            message: message.to_owned(),
        };
        assert_eq!(errors, [expected], "{text}");
    }

    #[test]
    fn says_what_is_wrong() {
        assert_error(
            "videotestsrc ! jpgenc",
            Some("jpgenc"),
            "there is no element 'jpgenc' (did you mean 'jpegenc'?)",
        );
        assert_error(
            "videotestsrc patern=ball ! jpegenc",
            Some("patern"),
            "'videotestsrc' has no property 'patern' (did you mean 'pattern'?)",
        );
        assert_error(
            "videotestsrc do-timestamp=maybe",
            Some("do-timestamp"),
            "'maybe' is no value of the property 'do-timestamp' of 'videotestsrc'; expected a value of type gboolean",
        );
        assert_error(
            "v4l2src io-mode=fast",
            Some("io-mode"),
            "'fast' is no value of the property 'io-mode' of 'v4l2src'; expected one of auto, rw, mmap, userptr, dmabuf, dmabuf-import",
        );
        assert_error(
            "videotestsrc ! ! jpegenc",
            None,
            "expected an element between '!' and '!'",
        );
        assert_error(
            "videotestsrc !",
            None,
            "expected an element before and after every '!'",
        );
        assert_error("videotestsrc ! decodebin", None, NO_OUTPUT);
        assert_error("videotestsrc ! fakesink", None, NO_OUTPUT);
    }

    #[test]
    fn names_the_packages_of_all_that_is_missing() {
        gst::init().unwrap();
        let mut absent: Vec<_> = packages::elements()
            .filter(|name| gst::ElementFactory::find(name).is_none())
            .take(2)
            .collect();
        absent.sort_unstable();
        let errors = encoder(&absent.join(" ! ")).unwrap_err();
        let messages: Vec<_> = errors.into_iter().map(|error| error.message).collect();
        let expected: Vec<_> = absent
            .iter()
            .map(|name| {
                let package = packages::package_of(name).unwrap();
                format!("there is no element '{name}'; install it with: sudo apt install {package}")
            })
            .collect();
        assert_eq!(expected.len(), 2, "every element of Debian is installed");
        assert_eq!(messages, expected);
    }

    #[test]
    fn finds_the_word_in_the_text() {
        let error = |word: &str| TextError {
            word: Some(word.to_owned()),
            message: String::new(),
        };
        let text = "mypattern ! videotestsrc pattern=ball";
        assert_eq!(error("pattern").offset_in(text), 25);
        assert_eq!(error("ball").offset_in(text), 33);
        assert_eq!(error("video").offset_in(text), 0);
        assert_eq!(TextError::whole("").offset_in(text), 0);
    }

    #[test]
    fn takes_sources_and_encoders() {
        gst::init().unwrap();
        for text in [
            "videotestsrc is-live=true",
            "videotestsrc is-live=true ! video/x-raw,width=320",
            "videotestsrc ! decodebin ! videoconvert",
        ] {
            assert_eq!(source(text).err(), None, "{text}");
        }
        for text in [
            "jpegenc quality=85",
            "video/x-raw,format=I420 ! jpegenc ! image/jpeg",
        ] {
            assert_eq!(encoder(text).err(), None, "{text}");
        }
        for text in ["videotestsrc", "fakesink", "jpegenc ! fakesink"] {
            assert!(encoder(text).is_err(), "{text}");
        }
    }
}
