//! The conditions under which hops are compared.

use std::time::Duration;

use path_emulator::Conditions;

/// Room for scheduling beyond what the path and the budget take: SRT hands over in steps of
/// about this.
pub(crate) const SLACK: Duration = Duration::from_millis(10);
/// IPv4 and UDP headers, in bytes.
pub(crate) const HEADERS: u64 = 28;

/// A path and a budget.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Both directions.
    pub(crate) path: Conditions,
    /// The `latency` given to every element.
    pub(crate) budget: Duration,
    /// Least repair that any scheme needs for at most one frame in a thousand lost, as a share
    /// of the frames' bytes.
    pub(crate) limit: f64,
}

/// Name, conditions, budget in ms, and least repair in percent for 26 packets a frame and the
/// rounds of repair that fit (independent losses).
const TABLE: [(&str, &str, u64, f64); 11] = [
    ("A", "delay=10ms loss=5%", 60, 5.5),
    ("B", "delay=10ms loss=5%", 120, 5.3),
    ("C", "delay=20ms loss=10%", 120, 12.5),
    ("D", "delay=20ms loss=20%", 250, 25.0),
    ("E", "delay=20ms loss=5% burst=5", 120, 5.5),
    ("F", "delay=100ms loss=5%", 250, 8.2),
    ("G", "delay=100ms loss=5%", 150, 23.1),
    ("H", "delay=50ms loss=2%", 120, 3.6),
    ("I", "delay=10ms loss=1%", 20, 11.5),
    ("J", "delay=10ms jitter=15ms", 40, 0.0),
    ("K", "delay=10ms rate=16M queue=60ms", 60, 0.0),
];

impl Case {
    /// A case of the table by its letter.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let (name, path, budget, limit) = TABLE
            .into_iter()
            .find(|(letter, ..)| letter.eq_ignore_ascii_case(name))?;
        Some(Self {
            name: name.into(),
            path: path.parse().ok()?,
            budget: Duration::from_millis(budget),
            limit: limit / 100.0,
        })
    }

    /// Every case of the table.
    pub(crate) fn all() -> Vec<Self> {
        let names = TABLE.iter().map(|(name, ..)| *name);
        names.filter_map(Self::named).collect()
    }

    /// Any other path.
    pub(crate) fn of(path: Conditions, budget: Duration) -> Self {
        Self {
            name: "-".into(),
            path,
            budget,
            limit: path.loss / (1.0 - path.loss),
        }
    }

    /// How long the bottleneck takes for a frame of `size` bytes.
    pub(crate) fn serialisation(&self, size: usize) -> Duration {
        let packets = size.div_ceil(1200) as u64;
        let bits = (size as u64 + packets * HEADERS) * 8;
        let nanos = (bits * 1_000_000_000).checked_div(self.path.rate);
        Duration::from_nanos(nanos.unwrap_or(0))
    }

    /// The delay of a frame of `size` bytes that nothing holds up.
    pub(crate) fn least_delay(&self, size: usize) -> Duration {
        self.path.delay + self.serialisation(size)
    }

    /// The delay up to which a frame of `size` bytes is on time.
    pub(crate) fn deadline(&self, size: usize) -> Duration {
        self.least_delay(size) + self.path.jitter + self.budget + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_understood() {
        let cases = Case::all();
        assert_eq!(cases.len(), TABLE.len());
        let k = Case::named("k").unwrap();
        assert_eq!(k.path.rate, 16_000_000);
        // 50 kB and the headers of 42 packets at 16 Mbit/s.
        assert_eq!(k.serialisation(50_000), Duration::from_micros(25_588));
        assert_eq!(k.deadline(50_000), Duration::from_micros(105_588));
    }
}
