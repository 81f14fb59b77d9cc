//! How much parity a frame's first flight carries, and how much a repair.
//!
//! A block lost costs [`LOSS_COST`] packets. With `r` repair rounds left and `x` symbols lacking,
//! the cheapest number of symbols to send is found by going back from the last round; the first
//! flight is the number that makes sending it and what follows cheapest. Losses cluster: among
//! `n` packets sent together they follow a beta-binomial law whose intra-class correlation is the
//! mean over all pairs of the correlation of neighbours raised to their distance (Gilbert's chain).

/// What a lost block weighs, in packets.
const LOSS_COST: f64 = 4000.0;
/// What a repair round weighs for the delay that it adds, in packets: so much, and so much more
/// for each frame that waits behind the one repaired. Parity up front is the price of most frames
/// being whole at once.
const ROUND_COST: f64 = 3.0;
const WAITING_COST: f64 = 3.0;
/// Most frames waiting that are taken into account.
const MAX_WAITING: f64 = 10.0;
/// Largest deficit that is tabulated; a larger one is met in proportion.
const MAX_DEFICIT: usize = 48;
/// Repair rounds that are looked ahead.
pub(crate) const MAX_ROUNDS: usize = 4;
/// Loss below which nothing is planned.
const NEGLIGIBLE: f64 = 0.0005;
/// Loss above which no more is believed.
const MAX_LOSS: f64 = 0.6;

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Path {
    /// Share of packets lost, 0 to 1.
    pub(crate) loss: f64,
    /// Correlation of the fates of neighbouring packets, 0 to 1.
    pub(crate) clustering: f64,
    /// Repair rounds that fit before a frame's deadline.
    pub(crate) rounds: usize,
    /// Frames that come while one repair round passes.
    pub(crate) waiting: f64,
}

impl Path {
    fn believed(self) -> Self {
        Self {
            loss: if self.loss < NEGLIGIBLE {
                0.0
            } else {
                self.loss.min(MAX_LOSS)
            },
            clustering: self.clustering.clamp(0.0, 0.95),
            rounds: self.rounds.min(MAX_ROUNDS),
            waiting: self.waiting.clamp(0.0, MAX_WAITING),
        }
    }
}

/// The plan for one state of the path.
pub(crate) struct Plan {
    path: Path,
    /// `repairs[r][x]`: symbols to send for a deficit of `x` with `r` rounds left, this included.
    repairs: Vec<[u8; MAX_DEFICIT + 1]>,
    /// `cost[x]` with all rounds left.
    cost: Vec<f64>,
    first_flights: [u8; 256],
}

impl Plan {
    pub(crate) fn new(path: Path) -> Self {
        let path = path.believed();
        let rounds = path.rounds;
        let mut cost = vec![LOSS_COST; MAX_DEFICIT + 1];
        cost[0] = 0.0;
        let repairs = vec![std::array::from_fn(|x| x as u8)];
        let mut plan = Self {
            path,
            repairs,
            cost,
            first_flights: [0; 256],
        };
        for round in 1..=rounds {
            plan.add_round(round == 1);
        }
        plan
    }

    /// One more round before those that are planned.
    fn add_round(&mut self, last: bool) {
        // A report that gets lost costs its round; the last one is sent three times.
        let again = self.path.loss + self.path.clustering * (1.0 - self.path.loss);
        let unheard = self.path.loss * if last { again * again } else { 1.0 };
        let round_cost = ROUND_COST + WAITING_COST * self.path.waiting;
        let mut cost = vec![0.0; MAX_DEFICIT + 1];
        let mut repairs = [0; MAX_DEFICIT + 1];
        for x in 1..=MAX_DEFICIT {
            let (mut best, mut best_count) = (f64::INFINITY, x);
            let mut worse = 0;
            for count in x..=(3 * x + 12).min(255) {
                let lacking = |lost| x.saturating_sub(count - lost);
                let expected = count as f64
                    + self.mean(count, |lost| self.cost[lacking(lost).min(MAX_DEFICIT)]);
                if expected < best {
                    (best, best_count, worse) = (expected, count, 0);
                } else {
                    worse += 1;
                    if worse > 3 {
                        break;
                    }
                }
            }
            cost[x] = round_cost + (1.0 - unheard) * best + unheard * self.cost[x];
            repairs[x] = best_count as u8;
        }
        self.cost = cost;
        self.repairs.push(repairs);
    }

    /// Whether the plan still holds for these values, to within what is worth planning anew.
    pub(crate) fn fits(&self, path: Path) -> bool {
        let path = path.believed();
        let near = |a: f64, b: f64, floor: f64| (a - b).abs() <= 0.1 * b.max(floor);
        near(path.loss, self.path.loss, 0.002)
            && near(path.clustering, self.path.clustering, 0.5)
            && near(path.waiting, self.path.waiting, 3.0)
            && path.rounds == self.path.rounds
    }

    /// Symbols to send for a deficit of `lacking` with `rounds` left, this one included.
    pub(crate) fn repairs(&self, rounds: usize, lacking: u8) -> u8 {
        let table = &self.repairs[rounds.min(self.repairs.len() - 1)];
        let x = usize::from(lacking);
        match table.get(x) {
            Some(count) => *count,
            None => (x * usize::from(table[MAX_DEFICIT]) / MAX_DEFICIT).min(255) as u8,
        }
    }

    /// Symbols of the first flight of a block of `k`, at most 256 less one.
    pub(crate) fn first_flight(&mut self, k: u8) -> u8 {
        if self.path.loss == 0.0 {
            return k;
        }
        let known = self.first_flights[usize::from(k)];
        if known != 0 {
            return known;
        }
        let (mut best, mut best_count, mut worse) = (f64::INFINITY, usize::from(k), 0);
        for count in usize::from(k)..=255 {
            let cost = self.flight_cost(count, usize::from(k));
            if cost < best {
                (best, best_count, worse) = (cost, count, 0);
            } else {
                worse += 1;
                if worse > 3 {
                    break;
                }
            }
        }
        self.first_flights[usize::from(k)] = best_count as u8;
        best_count as u8
    }

    /// What a first flight of `count` symbols of a block of `k` costs, repairs and losses
    /// included.
    fn flight_cost(&self, count: usize, k: usize) -> f64 {
        let lacking = |lost: usize| lost.saturating_sub(count - k);
        count as f64 + self.mean(count, |lost| self.cost[lacking(lost).min(MAX_DEFICIT)])
    }

    /// The mean of `value(lost)` over how many of `count` packets sent together are lost.
    fn mean(&self, count: usize, value: impl Fn(usize) -> f64) -> f64 {
        let n = count as f64;
        let scale = 1.0 / self.correlation(count).clamp(1e-4, 0.95) - 1.0;
        let (a, b) = (self.path.loss * scale, (1.0 - self.path.loss) * scale);
        let mut probability: f64 = (0..count)
            .map(|i| (b + i as f64) / (a + b + i as f64))
            .product();
        let mut mean = 0.0;
        for lost in 0..=count {
            mean += probability * value(lost);
            let j = lost as f64;
            probability *= (n - j) / (j + 1.0) * (a + j) / (b + n - j - 1.0);
        }
        mean
    }

    /// The mean correlation of all pairs among `count` packets, `sum((n - d) r^d) / (n (n-1) / 2)`.
    fn correlation(&self, count: usize) -> f64 {
        let (n, r) = (count as f64, self.path.clustering);
        if count < 2 {
            return 0.0;
        }
        let sum = r / (1.0 - r) * (n - (1.0 - r.powf(n)) / (1.0 - r));
        sum / (n * (n - 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(loss: f64, clustering: f64, rounds: usize) -> Plan {
        Plan::new(path(loss, clustering, rounds))
    }

    fn parity(loss: f64, rounds: usize) -> f64 {
        let mut plan = plan(loss, 0.0, rounds);
        f64::from(plan.first_flight(26) - 26) / 26.0
    }

    #[test]
    fn a_clean_path_carries_no_parity() {
        for rounds in 0..=4 {
            assert_eq!(parity(0.0, rounds), 0.0);
            assert_eq!(plan(0.0, 0.0, rounds).repairs(1, 3), 3);
        }
    }

    #[test]
    fn without_rounds_it_is_the_erasure_channels_limit() {
        // 26 symbols, at most 1 block in 1000 lost: 23, 38 and 65 %.
        for (loss, limit) in [(0.05, 0.231), (0.10, 0.385), (0.20, 0.654)] {
            let got = parity(loss, 0);
            assert!((limit - 0.01..limit + 0.12).contains(&got), "{loss}: {got}");
        }
    }

    #[test]
    fn rounds_replace_parity() {
        assert!(parity(0.02, 3) < 0.06);
        for loss in [0.05, 0.1, 0.2] {
            let by_rounds: Vec<f64> = (0..=4).map(|rounds| parity(loss, rounds)).collect();
            assert!(by_rounds.is_sorted_by(|a, b| a >= b), "{by_rounds:?}");
            assert!(by_rounds[2] < by_rounds[0] * 0.6, "{by_rounds:?}");
        }
    }

    #[test]
    fn the_last_repair_carries_most_to_spare() {
        let plan = plan(0.1, 0.0, 3);
        for lacking in 1..=60 {
            assert!(plan.repairs(1, lacking) >= plan.repairs(3, lacking));
            assert!(plan.repairs(1, lacking) > lacking);
        }
    }

    #[test]
    fn clustered_losses_ask_for_more() {
        let even = plan(0.05, 0.0, 0).first_flight(26);
        let clustered = plan(0.05, 0.8, 0).first_flight(26);
        assert!(clustered > even + 3, "{even} {clustered}");
    }

    fn path(loss: f64, clustering: f64, rounds: usize) -> Path {
        Path {
            loss,
            clustering,
            rounds,
            waiting: 0.0,
        }
    }

    #[test]
    fn a_plan_holds_until_the_path_changes() {
        let plan = plan(0.05, 0.1, 2);
        assert!(plan.fits(path(0.052, 0.12, 2)));
        assert!(
            !plan.fits(path(0.06, 0.1, 2))
                && !plan.fits(path(0.05, 0.1, 1))
                && !plan.fits(path(0.05, 0.3, 2))
        );
    }
}
