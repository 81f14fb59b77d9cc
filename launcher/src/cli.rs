//! The command line and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::camera_name;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID"));

const EXAMPLES: &str = "\
Begin with:
  launcher demo
      Moving test pictures; open the addresses that it prints in a browser, or in a player.
  launcher relay --config pipelines/relay.toml
      The relay: cameras come in at UDP port 8000, and are watched in a browser at
      http://THIS-MACHINE:8080/, and in a player at rtsp://THIS-MACHINE:8554/NAME.
  launcher camera --config pipelines/camera.toml
      On the machine with the camera, once its 'relay' names the relay.

'launcher help COMMAND' tells more. RUST_LOG=debug shows more of what happens.
Exit codes: 0 done, 1 failed while running, 2 wrong use, 78 wrong configuration.";

const CAMERA_EXAMPLES: &str = "\
Examples:
  launcher camera --config pipelines/test-camera.toml
      A moving test picture: no camera is needed.
  launcher camera --config pipelines/camera.toml
      A webcam.

A deployment with one camera:
  [[camera]]
  name   = \"door\"
  source = \"/dev/video0\"         # a device, rtsp://…, a file, or gst-launch text
  relay  = \"192.168.1.10:8000\"

A camera that is unplugged, hangs or loses its relay is tried again until it is
back. Ctrl-C ends it.";

const RELAY_EXAMPLES: &str = "\
Examples:
  launcher relay --config pipelines/relay.toml
      A relay for cameras on the same network.
  launcher relay --config pipelines/all-in-one.toml
      A relay and a camera in one.

A deployment with a relay:
  [relay]
  listen = \"0.0.0.0:8000\"        # UDP, where cameras send to
  accept = \"lan\"                 # lan | known | anyone
  [rtsp]
  listen = \"0.0.0.0:8554\"        # where players connect to
  [http]
  listen = \"0.0.0.0:8080\"        # where browsers connect to

Every camera NAME that comes in is on the page http://THIS-MACHINE:8080/, and at
rtsp://THIS-MACHINE:8554/NAME for players. Ctrl-C ends it.";

const DEMO_EXAMPLES: &str = "\
Example:
  launcher demo

Two moving test cameras, and the webcams of this machine. It prints the addresses to
open in a browser, or in ffplay, mpv or another player. Ctrl-C ends it.";

const CHECK_EXAMPLES: &str = "\
Example:
  launcher check --config pipelines/camera.toml

Every mistake is a line FILE:LINE:COLUMN: KEY: what was expected. No camera, device
or relay is needed for it. The exit code is 0 when all is right, else 78.";

const STATUS_EXAMPLES: &str = "\
Examples:
  launcher status
      The relay on this machine, at port 8080.
  launcher status --url http://192.168.1.10:8080
      One on another machine.
  launcher status --url http://ann@192.168.1.10:8080
      One that has users: it asks for ann's password, unless CAMRELAY_PASSWORD holds it.
  launcher status --url https://192.168.1.10:8080 --certificate relay.crt
      One that has a certificate; with --config its file is known.

The relay needs an [http].";

const KEYS_EXAMPLES: &str = "\
Without keys a relay takes cameras of its own network (accept = \"lan\"). To take
known cameras from anywhere, and nobody else:

  1. On the relay, once:
       launcher keys relay relay.key
  2. On the relay, for each camera:
       launcher keys add --relay-key relay.key --cameras cameras.txt door > door.key
  3. In the relay's deployment:
       [relay]
       accept  = \"known\"
       key     = \"relay.key\"
       cameras = \"cameras.txt\"
  4. Take door.key to the camera's machine, and in its deployment:
       [[camera]]
       name = \"door\"
       key  = \"door.key\"";

const KEYS_RELAY_EXAMPLES: &str = "\
Example:
  launcher keys relay relay.key

Prints the public key. A file that exists is left as it is.";

const KEYS_ADD_EXAMPLES: &str = "\
Examples:
  launcher keys add --relay-key relay.key --cameras cameras.txt door > door.key
      One camera, its token in a file.
  launcher keys add --relay-key relay.key --cameras cameras.txt door,gate,yard
      One token that may be used for three cameras.
  launcher keys add --relay-key relay.key --cameras cameras.txt '*'
      A token for any name.

Prints the token, which is secret, and adds a line to the list.";

const KEYS_LIST_EXAMPLES: &str = "\
Example:
  launcher keys list --cameras cameras.txt

Prints for each key the beginning of its public half, and the names it may use.";

const KEYS_CERTIFICATE_EXAMPLES: &str = "\
Example:
  launcher keys certificate relay.crt relay-tls.key --names cams.example.org
      and in the relay's deployment, under [rtsp] and under [http]:
        certificate = \"relay.crt\"
        private-key = \"relay-tls.key\"

Then players connect to rtsps://THIS-MACHINE:8554/NAME, and browsers to
https://THIS-MACHINE:8080/. The certificate is for this machine's addresses and these
names. Files that exist are left as they are.";

const KEYS_PASSWORD_EXAMPLES: &str = "\
Asks for a password, or reads a line of standard input, and prints the line for:

  [[user]]
  name     = \"ann\"
  password = \"$argon2id$…\"
  rights   = [\"view\"]                # view | admin
  cameras  = [\"door*\", \"yard\"]      # all, where it is left out";

const KEYS_REMOVE_EXAMPLES: &str = "\
Example:
  launcher keys remove --cameras cameras.txt door

A key that may use other names as well keeps those.";

/// Runs camrelay deployments: cameras send their pictures over one UDP port to a
/// relay, and anyone watches in a browser or an RTSP player.
#[derive(Parser)]
#[command(name = "launcher", version = VERSION, after_help = EXAMPLES)]
pub struct Cli {
    /// What the log lines on standard error look like
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What the log lines look like.
#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// A line of words, for a person
    Text,
    /// A JSON object a line, for machines
    Json,
}

/// What the program can do.
#[derive(Subcommand)]
pub enum Command {
    /// Send the cameras of a deployment to their relay
    #[command(after_help = CAMERA_EXAMPLES)]
    Camera(Deployed),
    /// Run the relay of a deployment, and the cameras that it has
    #[command(after_help = RELAY_EXAMPLES)]
    Relay(Deployed),
    /// Run a relay with moving test pictures, to see that everything works
    #[command(after_help = DEMO_EXAMPLES)]
    Demo,
    /// Check a deployment without running it
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Deployed),
    /// Show how the cameras of a running relay are doing
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// The deployment of a relay that runs on this machine
        #[arg(long, value_name = "FILE", conflicts_with = "url")]
        config: Option<PathBuf>,
        /// Where a relay's page is; http://127.0.0.1:8080 where nothing is said
        #[arg(long)]
        url: Option<String>,
        /// The certificate that the relay at an https:// address has to show, a PEM file
        #[arg(long, value_name = "FILE", requires = "url")]
        certificate: Option<PathBuf>,
        /// Print what the relay says as JSON, for machines
        #[arg(long)]
        json: bool,
    },
    /// Make the keys by which a relay knows its cameras, and hash passwords
    #[command(after_help = KEYS_EXAMPLES)]
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Decode and encode pictures for a relay, through the pipes to it
    #[command(hide = true)]
    Worker,
}

/// The deployment of a command.
#[derive(Args)]
pub struct Deployed {
    /// The deployment, a TOML file; there are examples in pipelines/
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What can be done with keys and passwords.
#[derive(Subcommand)]
pub enum KeysCommand {
    /// Make the relay's own key
    #[command(after_help = KEYS_RELAY_EXAMPLES)]
    Relay {
        /// The file to make, which only you may read
        file: PathBuf,
    },
    /// Add a camera to the list, and print the token that it needs
    #[command(after_help = KEYS_ADD_EXAMPLES)]
    Add {
        /// The relay's key, as made by 'launcher keys relay'
        #[arg(long, value_name = "FILE")]
        relay_key: PathBuf,
        /// The list of known cameras; made when it is not there
        #[arg(long, value_name = "LIST")]
        cameras: PathBuf,
        /// The camera's name, or several with commas between them, or '*' for any
        #[arg(
            value_name = "NAME[,NAME…]",
            required = true,
            value_delimiter = ',',
            num_args = 1,
            value_parser = listed_name
        )]
        names: Vec<String>,
    },
    /// Show the cameras of the list
    #[command(after_help = KEYS_LIST_EXAMPLES)]
    List {
        /// The list of known cameras
        #[arg(long, value_name = "LIST")]
        cameras: PathBuf,
    },
    /// Make a certificate that signs itself, for rtsps:// and https://
    #[command(after_help = KEYS_CERTIFICATE_EXAMPLES)]
    Certificate {
        /// The file of the certificate to make
        certificate: PathBuf,
        /// The file of its key to make, which only you may read
        key: PathBuf,
        /// Other names or addresses of the relay, with commas between them
        #[arg(long, value_name = "NAME[,NAME…]", value_delimiter = ',')]
        names: Vec<String>,
    },
    /// Print the hash of a password, for a `[[user]]` of the deployment
    #[command(after_help = KEYS_PASSWORD_EXAMPLES)]
    Password,
    /// Take a camera out of the list
    #[command(after_help = KEYS_REMOVE_EXAMPLES)]
    Remove {
        /// The list of known cameras
        #[arg(long, value_name = "LIST")]
        cameras: PathBuf,
        /// The camera's name, as 'launcher keys list' shows it
        name: String,
    },
}

fn listed_name(text: &str) -> Result<String, String> {
    match text {
        "*" => Ok(text.to_owned()),
        _ => camera_name(text),
    }
}
