//! Outages, and a camera whose address changes: how soon there are pictures again.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use path_emulator::{Conditions, Direction, Proxy, Route};

use crate::cli::OutageOptions;
use crate::live::Camera;
use crate::table::{Table, ms};
use crate::usage;

/// Time for the stream to run before and after each.
const RUNNING: Duration = Duration::from_secs(3);
/// Pictures that are not back by then do not come.
const LONGEST: Duration = Duration::from_secs(30);

/// Measures each outage that was asked for, and a change of address.
pub(crate) fn run(options: &OutageOptions) -> anyhow::Result<()> {
    gst::init()?;
    gstcamrelay::plugin_register_static().context("cannot register the camrelay elements")?;
    println!("{}\n", usage::machine());
    let port = crate::transport::free_port(1)?;
    let path = Conditions::clean(options.delay);
    let route = Route {
        listen: ([127, 0, 0, 1], 0).into(),
        to: ([127, 0, 0, 1], port).into(),
    };
    let proxy = Proxy::start(&[route], path, path, 1)?;
    let camera = Camera::start("camera", port, proxy.addresses()[0].port())?;
    println!("A path of {} each way.\n", ms(options.delay));
    let mut table = Table::new(["what happens", "pictures after", "memory"]);
    for outage in &options.seconds {
        std::thread::sleep(RUNNING);
        let down = Conditions { down: true, ..path };
        both(&proxy, down);
        std::thread::sleep(Duration::from_secs(*outage));
        both(&proxy, path);
        let back = first_after(&camera, Instant::now())?;
        table.row([format!("{outage} s without a path"), ms(back), memory()]);
    }
    std::thread::sleep(RUNNING);
    proxy.rebind();
    // What is on its way still comes from the old address.
    let moved = Instant::now() + options.delay;
    let back = first_after(&camera, moved)?;
    table.row(["another address".into(), ms(back), memory()]);
    println!("{table}");
    Ok(())
}

fn both(proxy: &Proxy, path: Conditions) {
    for direction in [Direction::There, Direction::Back] {
        proxy.set(direction, path);
    }
}

/// How long after `since` the first picture comes.
fn first_after(camera: &Camera, since: Instant) -> anyhow::Result<Duration> {
    loop {
        if let Some(error) = camera.failure() {
            return Err(error);
        }
        let arrivals = camera.arrivals();
        let first = arrivals
            .iter()
            .rev()
            .take_while(|(at, _)| *at > since)
            .last();
        if let Some((at, _)) = first {
            return Ok(*at - since);
        }
        drop(arrivals);
        if since.elapsed() > LONGEST {
            bail!("no picture came for {}", ms(LONGEST));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Memory that this process has.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.map_or_else(
        || "-".into(),
        |kilobytes| format!("{:.1} MB", kilobytes / 1e3),
    )
}
