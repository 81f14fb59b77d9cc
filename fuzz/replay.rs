//! Runs fuzz targets on what the fuzzer found for them.

use std::path::Path;

/// A fuzz target's name and body.
pub type Target = (&'static str, fn(&[u8]));

/// Runs each on every file of its corpus, of which there is at least one.
pub fn replay(corpus: &Path, targets: &[Target]) {
    for (name, target) in targets {
        let mut count = 0;
        for file in std::fs::read_dir(corpus.join(name)).expect(name) {
            let path = file.unwrap().path();
            println!("{}", path.display());
            target(&std::fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "no corpus for {name}");
    }
}
