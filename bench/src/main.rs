//! Measures a hop of camrelay beside SRT, RIST and bare UDP, on the same frames through the
//! same paths, a relay with many cameras, and one with many viewers.

mod abuse;
mod cases;
mod child;
mod chunk;
mod cipher;
mod cli;
mod cpu;
mod delay;
mod flood;
mod frame;
mod hop;
mod live;
mod many;
mod mutate;
#[path = "../../launcher/src/relay/mutation.rs"]
mod mutation;
mod outage;
mod pair;
mod pipeline;
mod process;
mod rate;
mod serve;
mod stale;
mod table;
mod transport;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use cli::{Arguments, Measure};

fn main() -> ExitCode {
    let done = match Arguments::parse().measure {
        Measure::Hop(options) => hop::run(&options),
        Measure::Delay(options) => delay::run(&options),
        Measure::Cpu(options) => cpu::run(&options),
        Measure::Many(options) => many::run(&options),
        Measure::Mutate(options) => mutate::run(&options),
        Measure::Abuse(options) => abuse::run(&options),
        Measure::Abused { settings } => abuse::serve(&settings),
        Measure::Stale(options) => stale::run(&options),
        Measure::Launch { text } => stale::launch(&text),
        Measure::Rate(options) => rate::run(&options),
        Measure::Outage(options) => outage::run(&options),
        Measure::Serve(options) => serve::run(&options),
        Measure::Bare { cameras } => serve::serve_bare(cameras),
        Measure::Watch { viewers, port } => serve::watch_one(viewers, port),
        Measure::Flood(options) => flood::run(&options),
        Measure::Send { load, port } => child::send(load, port),
        Measure::Receive { load } => child::receive(load),
        Measure::Cameras { cameras, port } => many::send_many(cameras, port),
        Measure::Viewers { cameras, port } => many::watch_many(cameras, port),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
