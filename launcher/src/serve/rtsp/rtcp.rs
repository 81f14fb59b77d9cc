//! Sender reports (RFC 3550, section 6.4.1): they tell a player which moment its
//! packets' times mean, so that picture and sound fit together.

use std::time::{Duration, SystemTime};

/// How often they go out.
pub const INTERVAL: Duration = Duration::from_secs(5);

const SENDER_REPORT: u8 = 200;
const SOURCE_DESCRIPTION: u8 = 202;
const CNAME: u8 = 1;
/// Seconds from 1900, where NTP begins, to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;

/// What a report says about one stream of one viewer.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Its synchronisation source.
    pub ssrc: u32,
    /// The moment of the report, and the same on the stream's RTP clock.
    pub now: (SystemTime, u32),
    /// Packets sent.
    pub packets: u32,
    /// What they carried, in bytes.
    pub octets: u32,
}

impl Report {
    /// The report with the name of its sender (section 6.5.1), the same for all streams
    /// that belong together.
    pub fn to_bytes(self, name: &str) -> Vec<u8> {
        let since = self
            .now
            .0
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = (since.as_secs() + NTP_EPOCH) as u32;
        let fraction = ((u64::from(since.subsec_nanos()) << 32) / 1_000_000_000) as u32;
        let words = [
            self.ssrc,
            seconds,
            fraction,
            self.now.1,
            self.packets,
            self.octets,
        ];
        let mut bytes = vec![0x80, SENDER_REPORT, 0, words.len() as u8];
        bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));

        let name = &name.as_bytes()[..name.len().min(255)];
        let mut item = self.ssrc.to_be_bytes().to_vec();
        item.extend([CNAME, name.len() as u8]);
        item.extend(name);
        // At least one zero ends the list, and words are whole.
        item.resize((item.len() + 4) / 4 * 4, 0);
        bytes.extend([0x81, SOURCE_DESCRIPTION, 0, (item.len() / 4) as u8]);
        bytes.extend(item);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_moment_a_time_means() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        let report = Report {
            ssrc: 0x0102_0304,
            now: (moment, 90_000),
            packets: 7,
            octets: 9_000,
        };
        for (name, words) in [("abc", 3), ("abcdef", 4)] {
            let bytes = report.to_bytes(name);
            let word = |at: usize| u32::from_be_bytes(*bytes[at..].first_chunk().expect("four"));
            assert_eq!(bytes[..4], [0x80, 200, 0, 6]);
            assert_eq!(word(4), 0x0102_0304);
            assert_eq!(u64::from(word(8)), 1 + NTP_EPOCH);
            assert_eq!(word(12), 1 << 31);
            assert_eq!([word(16), word(20), word(24)], [90_000, 7, 9_000]);
            assert_eq!(bytes[28..32], [0x81, 202, 0, words]);
            assert_eq!(bytes.len(), 32 + 4 * usize::from(words));
            assert_eq!(&bytes[38..38 + name.len()], name.as_bytes());
            assert_eq!(bytes.last(), Some(&0));
        }
    }
}
