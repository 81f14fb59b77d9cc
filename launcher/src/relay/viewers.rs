//! How many watch a camera, by which way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A way out of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A player.
    Rtsp,
    /// A stream of JPEGs, or the page.
    Http,
    /// The page's large picture.
    WebRtc,
}

/// The viewers of one camera. Clones count together.
#[derive(Clone, Default)]
pub struct Viewers(Arc<[AtomicUsize; 3]>);

/// One viewer; counts until it is dropped.
pub struct Viewing {
    viewers: Viewers,
    way: Way,
}

impl Viewers {
    /// Somebody watches.
    pub fn watch(&self, way: Way) -> Viewing {
        self.0[way as usize].fetch_add(1, Ordering::Relaxed);
        Viewing {
            viewers: self.clone(),
            way,
        }
    }

    /// How many watch.
    pub fn count(&self, way: Way) -> usize {
        self.0[way as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.viewers.0[self.way as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_until_they_leave() {
        let viewers = Viewers::default();
        let one = viewers.watch(Way::Http);
        let _other = viewers.clone().watch(Way::Http);
        assert_eq!(viewers.count(Way::Http), 2);
        assert_eq!(viewers.count(Way::Rtsp), 0);
        drop(one);
        assert_eq!(viewers.count(Way::Http), 1);
    }
}
