//! Caps as a peer writes them.

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::glib;

/// Deepest nesting of lists and arrays in caps that come from outside.
const MAX_NESTING: usize = 8;

/// Names in caps that this process did not know before and was told from outside, at most: GLib
/// keeps each for as long as the process lives.
const MAX_NEW_NAMES: usize = 1024;
/// Bytes of such a name, at most.
const MAX_NAME: usize = 64;
static NEW_NAMES: AtomicUsize = AtomicUsize::new(0);

/// Reads caps that come from outside: fixed ones, of system memory, nested no deeper than
/// the parser, which recurses, can take, and without names that nobody knows.
pub(crate) fn parse(text: &str) -> Result<gst::Caps, String> {
    admit(text, &NEW_NAMES)?;
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'{' | b'<' | b'[' => depth += 1,
            b'}' | b'>' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err("its caps are nested too deeply".into());
        }
    }
    let caps = gst::Caps::from_str(text).map_err(|_| format!("its caps cannot be read: {text}"))?;
    let memory = caps.features(0);
    if memory.is_some_and(|memory| !memory.is_equal(&gst::CAPS_FEATURES_MEMORY_SYSTEM_MEMORY)) {
        return Err(format!("its memory is another machine's: {text}"));
    }
    if !caps.is_fixed() {
        return Err(format!("its caps leave something open: {text}"));
    }
    Ok(caps)
}

/// Lets new names pass as long as there are few: what stands before the first comma, and before each
/// `=`. Values that are caps themselves are told with escapes, and not taken.
fn admit(text: &str, new: &AtomicUsize) -> Result<(), String> {
    if text.contains('\\') {
        return Err(format!("its caps have escapes: {text}"));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-+/:.".contains(c);
    let (head, fields) = text.split_once(',').unwrap_or((text, ""));
    let mut fields: Vec<&str> = fields.split('=').collect();
    // A value follows the last one.
    fields.pop();
    let fields = fields
        .iter()
        .filter_map(|before| before.trim_end().rsplit(|c| !is_name(c)).next());
    let names = head.split(|c| !is_name(c)).chain(fields);
    let is_new = |name: &&str| !name.is_empty() && glib::Quark::try_from_str(name).is_none();
    for name in names.filter(is_new) {
        if name.len() > MAX_NAME {
            return Err(format!("its caps have a name of {} bytes", name.len()));
        }
        if new.fetch_add(1, Ordering::Relaxed) >= MAX_NEW_NAMES {
            return Err(format!(
                "its caps name what this relay does not know: '{name}'"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_from_outside_are_checked() {
        gst::init().unwrap();
        let nested = |depth: usize| {
            let (open, close) = ("< ".repeat(depth), " >".repeat(depth));
            format!("a/b, x=(int){open}1{close}")
        };
        for good in [
            "image/jpeg",
            "video/x-h264, codec_data=(buffer)0164001f, framerate=(fraction)30/1",
            "video/x-raw(memory:SystemMemory), width=(int)16",
            &nested(2),
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ANY",
            "EMPTY",
            "no caps at all, really",
            "image/jpeg; image/png",
            "video/x-raw, width=[ 1, 100 ]",
            "video/x-raw(memory:DMABuf), width=(int)16",
            &nested(MAX_NESTING + 1),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn few_names_are_new() {
        gst::init().unwrap();
        let new = AtomicUsize::new(0);
        let known = "video/x-h264(memory:SystemMemory), width=(int)640 , codec_data=(buffer)abcdef, profile=high-4:2:2";
        gst::Caps::from_str(known).unwrap();
        for number in 0..MAX_NEW_NAMES / 2 {
            admit(known, &new).unwrap();
            let fresh = format!("video/x-h264, fresh-a{number} =(int)1,fresh-b{number}=x");
            admit(&fresh, &new).unwrap();
        }
        admit(known, &new).unwrap();
        for bad in [
            "video/x-new",
            "video/x-h264, new=1",
            "video/x-h264(memory:New), width=1",
        ] {
            assert!(admit(bad, &new).is_err(), "{bad}");
        }
        new.store(0, Ordering::Relaxed);
        let escaped = r#"a/b, c=(structure)"d\,\ \145=1;""#;
        let long = format!("a/b, {}=1", "c".repeat(MAX_NAME + 1));
        assert!(admit(escaped, &new).is_err() && admit(&long, &new).is_err());
    }
}
