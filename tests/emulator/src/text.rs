//! Conditions as a person writes them: `loss=5% delay=10ms jitter=15ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Conditions;

/// What can be said, for messages.
const WORDS: &str =
    "delay=10ms, jitter=15ms, loss=5%, burst=5, duplicates=1%, rate=16M, queue=60ms, down, up";
/// Longest delay, jitter or queue: a proxy holds what is under way.
const MAX_TIME: Duration = Duration::from_secs(60);

impl Conditions {
    /// Changes what `text` names and leaves the rest: words as [`FromStr`] takes them.
    ///
    /// # Errors
    /// A sentence about the first word that cannot be understood; nothing is changed then.
    pub fn change(&mut self, text: &str) -> Result<(), String> {
        let mut changed = *self;
        let words = text.split(|c: char| c.is_whitespace() || c == ',');
        for word in words.filter(|word| !word.is_empty()) {
            changed.change_word(word)?;
        }
        *self = changed;
        Ok(())
    }

    fn change_word(&mut self, word: &str) -> Result<(), String> {
        let unknown = || format!("'{word}' is not understood; say {WORDS}");
        let Some((name, value)) = word.split_once('=') else {
            self.down = match word {
                "down" => true,
                "up" => false,
                _ => return Err(unknown()),
            };
            return Ok(());
        };
        match name {
            "delay" => self.delay = time(word, value)?,
            "jitter" => self.jitter = time(word, value)?,
            "loss" => self.loss = share(word, value)?,
            "burst" => self.burst = number(word, value, 1e6)?,
            "duplicates" => self.duplicates = share(word, value)?,
            "rate" => self.rate = rate(word, value)?,
            "queue" => self.queue = time(word, value)?,
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

/// Words such as `loss=5% delay=10ms`, apart by spaces or commas; what is not named is as in
/// [`Conditions::default`]. Shares are percentages, times have a unit, a rate is in bits per
/// second and may end in `k`, `M` or `G`.
impl FromStr for Conditions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut conditions = Self::default();
        conditions.change(text)?;
        Ok(conditions)
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delay={}", humantime::format_duration(self.delay))?;
        if !self.jitter.is_zero() {
            write!(f, " jitter={}", humantime::format_duration(self.jitter))?;
        }
        if self.loss > 0.0 {
            write!(f, " loss={}%", percent(self.loss))?;
        }
        if self.burst > 1.0 {
            write!(f, " burst={}", self.burst)?;
        }
        if self.duplicates > 0.0 {
            write!(f, " duplicates={}%", percent(self.duplicates))?;
        }
        if self.rate > 0 {
            write!(
                f,
                " rate={} queue={}",
                self.rate,
                humantime::format_duration(self.queue)
            )?;
        }
        if self.down {
            write!(f, " down")?;
        }
        Ok(())
    }
}

/// To a thousandth of a percent.
fn percent(share: f64) -> f64 {
    (share * 100_000.0).round() / 1_000.0
}

fn time(word: &str, value: &str) -> Result<Duration, String> {
    humantime::parse_duration(value)
        .ok()
        .filter(|time| *time <= MAX_TIME)
        .ok_or_else(|| format!("'{word}': a time is at most a minute and has a unit, as 10ms"))
}

fn number(word: &str, value: &str, most: f64) -> Result<f64, String> {
    value
        .parse()
        .ok()
        .filter(|number| (0.0..=most).contains(number))
        .ok_or_else(|| format!("'{word}': a number from 0 to {most} is needed"))
}

fn share(word: &str, value: &str) -> Result<f64, String> {
    let percent = value
        .strip_suffix('%')
        .ok_or_else(|| format!("'{word}': a percentage is needed, as 5%"))?;
    Ok(number(word, percent, 100.0)? / 100.0)
}

fn rate(word: &str, value: &str) -> Result<u64, String> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'k') => (&value[..value.len() - 1], 1e3),
        Some(b'M') => (&value[..value.len() - 1], 1e6),
        Some(b'G') => (&value[..value.len() - 1], 1e9),
        _ => (value, 1.0),
    };
    Ok((number(word, digits, 1e12 / unit)? * unit) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_back_as_they_are_written() {
        let text = "delay=10ms jitter=1ms 500us loss=0.125% burst=5 duplicates=1% rate=16000000 \
                    queue=60ms down";
        let conditions: Conditions = text.replace("1ms 500us", "1500us").parse().unwrap();
        assert_eq!(conditions.rate, 16_000_000);
        assert_eq!(conditions.loss, 0.00125);
        assert_eq!(conditions.jitter, Duration::from_micros(1500));
        assert!(conditions.down);
        assert_eq!(conditions.to_string(), text);
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let mut conditions: Conditions = "delay=10ms, loss=5%, down".parse().unwrap();
        conditions.change("loss=0.5% up rate=2.5M").unwrap();
        let expected: Conditions = "delay=10ms loss=0.5% rate=2500k".parse().unwrap();
        assert_eq!(conditions, expected);
        conditions.change("loss=1% nonsense").unwrap_err();
        assert_eq!(conditions, expected);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("los=5%", "'los=5%' is not understood"),
            ("sideways", "'sideways' is not understood"),
            ("loss=5", "'loss=5': a percentage"),
            ("loss=101%", "from 0 to 100"),
            ("loss=NaN%", "from 0 to 100"),
            ("delay=10", "has a unit"),
            ("delay=2h", "at most a minute"),
            ("rate=-1M", "'rate=-1M'"),
            ("rate=M", "'rate=M'"),
        ] {
            let error = text.parse::<Conditions>().unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
