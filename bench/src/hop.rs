//! Hops over a path, side by side.

use std::time::Duration;

use crate::cases::{Case, SLACK};
use crate::child::Load;
use crate::cli::HopOptions;
use crate::pair::{self, Outcome};
use crate::table::{Table, ms, or_dash, percent, us};
use crate::transport::{HOW, Transport};
use crate::usage;

/// What a camrelay hop is meant to reach.
const ON_TIME: f64 = 0.999;
const BEYOND_LEAST_DELAY: Duration = Duration::from_millis(5);
const BEYOND_LIMIT: f64 = 0.10;
const OF_SRT_CPU: f64 = 0.5;

/// Measures every case that was asked for.
pub(crate) fn run(options: &HopOptions) -> anyhow::Result<()> {
    let cases = match options.path.zip(options.budget) {
        Some((path, budget)) => vec![Case::of(path, budget)],
        None if options.cases.is_empty() => Case::all(),
        None => options.cases.clone(),
    };
    println!("{}\n", usage::machine());
    println!("{HOW}\n");
    println!(
        "A frame is on time within the budget beyond the path's delay, its largest jitter, and \
         the frame's time through a bottleneck; {} more are allowed. Extra is what goes to the \
         receiver beyond the frames' bytes, every header included (some 6 %); back is what \
         returns. Conditions are the same in both directions. Seed {}.\n",
        humantime::format_duration(SLACK),
        options.load.seed
    );
    let mut summary = Table::new([
        "case",
        "path",
        "budget",
        "frames",
        "camrelay",
        "SRT",
        "RIST",
        "bare UDP",
        "CPU of SRT's",
    ]);
    let mut shortfalls = Vec::new();
    for case in &cases {
        for load in options.load.loads(options.seconds, case.budget) {
            let outcomes = measure(options, case, load)?;
            report(case, &load, &outcomes);
            summarise(case, &load, &outcomes, &mut summary);
            let where_ = format!("case {}, {}", case.name, size(&load));
            let found = shortfalls_of(case, &outcomes);
            shortfalls.extend(found.into_iter().map(|found| format!("{where_}: {found}")));
        }
    }
    println!("## All cases: on time, median delay\n\n{summary}");
    if options.transport.contains(&Transport::Camrelay) {
        if shortfalls.is_empty() {
            println!("camrelay reaches its targets in every case.");
        } else {
            println!("camrelay falls short of its targets:\n");
            shortfalls.iter().for_each(|found| println!("* {found}"));
        }
    }
    Ok(())
}

fn measure(options: &HopOptions, case: &Case, load: Load) -> anyhow::Result<Vec<Outcome>> {
    let transports = options.transport.iter();
    let loads: Vec<Load> = transports
        .map(|transport| Load {
            transport: *transport,
            ..load
        })
        .collect();
    if options.in_turn {
        let run = |load: &Load| pair::run(*load, Some(case.path));
        return loads.iter().map(run).collect();
    }
    pair::run_together(&loads, Some(case.path))
}

fn size(load: &Load) -> String {
    format!("{} kB at {}/s", load.size as f64 / 1e3, load.fps)
}

fn report(case: &Case, load: &Load, outcomes: &[Outcome]) {
    println!(
        "## Case {}: {}, budget {}; {} frames of {}\n",
        case.name,
        case.path,
        humantime::format_duration(case.budget),
        load.frames,
        size(load)
    );
    let mut table = Table::new([
        "",
        "on time",
        "median",
        "p99",
        "extra",
        "back",
        "CPU/frame",
        "sender",
        "receiver",
    ]);
    for outcome in outcomes {
        table.row([
            outcome.load.transport.name().into(),
            percent(outcome.on_time(case.deadline(load.size)), 2),
            or_dash(outcome.quantile(0.5), ms),
            or_dash(outcome.quantile(0.99), ms),
            or_dash(outcome.extra(), |extra| percent(extra, 1)),
            or_dash(outcome.back(), |back| percent(back, 1)),
            us(outcome.cpu_per_frame()),
            us(outcome.sender_cpu / load.frames),
            us(outcome.receiver_cpu / load.frames),
        ]);
    }
    println!("{table}");
    if let Some((ours, others)) = apart(outcomes) {
        for other in others {
            println!("{}", comparison(case, ours, other));
        }
    }
    let late = outcomes.iter().filter_map(|one| one.traffic);
    let late = late.map(|traffic| traffic.late).fold(0.0, f64::max);
    println!(
        "Least delay {}, least repair {}; the emulator was over 1 ms late for {} of datagrams.",
        ms(case.least_delay(load.size)),
        percent(case.limit, 1),
        percent(late, 2),
    );
    let traffic = outcomes.iter().filter_map(|one| one.traffic);
    let overflowed: u64 = traffic.map(|traffic| traffic.overflowed).sum();
    if overflowed > 0 {
        println!("The emulator itself had no room for {overflowed} datagrams: do not trust this.");
    }
    println!();
}

/// camrelay's outcome and the others'.
fn apart(outcomes: &[Outcome]) -> Option<(&Outcome, impl Iterator<Item = &Outcome>)> {
    let is_ours = |one: &&Outcome| one.load.transport == Transport::Camrelay;
    let ours = outcomes.iter().find(is_ours)?;
    Some((ours, outcomes.iter().filter(move |one| !is_ours(one))))
}

fn comparison(case: &Case, ours: &Outcome, other: &Outcome) -> String {
    let deadline = case.deadline(ours.load.size);
    let points = (ours.on_time(deadline) - other.on_time(deadline)) * 100.0;
    let median = ours.quantile(0.5).zip(other.quantile(0.5));
    let median = or_dash(median, |(ours, other)| {
        let difference = ours.as_secs_f64() - other.as_secs_f64();
        format!("{:+.1} ms", difference * 1e3)
    });
    let cpu = ratio(ours.cpu_per_frame(), other.cpu_per_frame());
    format!(
        "camrelay beside {}: {points:+.2} points on time, {median} at the median, {cpu:.2} of \
         the CPU.",
        other.load.transport.name()
    )
}

fn ratio(ours: Duration, other: Duration) -> f64 {
    ours.as_secs_f64() / other.as_secs_f64().max(1e-9)
}

fn of(outcomes: &[Outcome], transport: Transport) -> Option<&Outcome> {
    outcomes.iter().find(|one| one.load.transport == transport)
}

fn summarise(case: &Case, load: &Load, outcomes: &[Outcome], summary: &mut Table) {
    let cell = |transport| {
        or_dash(of(outcomes, transport), |one| {
            let on_time = percent(one.on_time(case.deadline(load.size)), 2);
            format!("{on_time}, {}", or_dash(one.quantile(0.5), ms))
        })
    };
    let cpu = of(outcomes, Transport::Camrelay).zip(of(outcomes, Transport::Srt));
    summary.row([
        case.name.clone(),
        case.path.to_string(),
        humantime::format_duration(case.budget).to_string(),
        size(load),
        cell(Transport::Camrelay),
        cell(Transport::Srt),
        cell(Transport::Rist),
        cell(Transport::Udp),
        or_dash(cpu, |(ours, srt)| {
            format!("{:.2}", ratio(ours.cpu_per_frame(), srt.cpu_per_frame()))
        }),
    ]);
}

/// Where camrelay does not reach what it is meant to.
fn shortfalls_of(case: &Case, outcomes: &[Outcome]) -> Vec<String> {
    let Some(ours) = of(outcomes, Transport::Camrelay) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let size = ours.load.size;
    let on_time = ours.on_time(case.deadline(size));
    if on_time < ON_TIME {
        let (is, wanted) = (percent(on_time, 2), percent(ON_TIME, 1));
        found.push(format!("{is} on time, not {wanted}"));
    }
    let most = case.least_delay(size) + case.path.jitter + BEYOND_LEAST_DELAY;
    match ours.quantile(0.5) {
        Some(median) if median > most => {
            found.push(format!("median {}, not {}", ms(median), ms(most)));
        }
        Some(_) => {}
        None => found.push("no frame came".into()),
    }
    let most = case.limit + BEYOND_LIMIT;
    if let Some(extra) = ours.extra().filter(|extra| *extra > most) {
        let (is, wanted) = (percent(extra, 1), percent(most, 1));
        found.push(format!("{is} extra bytes, not {wanted}"));
    }
    if let Some(srt) = of(outcomes, Transport::Srt) {
        let cpu = ratio(ours.cpu_per_frame(), srt.cpu_per_frame());
        if cpu > OF_SRT_CPU {
            found.push(format!("{cpu:.2} of SRT's CPU, not {OF_SRT_CPU}"));
        }
    }
    found
}
