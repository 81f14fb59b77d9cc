//! Runs camrelay deployments described in TOML files.

mod camera;
mod check;
mod cli;
mod config;
mod demo;
#[cfg(test)]
mod fuzzing;
mod ingest;
mod keys;
mod logging;
mod relay;
mod serve;
mod status;
mod stop;
mod users;
mod worker;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use cli::{Cli, Command, Deployed};
use config::Deployment;
use stop::Stop;

/// Exit code when something failed while running.
const FAILED: u8 = 1;
/// Exit code when the configuration is wrong (EX_CONFIG of sysexits.h).
const WRONG_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    // GStreamer 1.22 leaks every v4l2src that goes from PLAYING to NULL, and
    // its descriptors, unless this is set.
    // SAFETY: no other thread runs yet, so nobody reads the environment now.
    unsafe { std::env::set_var("GST_V4L2_FORCE_DRAIN", "1") };

    let cli = Cli::parse();
    if let Command::Worker = cli.command {
        // Its standard error is nobody's to read.
        return match worker::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(FAILED),
        };
    }
    logging::init(cli.log_format);
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<config::Errors>() {
            Some(errors) => {
                eprintln!("{errors}");
                ExitCode::from(WRONG_CONFIGURATION)
            }
            None => {
                eprintln!("launcher: {}", in_words(&error));
                ExitCode::from(FAILED)
            }
        },
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Camera(Deployed { config }) => {
            let deployment = Deployment::load(&config)?;
            if deployment.cameras.is_empty() {
                let message =
                    "expected at least one [[camera]] to send; run its relay with: launcher relay";
                return Err(config::Errors::of_file(&config, message).into());
            }
            let stop = start()?;
            camera::run(&deployment, None, &stop)
        }
        Command::Relay(Deployed { config }) => {
            let deployment = Deployment::load(&config)?;
            if deployment.relay.is_none() {
                let message = "expected a [relay]; send the cameras alone with: launcher camera";
                return Err(config::Errors::of_file(&config, message).into());
            }
            let stop = start()?;
            relay::run(&deployment, stop)
        }
        Command::Demo => demo::run(start()?),
        Command::Check(Deployed { config }) => check::run(&config),
        Command::Status {
            config,
            url,
            certificate,
            json,
        } => {
            let which = status::Which {
                config,
                url,
                certificate,
            };
            status::run(&which, json)
        }
        Command::Keys(command) => keys::run(&command),
        Command::Worker => worker::run(),
    }
}

/// Takes over the signals and loads GStreamer with the camrelay elements.
fn start() -> anyhow::Result<Stop> {
    let stop = Stop::on_signals()?;
    load_gstreamer()?;
    Ok(stop)
}

/// Loads GStreamer with the camrelay elements.
fn load_gstreamer() -> anyhow::Result<()> {
    gst::init().context("GStreamer does not start")?;
    gstcamrelay::plugin_register_static().context("the camrelay elements do not load")
}

/// An error and its causes, in one line; what a cause says that was said already is left out.
fn in_words(error: &anyhow::Error) -> String {
    let mut words = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let error = anyhow::anyhow!("in use").context("cannot listen: in use; stop what does");
        let error = error.context("the relay does not start");
        let expected = "the relay does not start: cannot listen: in use; stop what does";
        assert_eq!(in_words(&error), expected);
    }
}
