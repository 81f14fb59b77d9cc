//! How much parity a frame's first flight carries, and how much a repair.
//!
//! A block lost costs some thousand packets, a repair round some. With `r` rounds left and `x`
//! symbols lacking, the cheapest number of symbols to send is found by going back from the last
//! round. The first flight is the number that makes sending it and what follows cheapest, within
//! two bounds: where repairs come in time, parity that most frames do not need saves waiting alone,
//! and little is spent on that; but at least half of the frames are to wait for nothing. Losses
//! cluster: they follow a chain of two states (Gilbert, "Capacity of a burst-noise channel", 1960)
//! that has the share of packets lost and the correlation of neighbours.

use std::collections::BTreeMap;

use crate::loss::CLUSTERED;

/// What a lost block may weigh, in packets: the least that has no more blocks of [`TYPICAL`]
/// symbols lost than [`MAY_BE_LOST`], or the last one.
const LOSS_COSTS: [f64; 3] = [1000.0, 2000.0, 4000.0];
const TYPICAL: usize = 32;
const MAY_BE_LOST: f64 = 0.001;
/// What a repair round weighs for the delay that it adds, in packets: so much, and so much more
/// for each frame that waits behind the one repaired.
const ROUND_COST: f64 = 3.0;
const WAITING_COST: f64 = 3.0;
/// Most frames waiting that are taken into account.
const MAX_WAITING: f64 = 10.0;
/// Share of frames that are to wait neither for a repair nor for another frame's.
const UNDELAYED: f64 = 0.55;
/// Symbols of a first flight that come and are not needed, as a share of those needed, where all
/// that they save is waiting.
const WASTED: f64 = 0.03;
/// Reports that may be heard of in a round; of the last one; and of each where losses cluster.
const REPORTS: [i32; 3] = [2, 4, 8];
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
    /// Frames that wait behind one that takes a repair round, and as many more behind one that
    /// takes two.
    pub(crate) waiting: [f64; 2],
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
            waiting: self.waiting.map(|frames| frames.clamp(0.0, MAX_WAITING)),
        }
    }
}

/// The plan for one state of the path.
pub(crate) struct Plan {
    path: Path,
    /// `repairs[r][x]`: symbols to send for a deficit of `x` with `r` rounds left, this included.
    repairs: Vec<[u8; MAX_DEFICIT + 1]>,
    /// For a deficit with all rounds left: what it costs, and how probably the block is not whole
    /// after the first of them, and not after all.
    cost: Vec<f64>,
    late: Vec<f64>,
    lost: Vec<f64>,
    /// By the symbols of a block and the number of blocks.
    first_flights: BTreeMap<(u8, u8), FirstFlight>,
    /// Shares of first flights added up, less those that had their full count.
    in_turn: f64,
}

impl Plan {
    pub(crate) fn new(path: Path) -> Self {
        let path = path.believed();
        let mut losses = Losses::new(path);
        let planned = path.loss > 0.0 && path.rounds > 0;
        let lost: Vec<Vec<f64>> = (0..=if planned { MOST_REPAIRS } else { 0 })
            .map(|_| {
                let distribution = losses.distribution();
                losses.send();
                distribution
            })
            .collect();
        let [costs @ .., most] = LOSS_COSTS;
        let mut plans = costs.iter().map(|cost| Self::at(path, *cost, &lost));
        let enough = |plan: &Self| {
            planned && plan.expected(TYPICAL, TYPICAL, &lost[TYPICAL], &plan.lost) <= MAY_BE_LOST
        };
        plans
            .find(enough)
            .unwrap_or_else(|| Self::at(path, most, &lost))
    }

    /// The plan where a lost block weighs `loss_cost`; `lost[n]` is how many of `n` packets are
    /// lost, and empty but for none where nothing is planned.
    fn at(path: Path, loss_cost: f64, lost: &[Vec<f64>]) -> Self {
        let all_but_none = |value| {
            let mut values = vec![value; MAX_DEFICIT + 1];
            values[0] = 0.0;
            values
        };
        let mut plan = Self {
            path,
            repairs: vec![std::array::from_fn(|x| x as u8)],
            cost: all_but_none(loss_cost),
            late: all_but_none(1.0),
            lost: all_but_none(1.0),
            first_flights: BTreeMap::new(),
            in_turn: 0.0,
        };
        if lost.len() > 1 {
            for round in 1..=path.rounds {
                plan.add_round(round == 1, lost);
            }
        }
        plan
    }

    /// One more round before those that are planned; `lost[n]` is how many of `n` packets are lost.
    fn add_round(&mut self, last: bool, lost: &[Vec<f64>]) {
        // A round of which no report is heard is lost.
        let again = self.path.loss + self.path.clustering * (1.0 - self.path.loss);
        let [of_one, of_last, of_clustered] = REPORTS;
        let reports = match last {
            _ if self.path.clustering > CLUSTERED => of_clustered,
            true => of_last,
            false => of_one,
        };
        let unheard = self.path.loss * again.powi(reports - 1);
        let round_cost = ROUND_COST + WAITING_COST * self.path.waiting[0];
        let [mut cost, mut late, mut never] = [(); 3].map(|()| vec![0.0; MAX_DEFICIT + 1]);
        let mut repairs = [0u8; MAX_DEFICIT + 1];
        for x in 1..=MAX_DEFICIT {
            // One symbol less takes no more.
            let from = x.max(repairs[x - 1].into());
            let (count, least) = cheapest((from..).zip(&lost[from..]).map(|(count, lost)| {
                let cost = self.cost_after(x, count, lost);
                (count, cost)
            }));
            let heard =
                |heard: f64, unheard_of: f64| (1.0 - unheard) * heard + unheard * unheard_of;
            let lost = &lost[count];
            cost[x] = round_cost + heard(least, self.cost[x]);
            late[x] = heard(1.0 - whole(x, count, lost), 1.0);
            never[x] = heard(self.expected(x, count, lost, &self.lost), self.lost[x]);
            repairs[x] = count as u8;
        }
        (self.cost, self.late, self.lost) = (cost, late, never);
        self.repairs.push(repairs);
    }

    /// What it costs to send `count` symbols where `needed` of them must come, and what then
    /// follows; `lost` is how many of them are lost.
    fn cost_after(&self, needed: usize, count: usize, lost: &[f64]) -> f64 {
        count as f64 + self.expected(needed, count, lost, &self.cost)
    }

    /// What is expected of `of` a deficit, where `count` symbols are sent and `needed` of them must
    /// come.
    fn expected(&self, needed: usize, count: usize, lost: &[f64], of: &[f64]) -> f64 {
        // With so many lost one is lacking.
        let one = count - needed + 1;
        let lacking = (1..).zip(lost.iter().skip(one));
        lacking
            .map(|(lacking, probability)| probability * of[MAX_DEFICIT.min(lacking)])
            .sum()
    }

    /// Share of frames that wait neither for a repair nor for another frame's, where `count`
    /// symbols of each of their `blocks` blocks are sent.
    fn undelayed(&self, needed: usize, count: usize, lost: &[f64], blocks: u8) -> f64 {
        let of_frame = |block: f64| block.powi(blocks.into());
        let whole = of_frame(whole(needed, count, lost));
        let after_a_round = of_frame(1.0 - self.expected(needed, count, lost, &self.late));
        let [behind_one, behind_two] = self.path.waiting;
        whole.powf(1.0 + behind_one) * after_a_round.powf(behind_two)
    }

    /// Whether the plan still holds for these values, to within what is worth planning anew.
    pub(crate) fn fits(&self, path: Path) -> bool {
        let path = path.believed();
        let near = |a: f64, b: f64, floor: f64| (a - b).abs() <= 0.1 * b.max(floor);
        let mut waiting = path.waiting.iter().zip(&self.path.waiting);
        near(path.loss, self.path.loss, 0.002)
            && near(path.clustering, self.path.clustering, 0.5)
            && waiting.all(|(a, b)| near(*a, *b, 3.0))
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

    /// Symbols of the first flight of a block of `k`, of `blocks` interleaved ones, at most 256
    /// less one.
    pub(crate) fn first_flight(&mut self, k: u8, blocks: u8) -> u8 {
        if self.path.loss == 0.0 {
            return k;
        }
        let known = self.first_flights.get(&(k, blocks)).copied();
        let flight = known.unwrap_or_else(|| {
            let flight = self.plan_first_flight(k, blocks);
            self.first_flights.insert((k, blocks), flight);
            flight
        });
        self.in_turn += flight.share;
        let fewer = usize::from(self.in_turn < 1.0);
        self.in_turn -= 1.0 - fewer as f64;
        (flight.count - fewer) as u8
    }

    fn plan_first_flight(&self, k: u8, blocks: u8) -> FirstFlight {
        let needed = usize::from(k);
        // Between two symbols of a block are those of the others.
        let mut losses = Losses::new(Path {
            clustering: self.path.clustering.powi(blocks.into()),
            ..self.path
        });
        for _ in 0..needed {
            losses.send();
        }
        let flights = || {
            let mut losses = losses.clone();
            (needed..=255).map(move |count| {
                let lost = losses.distribution();
                losses.send();
                (count, lost)
            })
        };
        let (mut count, _) = cheapest(flights().map(|(count, lost)| {
            let cost = self.cost_after(needed, count, &lost);
            (count, cost)
        }));
        if self.path.rounds > 1 {
            let most = WASTED * f64::from(k);
            let affordable =
                flights().take_while(|(n, lost)| *n <= count && wasted(needed, *n, lost) <= most);
            count = affordable.last().map_or(needed, |(count, _)| count);
        }
        let mut flight = FirstFlight { count, share: 1.0 };
        let mut fewer = 0.0;
        for (count, lost) in flights() {
            let undelayed = self.undelayed(needed, count, &lost, blocks);
            if undelayed < UNDELAYED {
                fewer = undelayed;
                continue;
            }
            if count > flight.count {
                let share = (UNDELAYED - fewer) / (undelayed - fewer);
                flight = FirstFlight { count, share };
            }
            break;
        }
        flight
    }
}

/// How many symbols first flights carry: a share of them has so many, the others one fewer.
#[derive(Clone, Copy, Debug)]
struct FirstFlight {
    count: usize,
    share: f64,
}

/// Probability that `needed` of `count` come; `lost` is how many of them are lost.
fn whole(needed: usize, count: usize, lost: &[f64]) -> f64 {
    lost[..=count - needed].iter().sum()
}

/// How many of `count` come beyond the `needed`, on average; `lost` is how many are lost.
fn wasted(needed: usize, count: usize, lost: &[f64]) -> f64 {
    let spare = count - needed;
    let beyond = (0..spare).map(|lost| spare - lost);
    lost.iter()
        .zip(beyond)
        .map(|(p, beyond)| p * beyond as f64)
        .sum()
}

/// The cheapest of growing counts, none of which costs less than itself: one more is dearer where
/// so few are in vain in any case.
fn cheapest(costs: impl Iterator<Item = (usize, f64)>) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (count, cost) in costs {
        if count as f64 >= best.1 {
            break;
        }
        if cost < best.1 {
            best = (count, cost);
        }
    }
    best
}

/// How many of packets sent one after the other are lost, by Gilbert's chain: a packet's fate
/// depends on that of the one before.
#[derive(Clone)]
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
        f64::from(plan.first_flight(26, 1) - 26) / 26.0
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
    fn nothing_is_sent_in_vain() {
        // Of so many some more or less change nothing: none of these frames would come whole.
        for (k, loss) in [(60, 0.2), (100, 0.2), (100, 0.3)] {
            let count = plan(loss, 0.0, 0).first_flight(k, 1).into();
            let whole = at_most_lost(count - usize::from(k), count, loss);
            assert!(whole > 0.995, "{k} at {loss}: {count}, {whole}");
        }
        let plan = plan(0.4, 0.5, 1);
        let repairs: Vec<u8> = (0..=48).map(|lacking| plan.repairs(1, lacking)).collect();
        assert!(repairs.is_sorted(), "{repairs:?}");
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

    /// Probability that at most `spare` of `count` are lost, each by itself.
    fn at_most_lost(spare: usize, count: usize, loss: f64) -> f64 {
        let mut ways = 1.0;
        let terms = (0..=spare).map(|lost| {
            let probability =
                ways * loss.powi(lost as i32) * (1.0 - loss).powi((count - lost) as i32);
            ways *= (count - lost) as f64 / (lost + 1) as f64;
            probability
        });
        terms.sum()
    }

    #[test]
    fn half_of_the_frames_wait_for_nothing() {
        for (loss, rounds, k) in [(0.2, 4, 36), (0.1, 2, 36), (0.1, 2, 10), (0.15, 2, 4)] {
            let mut plan = Plan::new(Path {
                waiting: [1.0, 0.0],
                ..path(loss, 0.0, rounds)
            });
            let whole: Vec<f64> = (0..1000)
                .map(|_| {
                    let count = plan.first_flight(k, 1).into();
                    at_most_lost(count - usize::from(k), count, loss)
                })
                .collect();
            // Each waits for itself and the one before.
            let undelayed: f64 = whole.windows(2).map(|pair| pair[0] * pair[1]).sum();
            assert!(undelayed > 500.0, "{loss}, {k}: {undelayed} of 1000");
            // And no more than that.
            assert!(undelayed < 600.0, "{loss}, {k}: {undelayed} of 1000");
        }
    }

    #[test]
    fn little_is_sent_to_save_waiting_alone() {
        let mut plan = plan(0.03, 0.0, 2);
        // One more would save one frame of nine a round, and be a quarter of all bytes.
        assert_eq!(plan.first_flight(4, 1), 4);
        for k in 1..=200 {
            let count = plan.first_flight(k, 1);
            let come = 0.97 * f64::from(count) - f64::from(k);
            assert!(come <= 0.03 * f64::from(k), "{k}: {count}");
        }
        assert!(plan.first_flight(100, 1) > 100);
    }

    #[test]
    fn a_frame_of_several_blocks_is_whole_when_all_are() {
        let mut plan = plan(0.05, 0.0, 2);
        assert!(plan.first_flight(100, 8) > plan.first_flight(100, 1));
    }

    #[test]
    fn few_blocks_are_lost_after_all_rounds() {
        for (loss, clustering) in [(0.2, 0.0), (0.05, 0.79), (0.05, 0.87)] {
            let path = path(loss, clustering, 2);
            let plan = Plan::new(path);
            let mut losses = Losses::new(path);
            for _ in 0..TYPICAL {
                losses.send();
            }
            let lost = losses.distribution();
            let lost = plan.expected(TYPICAL, TYPICAL, &lost, &plan.lost);
            assert!(lost < 2.0 * MAY_BE_LOST, "{loss}, {clustering}: {lost}");
        }
    }

    #[test]
    fn clustered_losses_ask_for_more() {
        let even = plan(0.05, 0.0, 0).first_flight(26, 1);
        let clustered = plan(0.05, 0.8, 0).first_flight(26, 1);
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
            waiting: [0.0; 2],
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
