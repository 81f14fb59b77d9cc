//! Two endpoints, or more, on simulated paths in virtual time: exact and seeded.

mod path;
mod sessions;
mod streams;
mod world;
