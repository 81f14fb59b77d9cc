//! The replay window: each packet number is taken once (as RFC 4303, section 3.4.3).

/// Numbers below the highest that are remembered.
pub(crate) const WINDOW: u64 = 4096;

/// Which packet numbers were taken.
pub(crate) struct ReplayWindow {
    /// One above the highest number taken.
    end: u64,
    /// One bit a number, by its value modulo [`WINDOW`].
    taken: Box<[u64; WINDOW as usize / 64]>,
}

impl ReplayWindow {
    pub(crate) fn new() -> Self {
        Self {
            end: 0,
            taken: Box::new([0; WINDOW as usize / 64]),
        }
    }

    /// Whether a number is new and not too old.
    pub(crate) fn is_new(&self, number: u64) -> bool {
        if number >= self.end {
            return true;
        }
        self.end - number <= WINDOW && self.taken[word(number)] & bit(number) == 0
    }

    /// Whether a number was taken, as far back as is remembered.
    pub(crate) fn has(&self, number: u64) -> bool {
        number < self.end && self.end - number <= WINDOW && !self.is_new(number)
    }

    /// One above the highest number taken.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Takes a number that [`Self::is_new`]. Returns whether it is the highest so far.
    pub(crate) fn take(&mut self, number: u64) -> bool {
        let newest = number >= self.end;
        if newest {
            if number - self.end >= WINDOW {
                self.taken.fill(0);
            } else {
                for passed in self.end..number {
                    self.taken[word(passed)] &= !bit(passed);
                }
            }
            self.end = number + 1;
        }
        self.taken[word(number)] |= bit(number);
        newest
    }
}

fn word(number: u64) -> usize {
    (number % WINDOW / 64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(window: &mut ReplayWindow, number: u64) -> bool {
        let new = window.is_new(number);
        if new {
            window.take(number);
        }
        new
    }

    #[test]
    fn each_number_once_down_to_the_edge() {
        let mut window = ReplayWindow::new();
        assert!(offer(&mut window, 0) && !offer(&mut window, 0));
        assert!(offer(&mut window, 5000));
        assert!(offer(&mut window, 5000 - WINDOW + 1));
        assert!(!offer(&mut window, 5000 - WINDOW + 1));
        assert!(!offer(&mut window, 5000 - WINDOW));
        assert!(offer(&mut window, 4999) && !offer(&mut window, 4999));
    }

    #[test]
    fn agrees_with_a_set() {
        let (mut window, mut seen, mut highest) =
            (ReplayWindow::new(), std::collections::HashSet::new(), 0u64);
        let mut state = 1u64;
        for _ in 0..100_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = (highest + 40)
                .saturating_sub((state >> 33) % 9000 / if state >> 60 == 0 { 1 } else { 100 });
            let expected = number + WINDOW > highest && !seen.contains(&number);
            assert_eq!(
                offer(&mut window, number),
                expected,
                "{number} after {highest}"
            );
            seen.insert(number);
            highest = highest.max(number);
        }
    }
}
