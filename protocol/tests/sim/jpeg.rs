//! A camera's encoder, as the plugin drives it.

use path_emulator::Rng;

/// A JPEG encoder: it has whole steps of quality, goes up by three of them at least, and finds out
/// from the pictures that it made how large the next ones get.
pub struct Jpeg {
    /// Bits of a picture at quality 50.
    pub content: f64,
    /// By which power sizes follow the steps.
    power: f64,
    quality: i64,
    /// Logarithm of the bits that a picture of quality 50 seems to have.
    size: Option<f64>,
    pub target: Option<u64>,
    /// Pictures that may be sent, where not all of them may.
    credit: f64,
}

/// Logarithm of the quantisation steps at a quality.
fn step(quality: i64) -> f64 {
    let quality = quality as f64;
    let step = if quality < 50.0 {
        50.0 / quality
    } else {
        2.0 - quality / 50.0
    };
    step.ln()
}

impl Jpeg {
    const BEST: i64 = 90;
    const WORST: i64 = 10;
    /// By which power the camera thinks that sizes follow the steps.
    const BELIEVED: f64 = 0.5;

    pub fn new(content: f64, power: f64) -> Self {
        Self {
            content,
            power,
            quality: Self::BEST,
            size: None,
            target: None,
            credit: 0.0,
        }
    }

    /// The length of the next picture; `None` where it is left out.
    pub fn encode(&mut self, rng: &mut Rng) -> Option<usize> {
        let (real, believed) = (self.power, Self::BELIEVED);
        if let Some((target, size)) = self.target.zip(self.size) {
            let budget = (0.9 * target as f64 / 30.0).ln();
            let wanted = (Self::WORST..=Self::BEST)
                .rev()
                .find(|quality| step(*quality) >= (size - budget) / believed)
                .unwrap_or(Self::WORST);
            let moves = wanted < self.quality || wanted == Self::BEST || wanted >= self.quality + 3;
            self.quality = if moves { wanted } else { self.quality };
            let fits = (budget + believed * step(Self::WORST) - size).exp();
            if !self.admits(fits) {
                return None;
            }
        }
        let wobble = 0.98 + 0.04 * share(rng);
        let bits = self.content * wobble * (-real * step(self.quality)).exp();
        let size = bits.ln() + believed * step(self.quality);
        let mean = self.size.get_or_insert(size);
        *mean += (size - *mean) * if size > *mean { 0.5 } else { 0.1 };
        Some((bits / 8.0) as usize)
    }

    /// Whether a picture is sent where so many of the coarsest ones fit as this share says.
    fn admits(&mut self, share: f64) -> bool {
        if share >= 0.95 {
            self.credit = 0.0;
            return true;
        }
        self.credit += share.max(1.0 / 30.0);
        let admits = self.credit >= 1.0;
        self.credit -= f64::from(u8::from(admits));
        admits
    }
}

/// From 0 to 1.
pub fn share(rng: &mut Rng) -> f64 {
    (rng.next() & 0xffff) as f64 / 65_536.0
}
