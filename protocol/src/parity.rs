//! How much parity a frame's first flight carries, and how much a repair.
//!
//! A block lost costs [`LOSS_COST`] packets. With `r` repair rounds left and `x` symbols lacking,
//! the cheapest number of symbols to send is found by going back from the last round; the first
//! flight is the number that makes sending it and what follows cheapest. Losses cluster: they
//! follow a chain of two states (Gilbert, "Capacity of a burst-noise channel", 1960) that has the
//! share of packets lost and the correlation of neighbours.

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
/// Symbols of one repair, at most.
const MOST_REPAIRS: usize = 3 * MAX_DEFICIT + 12;
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
        if path.loss > 0.0 && rounds > 0 {
            let mut losses = Losses::new(path);
            let lost: Vec<Vec<f64>> = (0..=MOST_REPAIRS)
                .map(|_| {
                    let distribution = losses.distribution();
                    losses.send();
                    distribution
                })
                .collect();
            for round in 1..=rounds {
                plan.add_round(round == 1, &lost);
            }
        }
        plan
    }

    /// One more round before those that are planned; `lost[n]` is how many of `n` packets are lost.
    fn add_round(&mut self, last: bool, lost: &[Vec<f64>]) {
        // A report that gets lost costs its round; the last one is sent three times.
        let again = self.path.loss + self.path.clustering * (1.0 - self.path.loss);
        let unheard = self.path.loss * if last { again * again } else { 1.0 };
        let round_cost = ROUND_COST + WAITING_COST * self.path.waiting;
        let mut cost = vec![0.0; MAX_DEFICIT + 1];
        let mut repairs = [0; MAX_DEFICIT + 1];
        for x in 1..=MAX_DEFICIT {
            let (count, least) = cheapest((x..).zip(&lost[x..]).map(|(count, lost)| {
                let cost = self.cost_after(x, count, lost);
                (count, cost)
            }));
            cost[x] = round_cost + (1.0 - unheard) * least + unheard * self.cost[x];
            repairs[x] = count as u8;
        }
        self.cost = cost;
        self.repairs.push(repairs);
    }

    /// What it costs to send `count` symbols where `needed` of them must come, and what then
    /// follows; `lost` is how many of them are lost.
    fn cost_after(&self, needed: usize, count: usize, lost: &[f64]) -> f64 {
        // With so many lost one is lacking.
        let one = count - needed + 1;
        let mut follows = 0.0;
        for (lacking, probability) in (1..).zip(&lost[one..]) {
            follows += probability * self.cost[MAX_DEFICIT.min(lacking)];
        }
        count as f64 + follows
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
        let needed = usize::from(k);
        let mut losses = Losses::new(self.path);
        for _ in 0..needed {
            losses.send();
        }
        let (count, _) = cheapest((needed..=255).map(|count| {
            let cost = self.cost_after(needed, count, &losses.distribution());
            losses.send();
            (count, cost)
        }));
        self.first_flights[needed] = count as u8;
        count as u8
    }
}

/// The cheapest of counts that first get cheaper and then dearer.
fn cheapest(costs: impl Iterator<Item = (usize, f64)>) -> (usize, f64) {
    let (mut best, mut worse) = ((0, f64::INFINITY), 0);
    for (count, cost) in costs {
        if cost < best.1 {
            (best, worse) = ((count, cost), 0);
        } else {
            worse += 1;
            if worse > 3 {
                break;
            }
        }
    }
    best
}

/// How many of packets sent one after the other are lost, by Gilbert's chain: a packet's fate
/// depends on that of the one before.
struct Losses {
    /// Probability that a packet is lost after one that came, and after one that was lost.
    after: [f64; 2],
    /// `so_far[fate][n]`: probability that `n` were lost, the last one having come or been lost.
    so_far: [Vec<f64>; 2],
}

impl Losses {
    /// Of no packets yet.
    fn new(path: Path) -> Self {
        let Path {
            loss, clustering, ..
        } = path;
        Self {
            after: [loss * (1.0 - clustering), loss + clustering * (1.0 - loss)],
            so_far: [vec![1.0 - loss], vec![loss]],
        }
    }

    /// One packet more.
    fn send(&mut self) {
        let [came, lost] = &mut self.so_far;
        let (mut came_before, mut lost_before) = (0.0, 0.0);
        came.push(0.0);
        lost.push(0.0);
        for (came, lost) in came.iter_mut().zip(lost) {
            let now = (*came, *lost);
            *came = now.0 * (1.0 - self.after[0]) + now.1 * (1.0 - self.after[1]);
            *lost = came_before * self.after[0] + lost_before * self.after[1];
            (came_before, lost_before) = now;
        }
    }

    /// Probability that none, one, two, … of those sent are lost.
    fn distribution(&self) -> Vec<f64> {
        let [came, lost] = &self.so_far;
        came.iter()
            .zip(lost)
            .map(|(came, lost)| came + lost)
            .collect()
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

    #[test]
    fn losses_have_the_share_and_the_runs_of_the_path() {
        for (loss, clustering) in [(0.05, 0.0), (0.2, 0.0), (0.05, 0.79)] {
            let mut losses = Losses::new(path(loss, clustering, 0));
            for _ in 0..40 {
                losses.send();
            }
            let lost = losses.distribution();
            assert_eq!(lost.len(), 41);
            let mean: f64 = (0..).zip(&lost).map(|(n, p)| f64::from(n) * p).sum();
            assert!((lost.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!((mean - 40.0 * loss).abs() < 1e-9, "{mean}");
            // None is lost where the first comes, and each one after one that came.
            let none = (1.0 - loss) * (1.0 - loss * (1.0 - clustering)).powi(39);
            assert!((lost[0] - none).abs() < 1e-9, "{}", lost[0]);
        }
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
