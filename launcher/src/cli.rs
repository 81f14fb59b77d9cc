//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Runs camrelay deployments: cameras push frames over one UDP port to a relay,
/// anyone watches from an RTSP player.
#[derive(Parser)]
#[command(name = "launcher", version)]
pub struct Cli {
    /// What the lines on standard error look like
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

/// What the log lines look like.
#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// One line of words for a person.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// Send the cameras of a file to a relay
    Camera {
        /// The deployment, a TOML file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a relay, and the cameras of the same file
    Relay {
        /// The deployment, a TOML file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a relay with moving test pictures, to see that everything works
    Demo,
}
