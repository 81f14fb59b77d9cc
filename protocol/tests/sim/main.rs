//! Two endpoints, or more, on simulated paths in virtual time: exact and seeded.

mod abuse;
mod breadth;
mod clocks;
mod gaps;
mod jpeg;
mod large;
mod lasting;
mod longer;
mod lulls;
mod path;
mod rate;
mod refusals;
mod repair;
mod replays;
mod sessions;
mod sharing;
mod slow;
mod streams;
mod swing;
mod world;
