//! Puts an emulated network path between two programs that speak UDP.

use std::io::{BufRead, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Parser;
use path_emulator::{Conditions, Direction, Proxy, Route};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Put an emulated network path between a camera and a relay, or any two programs that speak UDP.
///
/// Clients send to the address of --listen instead of the relay's; what they send, and what
/// comes back, takes the path on its way. Many clients can, and share it.
#[derive(Parser)]
#[command(version, after_long_help = EXAMPLES)]
struct Arguments {
    /// Address on which to take the datagrams of clients [default: 127.0.0.1, a port that the
    /// system picks].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Where to hand them on to.
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,

    /// What the path does: any of delay=10ms jitter=15ms loss=5% burst=5 duplicates=1% rate=16M
    /// queue=60ms down. A delay is one way; a jitter is added to it, from nothing to all of it;
    /// burst is the mean number of datagrams lost in a row; a rate is in bits per second.
    #[arg(long, value_name = "CONDITIONS", default_value_t)]
    path: Conditions,

    /// What it does on the way back to the clients [default: the same].
    #[arg(long, value_name = "CONDITIONS")]
    back: Option<Conditions>,

    /// Seed of its chances: the same seed loses the same datagrams of the same traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const EXAMPLES: &str = "\
While it runs, a line on standard input changes the path or asks for something:

  loss=20% delay=80ms       changes both directions; what is not named stays
  there rate=4M queue=60ms  changes the way to the relay only
  back loss=0%              changes the way back only
  down, up                  an outage begins, ends
  rebind                    gives every client another address, as when a NAT forgets
  stats                     prints what has passed

Example, with a relay on this machine:

  path-emulator --listen 127.0.0.1:9000 --to 127.0.0.1:8000 --path 'delay=20ms loss=5%'
  gst-launch-1.0 videotestsrc is-live=true ! jpegenc ! camrelaysink port=9000 camera=x";

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let route = Route {
        listen: arguments.listen.unwrap_or(any_port),
        to: arguments.to,
    };
    let back = arguments.back.unwrap_or(arguments.path);
    let proxy = Proxy::start(&[route], arguments.path, back, arguments.seed)
        .with_context(|| format!("cannot listen on {}", route.listen))?;
    for address in proxy.addresses() {
        println!("Listening on {address}, leading to {}", route.to);
    }
    println!("Path: {}; back: {back}", arguments.path);
    let proxy = Arc::new(proxy);
    std::thread::spawn({
        let proxy = proxy.clone();
        move || take_orders(&proxy)
    });
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("cannot wait for Ctrl-C")?;
    signals.forever().next();
    print_stats(&proxy);
    Ok(())
}

/// Carries out the lines of standard input, to its end.
fn take_orders(proxy: &Proxy) {
    if std::io::stdin().is_terminal() {
        println!("Type changes such as loss=10%, or rebind, or stats; Ctrl-C ends.");
    }
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if let Err(error) = carry_out(proxy, line.trim()) {
            eprintln!("{error}");
        }
    }
}

fn carry_out(proxy: &Proxy, line: &str) -> anyhow::Result<()> {
    let both = [Direction::There, Direction::Back];
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "" => Ok(()),
        "stats" => {
            print_stats(proxy);
            Ok(())
        }
        "rebind" => {
            proxy.rebind();
            println!("Every client has another address.");
            Ok(())
        }
        "there" => change(proxy, &[Direction::There], rest),
        "back" => change(proxy, &[Direction::Back], rest),
        _ => change(proxy, &both, line),
    }
}

fn change(proxy: &Proxy, directions: &[Direction], text: &str) -> anyhow::Result<()> {
    for direction in directions {
        let mut conditions = proxy.conditions(*direction);
        conditions.change(text).map_err(|error| anyhow!(error))?;
        proxy.set(*direction, conditions);
        println!("{}: {conditions}", name(*direction));
    }
    Ok(())
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::There => "There",
        Direction::Back => "Back",
    }
}

fn print_stats(proxy: &Proxy) {
    for direction in [Direction::There, Direction::Back] {
        println!("{}: {}", name(direction), proxy.counters(direction));
    }
}
