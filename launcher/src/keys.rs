//! The relay's key, its list of known cameras, hashes of passwords, and certificates.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use camrelay_protocol::{CameraToken, KnownCamera, PrivateKey};

use crate::cli::KeysCommand;
use crate::config::secrets;
use crate::relay::address;
use crate::users::password;

/// Runs one `launcher keys` command; what is made for use elsewhere goes to standard output.
pub fn run(command: &KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Relay { file } => {
            println!("{}", make_relay_key(file)?);
            eprintln!(
                "The relay's private key is in {0}: keep it secret, and say key = \"{0}\" in its [relay].\n\
                 Above is its public key, which the tokens of its cameras hold.",
                file.display()
            );
        }
        KeysCommand::Add {
            relay_key,
            cameras,
            names,
        } => {
            println!("{}", add(relay_key, cameras, names)?);
            eprintln!(
                "Above is the token for {}: put it into a file on the camera's machine, and name that\n\
                 file as key of the [[camera]] there. It is not shown again.",
                names.join(", ")
            );
        }
        KeysCommand::Password => {
            println!("password = \"{}\"", password::hash(&password::ask()?)?);
        }
        KeysCommand::Certificate {
            certificate,
            key,
            names,
        } => {
            make_certificate(certificate, key, names)?;
            eprintln!(
                "The certificate is in {0}, its key in {1}: keep that secret, and say certificate = \"{0}\"\n\
                 and private-key = \"{1}\" in [rtsp] and [http]. Players and browsers ask whether to trust it.",
                certificate.display(),
                key.display()
            );
        }
        KeysCommand::List { cameras } => print!("{}", list(cameras)?),
        KeysCommand::Remove { cameras, name } => remove(cameras, name)?,
    }
    Ok(())
}

/// Makes a relay's key in `file`, which must not exist; returns the public key.
fn make_relay_key(file: &Path) -> anyhow::Result<String> {
    let key = PrivateKey::from_random(random()?);
    let mut out = create_secret(file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow!(
            "{0} exists already and is left as it is: a new key would make every camera's token \
             useless. Remove {0} first if that is what you want",
            file.display()
        ),
        _ => anyhow!("{} cannot be made: {error}", file.display()),
    })?;
    writeln!(out, "{}", key.to_text())
        .and_then(|()| out.sync_all())
        .with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(key.public().to_string())
}

/// Makes a certificate that signs itself, for this machine and these names, and its key;
/// neither file may exist.
pub fn make_certificate(certificate: &Path, key: &Path, names: &[String]) -> anyhow::Result<()> {
    let own = [Some(Ipv4Addr::LOCALHOST.into()), address::in_network()];
    let own = own.iter().flatten().map(IpAddr::to_string);
    let names: Vec<_> = own
        .chain(["localhost".into()])
        .chain(names.iter().cloned())
        .collect();
    let made = rcgen::generate_simple_self_signed(names).context("no certificate can be made")?;
    for (path, text) in [
        (key, made.signing_key.serialize_pem()),
        (certificate, made.cert.pem()),
    ] {
        let mut out = create_secret(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                anyhow!("{} exists already and is left as it is", path.display())
            }
            _ => anyhow!("{} cannot be made: {error}", path.display()),
        })?;
        out.write_all(text.as_bytes())
            .and_then(|()| out.sync_all())
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

/// Adds a camera to the list `cameras`, which is made when it is not there; returns its token.
fn add(relay_key: &Path, cameras: &Path, names: &[String]) -> anyhow::Result<String> {
    let relay = secrets::relay_key(relay_key).map_err(anyhow::Error::msg)?;
    let text = if cameras.exists() {
        read_list(cameras)?
    } else {
        drop(
            create_secret(cameras)
                .with_context(|| format!("{} cannot be made", cameras.display()))?,
        );
        String::new()
    };
    for name in names {
        if keys(&text).any(|key| has_name(&key, name)) {
            bail!(
                "{0} has a camera '{name}' already; take it out first with: launcher keys remove --cameras {0} {name}",
                cameras.display()
            );
        }
    }
    let token = CameraToken::new(relay.public(), random()?);
    let line = token.known_camera(names.to_vec()).to_text();
    let gap = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    OpenOptions::new()
        .append(true)
        .open(cameras)
        .and_then(|mut out| {
            out.write_all(format!("{gap}{line}\n").as_bytes())?;
            out.sync_all()
        })
        .with_context(|| format!("{} cannot be written", cameras.display()))?;
    Ok(token.to_text())
}

/// The names of every key of the list, and the beginning of the key.
fn list(cameras: &Path) -> anyhow::Result<String> {
    const SHOWN: usize = 8;
    let text = read_list(cameras)?;
    Ok(keys(&text)
        .map(|key| {
            let start: String = key.public().to_string().chars().take(SHOWN).collect();
            format!("{start}…  {}\n", key.names().join(", "))
        })
        .collect())
}

/// Takes `name` from every key of the list; a key without names is taken out.
fn remove(cameras: &Path, name: &str) -> anyhow::Result<()> {
    let text = read_list(cameras)?;
    if !keys(&text).any(|key| has_name(&key, name)) {
        bail!(
            "{0} has no camera '{name}'; see: launcher keys list --cameras {0}",
            cameras.display()
        );
    }
    let kept: String = text
        .lines()
        .filter_map(|line| match line.parse::<KnownCamera>() {
            Ok(key) if has_name(&key, name) => {
                let left = key.names().iter().filter(|other| *other != name);
                let left: Vec<_> = left.map(String::as_str).collect();
                let secret = line.split_whitespace().nth(1).unwrap_or_default();
                (!left.is_empty()).then(|| format!("{} {secret}\n", left.join(",")))
            }
            _ => Some(format!("{line}\n")),
        })
        .collect();
    replace(cameras, &kept).with_context(|| format!("{} cannot be written", cameras.display()))
}

/// The keys of a list; remarks and blank lines are passed over.
fn keys(text: &str) -> impl Iterator<Item = KnownCamera> {
    text.lines().filter_map(|line| line.parse().ok())
}

/// Whether the key's line has just this name; a key for any name has only `*`.
fn has_name(key: &KnownCamera, name: &str) -> bool {
    key.names().iter().any(|listed| listed == name)
}

/// The text of a list, once all its lines are found to be right.
fn read_list(cameras: &Path) -> anyhow::Result<String> {
    let text =
        secrets::read_text(cameras).map_err(|error| anyhow!("{}: {error}", cameras.display()))?;
    KnownCamera::parse_list(&text).map_err(|error| anyhow!("{}: {error}", cameras.display()))?;
    Ok(text)
}

/// A new file that only its owner may read.
fn create_secret(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Puts `text` in the place of a file in one step, so that a reader never sees half of it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file()
        .set_permissions(std::fs::metadata(path)?.permissions())?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}

/// 32 bytes from the system's random source.
fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system has no randomness")?;
    Ok(bytes)
}
