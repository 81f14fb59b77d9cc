//! What a camera's `source` can be.

use std::fmt;
use std::path::{Path, PathBuf};

use super::table::{Expected, nearest};

/// Where a camera's pictures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A video device, `/dev/video0`.
    Device(PathBuf),
    /// An RTSP camera, `rtsp://…`.
    Rtsp(String),
    /// A media file, shown again and again.
    File(PathBuf),
    /// gst-launch text, `videotestsrc is-live=true ! …`.
    Text(String),
}

impl Source {
    /// Reads the value of `source`; paths of files are relative to `folder`.
    ///
    /// What has a `!` or a `=`, or is a single plain word, is gst-launch text;
    /// the rest is a URI or a path.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Expected> {
        let text = text.trim();
        if let Some((scheme, rest)) = text.split_once("://")
            && scheme.chars().all(|c| c.is_ascii_alphanumeric())
        {
            return uri(text, scheme, rest);
        }
        if text.is_empty() {
            Err(expected())
        } else if text.contains(['!', '=']) || !text.contains(['/', '.']) {
            Ok(Self::Text(text.to_owned()))
        } else if text.starts_with("/dev/") {
            Ok(Self::Device(text.into()))
        } else {
            Ok(Self::File(folder.join(text)))
        }
    }
}

fn uri(text: &str, scheme: &str, rest: &str) -> Result<Source, Expected> {
    match scheme {
        "rtsp" | "rtspt" | "rtspu" | "rtsps" if !rest.is_empty() => Ok(Source::Rtsp(text.into())),
        "file" => match glib::filename_from_uri(text) {
            Ok((path, None)) => Ok(Source::File(path)),
            _ => Err(expected().suggest("file:///path/of/the/file.mp4")),
        },
        // A web address is no misspelling of "rtsp", however near it looks.
        _ => match nearest(scheme, &["rtsp", "file", "http", "https"]) {
            Some(near @ ("rtsp" | "file")) if near != scheme => {
                Err(expected().suggest(format!("{near}://{rest}")))
            }
            _ => Err(expected()),
        },
    }
}

fn expected() -> Expected {
    Expected::new("a device (/dev/video0), an rtsp:// address, a file, or gst-launch text")
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) | Self::File(path) => write!(f, "{}", path.display()),
            Self::Rtsp(text) | Self::Text(text) => f.write_str(&without_passwords(text)),
        }
    }
}

/// A text without the users and passwords of the URIs in it, for log lines.
fn without_passwords(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c == '/' || c.is_whitespace());
        let host = &part[..end.unwrap_or(part.len())];
        let start = host.rfind('@').map_or(0, |at| at + 1);
        shown += "://";
        shown += &part[start..];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_devices_uris_files_and_text_apart() {
        let folder = Path::new("/etc/camrelay");
        for (text, expected) in [
            ("/dev/video0", Source::Device("/dev/video0".into())),
            (
                "/dev/v4l/by-id/usb-cam-index0",
                Source::Device("/dev/v4l/by-id/usb-cam-index0".into()),
            ),
            ("rtsp://cam/1", Source::Rtsp("rtsp://cam/1".into())),
            (
                "a film.mp4",
                Source::File("/etc/camrelay/a film.mp4".into()),
            ),
            ("/tmp/a.mp4", Source::File("/tmp/a.mp4".into())),
            ("file:///tmp/a%20b.mp4", Source::File("/tmp/a b.mp4".into())),
            ("videotestsrc", Source::Text("videotestsrc".into())),
            (
                " v4l2src device=/dev/video0 ",
                Source::Text("v4l2src device=/dev/video0".into()),
            ),
            (
                "rtspsrc location=rtsp://cam/1 ! fakesink",
                Source::Text("rtspsrc location=rtsp://cam/1 ! fakesink".into()),
            ),
        ] {
            assert_eq!(Source::parse(text, folder), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_other_uris() {
        for (text, suggestion) in [
            ("rstp://cam/1", Some("rtsp://cam/1")),
            ("http://cam/1", None),
            (
                "file://host/tmp/a.mp4",
                Some("file:///path/of/the/file.mp4"),
            ),
            ("rtsp://", None),
            ("", None),
        ] {
            let expected = match suggestion {
                Some(suggestion) => expected().suggest(suggestion),
                None => expected(),
            };
            assert_eq!(Source::parse(text, Path::new("")), Err(expected), "{text}");
        }
    }

    #[test]
    fn shows_no_passwords() {
        for (uri, shown) in [
            ("rtsp://user:pa@ss@cam:554/1@2", "rtsp://cam:554/1@2"),
            ("rtsp://cam/1", "rtsp://cam/1"),
            ("rtsp://user:pass@cam", "rtsp://cam"),
        ] {
            assert_eq!(Source::Rtsp(uri.into()).to_string(), shown);
        }
        let text = "rtspsrc location=rtsp://user:pass@cam/1 ! a b=x://y@z ! c";
        let shown = "rtspsrc location=rtsp://cam/1 ! a b=x://z ! c";
        assert_eq!(Source::Text(text.into()).to_string(), shown);
    }
}
