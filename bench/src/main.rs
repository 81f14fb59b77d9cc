//! Measures a hop of camrelay beside SRT, RIST and bare UDP, on the same frames through the
//! same paths, and a relay with many cameras.

mod cases;
mod child;
mod chunk;
mod cipher;
mod cli;
mod cpu;
mod delay;
mod frame;
mod hop;
mod pair;
mod table;
mod transport;
mod usage;

use clap::Parser;

use cli::{Arguments, Measure};

fn main() -> anyhow::Result<()> {
    match Arguments::parse().measure {
        Measure::Hop(options) => hop::run(&options),
        Measure::Delay(options) => delay::run(&options),
        Measure::Cpu(options) => cpu::run(&options),
        Measure::Send { load, port } => child::send(load, port),
        Measure::Receive { load } => child::receive(load),
    }
}
