//! Delay on loopback, beside bare UDP's.

use std::time::Duration;

use crate::child::Load;
use crate::cli::DelayOptions;
use crate::pair::{self, Outcome};
use crate::table::{Table, ms, percent};
use crate::transport::Transport;
use crate::usage;

/// The elements' default.
const BUDGET: Duration = Duration::from_millis(120);

/// Measures every size and rate that was asked for.
pub(crate) fn run(options: &DelayOptions) -> anyhow::Result<()> {
    println!("{}\n", usage::machine());
    println!(
        "From the push into appsrc before the sink to appsink behind the source, on loopback; \
         frames of the two pairs are sent in turn. Seed {}.\n",
        options.load.seed
    );
    let mut table = Table::new([
        "frames",
        "of them",
        "camrelay",
        "bare UDP",
        "difference",
        "p99",
        "bare UDP's p99",
        "came",
        "bare UDP's",
    ]);
    for load in options.load.loads(options.seconds, BUDGET) {
        let loads =
            [Transport::Camrelay, Transport::Udp].map(|transport| Load { transport, ..load });
        let outcomes = pair::run_together(&loads, None)?;
        let [ours, bare] = outcomes.as_slice() else {
            continue;
        };
        let difference = median(ours).as_secs_f64() - median(bare).as_secs_f64();
        table.row([
            format!("{} kB at {}/s", load.size as f64 / 1e3, load.fps),
            load.frames.to_string(),
            ms2(median(ours)),
            ms2(median(bare)),
            format!("{:+.2} ms", difference * 1e3),
            ms(ours.quantile(0.99).unwrap_or_default()),
            ms(bare.quantile(0.99).unwrap_or_default()),
            came(ours),
            came(bare),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn median(outcome: &Outcome) -> Duration {
    outcome.quantile(0.5).unwrap_or_default()
}

fn came(outcome: &Outcome) -> String {
    percent(outcome.on_time(Duration::MAX), 2)
}

/// Milliseconds, to a hundredth.
fn ms2(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
