//! Processor time on loopback, beside the others'.

use std::time::Duration;

use crate::child::Load;
use crate::cli::CpuOptions;
use crate::pair::{self, Outcome};
use crate::table::{Table, or_dash, us};
use crate::transport::{HOW, Transport};
use crate::{cipher, usage};

/// The elements' default.
const BUDGET: Duration = Duration::from_millis(120);

/// Measures every size and rate that was asked for.
pub(crate) fn run(options: &CpuOptions) -> anyhow::Result<()> {
    println!("{}\n", usage::machine());
    println!("{HOW}\n");
    println!(
        "Processor time (user and kernel) of the two processes for a frame, appsrc and appsink \
         included; each the median of {} turns of {} s on loopback, the pairs one after the other. \
         Seed {}.\n",
        options.rounds, options.seconds, options.load.seed
    );
    for load in options.load.loads(options.seconds, BUDGET) {
        measure(options, load)?;
    }
    Ok(())
}

fn measure(options: &CpuOptions, load: Load) -> anyhow::Result<()> {
    println!("## {} kB at {}/s\n", load.size as f64 / 1e3, load.fps);
    let mut turns: Vec<Vec<Outcome>> = options.transport.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (transport, turns) in options.transport.iter().zip(&mut turns) {
            let transport = *transport;
            turns.push(pair::run(Load { transport, ..load }, None)?);
        }
    }
    let srt = options
        .transport
        .iter()
        .position(|one| *one == Transport::Srt);
    let srt = srt.map(|srt| median(&turns[srt], Outcome::cpu_per_frame));
    let mut table = Table::new(["", "CPU/frame", "sender", "receiver", "of SRT's"]);
    for (transport, turns) in options.transport.iter().zip(&turns) {
        let both = median(turns, Outcome::cpu_per_frame);
        table.row([
            transport.name().into(),
            us(both),
            us(median(turns, |one| one.sender_cpu) / load.frames),
            us(median(turns, |one| one.receiver_cpu) / load.frames),
            or_dash(srt, |srt| {
                format!("{:.2}", both.as_secs_f64() / srt.as_secs_f64().max(1e-9))
            }),
        ]);
    }
    println!("{table}");
    let cost = cipher::cost(load.size)?;
    let (datagrams, len) = cost.shape;
    println!(
        "Encryption alone, {}, as sessions do it, {datagrams} datagrams of {len} bytes: {} to seal a frame, \
         {} to open it.\n",
        cost.cipher,
        us(cost.seal),
        us(cost.open)
    );
    Ok(())
}

fn median(turns: &[Outcome], value: impl Fn(&Outcome) -> Duration) -> Duration {
    let mut values: Vec<Duration> = turns.iter().map(value).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
