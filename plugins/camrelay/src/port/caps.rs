//! Caps as a peer writes them.

use std::str::FromStr;

/// Deepest nesting of lists and arrays in caps that come from outside.
const MAX_NESTING: usize = 8;

/// Reads caps that come from outside: fixed ones, of system memory, nested no deeper than
/// the parser, which recurses, can take.
pub(crate) fn parse(text: &str) -> Result<gst::Caps, String> {
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
}
