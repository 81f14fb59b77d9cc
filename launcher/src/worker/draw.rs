//! Dims a picture and writes on it.

use anyhow::Context;
use font8x8::UnicodeFonts;
use gst_video::prelude::*;

/// Pixels of a letter, before it is enlarged.
const LETTER: usize = 8;

/// Dims `picture`, planes of 8 bits with luma first, and writes `lines` in its middle.
pub fn placeholder(
    picture: &mut gst::BufferRef,
    info: &gst_video::VideoInfo,
    lines: &[String],
) -> anyhow::Result<()> {
    let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(picture, info)
        .ok()
        .context("no raw picture")?;
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    for plane in 0..frame.n_planes() {
        let bytes = frame.plane_data_mut(plane)?;
        match plane {
            0 => bytes.iter_mut().for_each(|luma| *luma = *luma / 5 * 2 + 8),
            // Half way to grey.
            _ => bytes
                .iter_mut()
                .for_each(|chroma| *chroma = *chroma / 2 + 64),
        }
    }
    let stride = *frame.plane_stride().first().context("no planes")? as usize;
    let luma = frame.plane_data_mut(0)?;
    write(luma, (width, height, stride), lines);
    Ok(())
}

/// Writes lines in the middle of a plane of that width, height and stride.
fn write(luma: &mut [u8], (width, height, stride): (usize, usize, usize), lines: &[String]) {
    let longest = lines.iter().map(|line| line.chars().count()).max();
    let Some(longest) = longest.filter(|longest| *longest > 0) else {
        return;
    };
    let across = width * 9 / 10 / (LETTER * longest);
    let scale = across.min(height / (4 * LETTER * lines.len())).clamp(1, 8);
    // A line and a half for each.
    let step = LETTER * scale * 3 / 2;
    let top = height.saturating_sub(step * lines.len()) / 2;
    for (number, line) in lines.iter().enumerate() {
        let left = width.saturating_sub(line.chars().count() * LETTER * scale) / 2;
        for (place, letter) in line.chars().enumerate() {
            let unknown = || font8x8::BASIC_FONTS.get('?').unwrap_or_default();
            let glyph = font8x8::BASIC_FONTS.get(letter).unwrap_or_else(unknown);
            for (row, bits) in glyph.iter().enumerate() {
                for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                    let x = left + (place * LETTER + column) * scale;
                    let y = top + number * step + row * scale;
                    fill(luma, (width, height, stride), (x, y), scale);
                }
            }
        }
    }
}

/// Fills a square of that side, as far as it is within the plane.
fn fill(
    luma: &mut [u8],
    (width, height, stride): (usize, usize, usize),
    (x, y): (usize, usize),
    side: usize,
) {
    for row in y..(y + side).min(height) {
        let (from, to) = (row * stride + x, row * stride + (x + side).min(width));
        if let Some(pixels) = luma.get_mut(from..to.max(from)) {
            pixels.fill(235);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_written_within_the_picture() {
        for (width, height) in [(1, 1), (16, 16), (64, 48), (320, 240), (4096, 100)] {
            let stride = width + 4;
            let mut luma = vec![0; stride * height];
            let lines = ["door".to_owned(), "no picture since 12:34:56 é".to_owned()];
            write(&mut luma, (width, height, stride), &lines);
            let outside = luma
                .chunks_exact(stride)
                .any(|row| row[width..].iter().any(|pixel| *pixel != 0));
            assert!(!outside, "{width}x{height}");
            let white = luma.iter().filter(|pixel| **pixel == 235).count();
            assert!(white > 0 || width < 64, "{width}x{height}");
        }
        write(&mut [], (0, 0, 0), &[]);
    }

    #[test]
    fn a_picture_is_dimmed() {
        gst::init().expect("GStreamer starts");
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 64, 48);
        let info = info.build().expect("a good size");
        let mut picture = gst::Buffer::from_mut_slice(vec![200_u8; info.size()]);
        placeholder(picture.make_mut(), &info, &[]).expect("it is raw");
        let map = picture.map_readable().expect("readable");
        assert!(map[..64 * 48].iter().all(|luma| *luma == 88));
        assert!(map[64 * 48..].iter().all(|chroma| *chroma == 164));
    }
}
