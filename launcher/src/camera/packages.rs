//! Which Debian package has an element.

/// A line per package: its name, a colon, its elements; from the field
/// `Gstreamer-Elements` of Debian 12's packages. The last three packages lack it: their
/// lines have what a camera is likely to use.
const PACKAGES: &str = include_str!("debian-packages.txt");

/// The Debian package that has `element`, if one has.
pub fn package_of(element: &str) -> Option<&'static str> {
    packages()
        .find(|(_, elements)| elements.split(", ").any(|name| name == element))
        .map(|(package, _)| package)
}

/// Every element that is in a package.
pub fn elements() -> impl Iterator<Item = &'static str> {
    packages().flat_map(|(_, elements)| elements.split(", "))
}

fn packages() -> impl Iterator<Item = (&'static str, &'static str)> {
    PACKAGES.lines().filter_map(|line| line.split_once(": "))
}

#[cfg(test)]
mod tests {
    use super::package_of;

    #[test]
    fn knows_the_usual_elements() {
        for (element, package) in [
            ("x264enc", Some("gstreamer1.0-plugins-ugly")),
            ("openh264enc", Some("gstreamer1.0-plugins-bad")),
            ("v4l2src", Some("gstreamer1.0-plugins-good")),
            ("videotestsrc", Some("gstreamer1.0-plugins-base")),
            ("avdec_mjpeg", Some("gstreamer1.0-libav")),
            ("libcamerasrc", Some("gstreamer1.0-libcamera")),
            ("videotest", None),
        ] {
            assert_eq!(package_of(element), package, "{element}");
        }
    }
}
