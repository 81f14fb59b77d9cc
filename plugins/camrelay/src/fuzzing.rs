//! The bodies of the fuzz targets of what the elements read: each takes any bytes and panics where a
//! promise is broken. `fuzz/` runs them under libFuzzer; a test here replays the corpus.

use std::sync::Once;

use crate::port::caps;
use crate::uri::CamRelayUri;

/// As many bytes of caps as a peer may send.
const MAX_CAPS: usize = 4096;

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| gst::init().expect("GStreamer is there"));
}

/// Caps: what is taken leaves nothing open, and is read again as it was.
pub fn caps(data: &[u8]) {
    init();
    let data = &data[..data.len().min(MAX_CAPS)];
    // They come as text, without zeros in it.
    let Some(text) = str::from_utf8(data)
        .ok()
        .filter(|text| !text.contains('\0'))
    else {
        return;
    };
    if let Ok(caps) = caps::parse(text) {
        assert!(caps.is_fixed() && caps.size() == 1);
        let _ = caps.to_string();
    }
}

/// URIs: what is read is written as it was.
pub fn uri(data: &[u8]) {
    init();
    let Some(text) = str::from_utf8(data)
        .ok()
        .filter(|text| !text.contains('\0'))
    else {
        return;
    };
    if let Ok(uri) = CamRelayUri::parse(text) {
        let again = CamRelayUri::parse(&uri.to_text());
        assert_eq!(again.ok(), Some(uri));
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn what_the_fuzzer_found_still_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let targets: [super::replay::Target; 2] = [("caps", super::caps), ("uri", super::uri)];
        super::replay::replay(&corpus, &targets);
    }
}
