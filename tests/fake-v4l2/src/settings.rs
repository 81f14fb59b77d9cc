//! What the device is like, from the environment of the program that it is preloaded into.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fs};

/// What the device is like.
pub struct Settings {
    /// `FAKE_V4L2_DEVICE`: its path, `/dev/video42`. Without it there is no device.
    device: Option<OsString>,
    /// `FAKE_V4L2_FORMATS`: what it gives, `YUYV,MJPG` or one of them.
    pub formats: Vec<PixelFormat>,
    /// `FAKE_V4L2_SIZE`: width and height of its pictures, `640x480`.
    pub size: (u32, u32),
    /// `FAKE_V4L2_UNPLUGGED`: a file; while it exists, the device is unplugged.
    unplugged: Option<PathBuf>,
    /// `FAKE_V4L2_FROZEN`: a file; while it exists, no picture comes.
    frozen: Option<PathBuf>,
    /// `FAKE_V4L2_JPEGS`: a file with the pictures of MJPG, in turn: each a length in
    /// bytes (u32, little-endian) and a JPEG.
    jpegs: Option<PathBuf>,
}

/// What the pictures are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// Packed 4:2:2, two bytes a pixel.
    Yuyv,
    /// JPEG.
    Mjpg,
}

/// Frames a second that the device can give, the first one to begin with.
pub const RATES: [u32; 2] = [30, 15];

impl PixelFormat {
    /// The four characters that V4L2 calls it by.
    pub fn fourcc(self) -> u32 {
        u32::from_le_bytes(*match self {
            Self::Yuyv => b"YUYV",
            Self::Mjpg => b"MJPG",
        })
    }
}

/// The settings, read once.
pub fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let formats = env::var("FAKE_V4L2_FORMATS").unwrap_or_else(|_| "YUYV".into());
        let size = env::var("FAKE_V4L2_SIZE").ok();
        let size = size.as_deref().and_then(|size| size.split_once('x'));
        let path = |name: &str| env::var_os(name).map(PathBuf::from);
        Settings {
            device: env::var_os("FAKE_V4L2_DEVICE"),
            formats: formats
                .split(',')
                .map(|name| match name {
                    "MJPG" => PixelFormat::Mjpg,
                    _ => PixelFormat::Yuyv,
                })
                .collect(),
            size: size
                .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)))
                .unwrap_or((640, 480)),
            unplugged: path("FAKE_V4L2_UNPLUGGED"),
            frozen: path("FAKE_V4L2_FROZEN"),
            jpegs: path("FAKE_V4L2_JPEGS"),
        }
    })
}

impl Settings {
    /// Whether `path` is the device's.
    pub fn is_device(&self, path: &CStr) -> bool {
        self.device
            .as_ref()
            .is_some_and(|device| device.as_bytes() == path.to_bytes())
    }

    /// Whether the device is unplugged now.
    pub fn is_unplugged(&self) -> bool {
        self.unplugged.as_ref().is_some_and(|file| file.exists())
    }

    /// Whether the device hangs now.
    pub fn is_frozen(&self) -> bool {
        self.frozen.as_ref().is_some_and(|file| file.exists())
    }

    /// The pictures of MJPG, read once; none where the file is not as it should be.
    pub fn jpegs(&self) -> &'static [Vec<u8>] {
        static JPEGS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        JPEGS.get_or_init(|| {
            let file = self.jpegs.as_ref().and_then(|path| fs::read(path).ok());
            let file = file.unwrap_or_default();
            let mut rest = file.as_slice();
            let mut jpegs = Vec::new();
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*length) as usize;
                let Some((jpeg, after)) = after.split_at_checked(length) else {
                    break;
                };
                jpegs.push(jpeg.to_vec());
                rest = after;
            }
            jpegs
        })
    }
}
