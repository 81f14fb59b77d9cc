//! The sender's bitrate: what the path carries without its queues growing.
//!
//! A queue that stands, or packets that come more slowly than they are sent, mean congestion;
//! loss alone is the link's, and is answered by repair. The rate falls at once to what came
//! through while the path was busy, gives way a little where a queue begins to stand, and rises
//! the more slowly, in proportion, the larger it is: of several that share a bottleneck the
//! smaller one gains on the larger.

mod longer;
mod measure;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::longer::Longer;
use self::measure::Measure;
use crate::Time;
use crate::wire::feedback::Feedback;

/// What a decrease leaves of what the path carries.
const DECREASE: f64 = 0.85;
/// What it leaves of the target at most, should the path carry more than that.
const DECREASE_AT_LEAST: f64 = 0.9;
/// A queue only begins to stand at this share of the delay that is congestion.
const SLIGHT: f64 = 0.4;
/// What a decrease leaves of the target then.
const YIELD: f64 = 0.92;
/// By which power of what one gets, as a share of what others do, it gives way by more or less:
/// some of them meet the queue far more often.
const YIELD_POWER: f64 = 3.0;
/// So many times as much at most.
const MOST_YIELD: f64 = 2.0;
/// After a decrease, a queue that only begins to stand is given this time to empty.
const EMPTYING: Duration = Duration::from_millis(350);
/// Packets that come at less than this share of the rate at which they are sent fill a queue.
const OVERLOAD: f64 = 0.8;
/// For so long they do, before that is believed.
const OVERLOADED_FOR: Duration = Duration::from_millis(20);
/// Longest pause to let a queue empty.
const MAX_PAUSE: Duration = Duration::from_millis(400);
/// A pause at least this long shortens a queue by about as much,
const TELLING_PAUSE: Duration = Duration::from_millis(40);
/// and one that is not shortened by this share of the pause is no queue: the path is longer.
const SHORTENED: f64 = 0.25;
/// A path that seems to have got longer is given this share of the target
const DOUBT: f64 = 0.75;
/// for so long: that empties a queue, should it be one after all, and the fastest way is seen.
const DOUBTED_FOR: Duration = Duration::from_millis(500);
/// Growth per second, as a share, of a target of one bit per second while the path is clear; of
/// others it is the share by the root: 12 % at 4 Mbit/s.
const INCREASE: f64 = 240.0;
/// The target moves on by no more than is due in this time at once.
const MAX_STEP: Duration = Duration::from_millis(200);
/// Time without congestion before the rate grows.
const CLEAR_FOR: Duration = Duration::from_millis(500);
/// Growth gets faster by itself in this time without congestion, to so many times at most.
const FASTER_AFTER: Duration = Duration::from_secs(2);
/// See [`FASTER_AFTER`].
const FASTEST: f64 = 3.0;
/// Loss that is never the link's alone where there is a queue,
const HEAVY_LOSS: f64 = 0.15;
/// and where there is none, and it lasts: a burst says nothing of what the path carries.
const HEAVIEST_LOSS: f64 = 0.5;
/// Loss, where there is a queue, that says that it is full.
const BRIM_LOSS: f64 = 0.02;
/// Lowest target, bits per second.
const MIN_TARGET: f64 = 100_000.0;
/// Where as much is sent as last met congestion, within these shares, growth is slowed down.
const NEAR: std::ops::Range<f64> = 0.8..1.1;
/// To so many bits per second in each second, of a target of [`NEAR_TARGET`]. Larger ones grow more
/// slowly, smaller ones faster: of those who share a bottleneck some meet its queue more often than
/// others, by when their frames come, and the smaller one gains on the larger even so (binomial
/// congestion control: Bansal and Balakrishnan, INFOCOM 2001).
const INCREASE_NEAR: f64 = 300_000.0;
/// See [`INCREASE_NEAR`].
const NEAR_TARGET: f64 = 4_000_000.0;
/// The power of the target by which that falls,
const NEAR_POWER: f64 = 1.5;
/// and where it ends: a large target is to be reached again in half a minute.
const LEAST_INCREASE_NEAR: f64 = 100_000.0;
/// Of a target larger than that it is no more than this share in each second: it would be past the
/// path's queue before that shows.
const MOST_NEAR: f64 = 0.1;
/// The target stays below so many times what is sent.
const HEADROOM: f64 = 2.0;
/// So much of what one gets more or less than others behind the same bottleneck is made good in a
/// second.
const EVEN_OUT: f64 = 0.4;
/// No more than that is taken for more or less.
const MOST_UNEVEN: f64 = 0.5;
/// For so long a share counts that was told.
const SHARE_LASTS: Duration = Duration::from_secs(5);
/// Who gets so much more than others, and met no limit, has one.
const GREEDY: f64 = 1.25;

/// How much more than the path carries is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Congestion {
    /// A queue begins to stand.
    Slight,
    /// Frames come late, or packets are lost.
    Heavy,
}

/// The sender's view of the path's capacity.
#[derive(Default)]
pub(crate) struct Rate {
    /// Bits per second; `None` until congestion is first met.
    target: Option<f64>,
    measure: Measure,
    /// Since when packets come more slowly than they are sent.
    overloaded: Option<Time>,
    congested: Time,
    decreased: Time,
    /// Bits per second that came through when congestion was last met.
    carried: f64,
    /// Nothing is sent until a queue has emptied: how long packets waited in it.
    draining: Option<Duration>,
    grown: Time,
    /// What comes through, as a share of the mean of those that share the bottleneck, and when that
    /// was told.
    share: Option<(Time, f64)>,
    /// When the target was last moved towards the others'.
    evened: Option<Time>,
    /// The path was found to have got longer.
    longer: bool,
    /// When that was, and the target then, while it is doubted.
    doubted: Option<(Time, f64)>,
}

impl Rate {
    /// Bits per second to stay below; `None` where no limit was met.
    pub(crate) fn target(&self) -> Option<u64> {
        self.target.map(|target| target as u64)
    }

    /// Whether the path's queue is too long: what is lost now is lost to congestion, and more
    /// packets make it worse.
    pub(crate) fn is_congested(&self, budget: Duration) -> bool {
        self.queue_delay() > queue_limit(budget)
    }

    /// The share of packets that the link loses by itself: what a full queue lost does not count.
    pub(crate) fn link_loss(&self) -> f64 {
        self.measure.link_loss()
    }

    /// Time that packets stand in queues on the path.
    pub(crate) fn queue_delay(&self) -> Duration {
        self.measure.queue_delay()
    }

    /// Takes note of a packet of `len` bytes that left.
    pub(crate) fn on_sent(&mut self, now: Time, packet: u64, len: usize) {
        self.measure.on_sent(now, packet, len);
    }

    /// The path is another one: how long the old one took says nothing of it. What is sent from now on
    /// takes it.
    pub(crate) fn learn_path_anew(&mut self) {
        self.measure.forget_base();
        self.measure.begin_anew();
        (self.draining, self.overloaded) = (None, None);
    }

    /// Whether the path was found to have got longer since that was last asked.
    pub(crate) fn take_longer(&mut self) -> bool {
        std::mem::take(&mut self.longer)
    }

    /// Takes note of what comes through, as a share of the mean of those that share the bottleneck.
    pub(crate) fn set_share(&mut self, now: Time, share: f64) {
        self.share = Some((now, share));
    }

    /// Takes a report. After a decrease with a long queue, and until something is sent again, returns
    /// how long the queue takes to empty if nothing is.
    pub(crate) fn on_feedback(
        &mut self,
        now: Time,
        feedback: &Feedback,
        rtt: Duration,
        budget: Duration,
    ) -> Option<Duration> {
        let clear = now.since(self.congested) > CLEAR_FOR;
        if !self.measure.on_feedback(now, feedback, clear) {
            let drains = self.draining.is_some() && self.measure.is_paused();
            return drains.then(|| self.drains_in(feedback, rtt));
        }
        if let Some(stood) = self.draining.take() {
            self.judge_drain(stood);
        }
        self.even_out(now);
        if let Some((_, before)) = self
            .doubted
            .take_if(|(since, _)| now.since(*since) >= DOUBTED_FOR)
        {
            self.target = self.target.map(|target| target.max(before));
        }
        let limit = queue_limit(budget);
        let Some(congestion) = self.congestion(now, limit) else {
            self.grow(now);
            return None;
        };
        let emptying = now.since(self.decreased) < EMPTYING;
        if congestion == Congestion::Slight && (emptying || self.target.is_none()) {
            return None;
        }
        let standing = self.queue_delay().max(self.measure.wait());
        let carries = self.measure.capacity();
        let carries = carries.or_else(|| self.measure.passed_lately(limit));
        // What it carried before it met its first limit is not to be counted.
        let newest = self.measure.newest_capacity();
        let newest = newest.filter(|_| self.target.is_none());
        let carries = carries.map(|carries| carries.min(newest.unwrap_or(f64::MAX)));
        self.decrease(now, congestion, carries)?;
        (self.congested, self.decreased) = (now, now);
        self.carried = carries.unwrap_or(self.carried);
        // A queue that frames still pass in time, and has room, empties by itself.
        let full = self.measure.loss() >= BRIM_LOSS;
        let drains = congestion == Congestion::Heavy && (standing > budget / 2 || full);
        self.draining = drains.then_some(standing);
        self.measure.begin_anew();
        drains.then(|| self.drains_in(feedback, rtt))
    }

    /// Sees whether a pause shortened what packets waited, `stood` before. Where it did not, they
    /// wait for no queue of ours: the path got longer, or a clock stood still.
    fn judge_drain(&mut self, stood: Duration) {
        let Some(first) = self.measure.begun() else {
            return;
        };
        let pause = first.since(self.decreased);
        let least = stood.saturating_sub(pause.mul_f64(SHORTENED));
        if pause >= TELLING_PAUSE && self.measure.wait() > least {
            self.measure.forget_base();
        }
    }

    /// How long what was sent and not yet reported takes to arrive.
    fn drains_in(&self, feedback: &Feedback, rtt: Duration) -> Duration {
        if self.carried == 0.0 {
            return Duration::ZERO;
        }
        let flight = Duration::from_secs_f64(self.measure.in_flight(feedback) / self.carried);
        let arriving = Duration::from_micros(feedback.age.into()) + rtt / 2;
        flight.min(MAX_PAUSE).saturating_sub(arriving)
    }

    fn congestion(&mut self, now: Time, limit: Duration) -> Option<Congestion> {
        match self.measure.longer(limit) {
            Longer::No => {}
            Longer::Perhaps => {
                // A path that is only longer carries what it did.
                self.overloaded = None;
                return None;
            }
            Longer::Yes => {
                self.measure.forget_base();
                self.overloaded = None;
                self.longer = true;
                self.doubted = self.target.map(|target| (now, target));
                self.target = self.target.map(|target| (target * DOUBT).max(MIN_TARGET));
                return None;
            }
        }
        let queue = self.queue_delay();
        let overload = self.measure.capacity().is_some_and(|capacity| {
            capacity < OVERLOAD * self.measure.offered(now) && self.measure.wait() > limit / 2
        });
        if !overload {
            self.overloaded = None;
        }
        let since = overload.then(|| *self.overloaded.get_or_insert(now));
        let overloaded = since.is_some_and(|since| now.since(since) >= OVERLOADED_FOR);
        let lossy = match queue > limit / 2 {
            true => self.measure.loss() > HEAVY_LOSS,
            false => self.measure.lasting_loss() > HEAVIEST_LOSS,
        };
        if overloaded || queue > limit || lossy {
            Some(Congestion::Heavy)
        } else {
            (queue > limit.mul_f64(SLIGHT)).then_some(Congestion::Slight)
        }
    }

    /// Lowers the target, where the path carries so many bits per second, if that is known; `None`
    /// where nothing is known of what to lower it to.
    fn decrease(&mut self, now: Time, congestion: Congestion, carries: Option<f64>) -> Option<()> {
        let delivered = self.measure.delivered()?;
        self.doubted = None;
        let below = match (congestion, carries, self.target) {
            (Congestion::Slight, _, target) => {
                let share = self.told_share(now).unwrap_or(1.0);
                let weight = share.powf(YIELD_POWER).min(MOST_YIELD);
                target?.min(delivered * HEADROOM) * (1.0 - (1.0 - YIELD) * weight)
            }
            (Congestion::Heavy, Some(capacity), target) => {
                let most = target.map_or(f64::MAX, |target| target * DECREASE_AT_LEAST);
                most.min(capacity * DECREASE)
            }
            (Congestion::Heavy, None, Some(target)) => target.min(delivered * HEADROOM) * DECREASE,
            (Congestion::Heavy, None, None) => delivered * DECREASE,
        };
        self.target = Some(self.target.unwrap_or(f64::MAX).min(below).max(MIN_TARGET));
        Some(())
    }

    /// What comes through, as a share of the mean of those behind the same bottleneck.
    fn told_share(&self, now: Time) -> Option<f64> {
        let (told, share) = self.share?;
        (now.since(told) < SHARE_LASTS).then_some(share)
    }

    /// Moves the target towards what others get behind the same bottleneck.
    fn even_out(&mut self, now: Time) {
        let passed = self.evened.map_or(Duration::ZERO, |last| now.since(last));
        self.evened = Some(now);
        let (Some(share), Some(delivered)) = (self.told_share(now), self.measure.delivered())
        else {
            return;
        };
        let Some(target) = self.target else {
            // The others keep the queue so short that this one never met it.
            self.target = (share > GREEDY).then_some(delivered.max(MIN_TARGET));
            return;
        };
        let uneven = (1.0 - share).clamp(-MOST_UNEVEN, MOST_UNEVEN);
        let passed = passed.min(MAX_STEP).as_secs_f64();
        let moved = target * (1.0 + EVEN_OUT * uneven * passed);
        let most = target.max(delivered * HEADROOM);
        self.target = Some(moved.clamp(MIN_TARGET.min(most), most));
    }

    fn grow(&mut self, now: Time) {
        let passed = now.since(self.grown).min(MAX_STEP).as_secs_f64();
        self.grown = now;
        let clear = now.since(self.congested);
        if let Some(target) = self.target.filter(|_| clear >= CLEAR_FOR) {
            let more = self.told_share(now).is_some_and(|share| share > 1.0);
            let near = more || NEAR.contains(&(self.measure.offered(now) / self.carried));
            let usual = INCREASE * target.sqrt();
            let faster = FASTEST.min(1.0 + clear.as_secs_f64() / FASTER_AFTER.as_secs_f64());
            let fair = INCREASE_NEAR * (NEAR_TARGET / target).powf(NEAR_POWER);
            let increase = match near {
                true => usual.min(fair.min(target * MOST_NEAR).max(LEAST_INCREASE_NEAR)),
                false => usual * faster,
            };
            let grown = target + increase * passed;
            // What is not used is not known to fit.
            let most = self.measure.delivered().unwrap_or(0.0) * HEADROOM;
            self.target = Some(grown.min(most.max(target)));
        }
    }
}

/// The queue delay that is still taken for none.
fn queue_limit(budget: Duration) -> Duration {
    (budget / 4).clamp(Duration::from_millis(20), Duration::from_millis(60))
}
