//! Who may send to the relay: what the deployment says, and its list of known cameras.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use camrelay_protocol::{Accept, Access, CameraToken, KnownCamera, PrivateKey};
use gstcamrelay::port::PortSettings;

use crate::config::Deployment;
use crate::config::secrets::{known_cameras, relay_key};

/// Who may send, and where that is written.
pub struct Gate {
    identity: Option<PrivateKey>,
    accept: Accept,
    list: Option<List>,
    known: Vec<KnownCamera>,
    /// The cameras of the deployment itself, where they need a token; and that.
    own: Option<(KnownCamera, CameraToken)>,
}

struct List {
    path: PathBuf,
    /// What the file was like when it was last looked at.
    seen: Option<Result<Version, ErrorKind>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    modified: SystemTime,
    length: u64,
}

impl Gate {
    /// Reads the keys that the deployment names. Its own cameras that send to it
    /// without a key are made known, where only known ones are let in.
    pub fn open(deployment: &Deployment) -> anyhow::Result<Self> {
        let relay = deployment.relay.as_ref().context("no [relay]")?;
        let read = |path: &PathBuf| relay_key(path).map_err(anyhow::Error::msg);
        let identity = relay.key.as_ref().map(read).transpose()?;
        let own: Vec<_> = deployment
            .cameras
            .iter()
            .filter(|camera| camera.relay.is_none() && camera.key.is_none())
            .map(|camera| camera.name.clone())
            .collect();
        let own = match (&identity, relay.accept) {
            (Some(identity), Accept::Known) if !own.is_empty() => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).context("the system has no randomness")?;
                let token = CameraToken::new(identity.public(), seed);
                Some((token.known_camera(own), token))
            }
            _ => None,
        };
        let mut gate = Self {
            identity,
            accept: relay.accept,
            list: relay.cameras.clone().map(|path| List { path, seen: None }),
            known: Vec::new(),
            own,
        };
        gate.reread().map_err(anyhow::Error::msg)?;
        Ok(gate)
    }

    /// How to open the port.
    pub fn settings(&self, address: SocketAddr) -> PortSettings {
        PortSettings {
            address,
            identity: self.identity.clone(),
            access: self.access(),
        }
    }

    /// Who may send now.
    pub fn access(&self) -> Access {
        let own = self.own.iter().map(|(known, _)| known.clone());
        Access {
            accept: self.accept,
            known: self.known.iter().cloned().chain(own).collect(),
        }
    }

    /// The token of the deployment's own cameras, where they need one.
    pub fn token(&self) -> Option<String> {
        self.own.as_ref().map(|(_, token)| token.to_text())
    }

    /// Reads the list of known cameras again where it changed; true when it did.
    /// The error is a sentence; the cameras known before stay so.
    pub fn reread(&mut self) -> Result<bool, String> {
        let Some(list) = &mut self.list else {
            return Ok(false);
        };
        let now = std::fs::metadata(&list.path)
            .and_then(|file| {
                Ok(Version {
                    modified: file.modified()?,
                    length: file.len(),
                })
            })
            .map_err(|error| error.kind());
        if list.seen.replace(now) == Some(now) {
            return Ok(false);
        }
        self.known = known_cameras(&list.path)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use crate::config::Deployment;

    /// A deployment with its relay's key and one known camera, in `folder`.
    fn deployment(folder: &Path, cameras: &str) -> Deployment {
        let key = PrivateKey::from_random([7; 32]);
        std::fs::write(folder.join("relay.key"), key.to_text()).expect("a file");
        std::fs::write(folder.join("cameras.txt"), line(&key, "gate")).expect("a file");
        let path = folder.join("relay.toml");
        let relay = "accept = \"known\"\nkey = \"relay.key\"\ncameras = \"cameras.txt\"\n";
        std::fs::write(&path, format!("[relay]\n{relay}{cameras}")).expect("a file");
        Deployment::load(&path).expect("it is right")
    }

    fn line(key: &PrivateKey, name: &str) -> String {
        let token = CameraToken::new(key.public(), [name.len() as u8; 32]);
        token.known_camera(vec![name.to_owned()]).to_text() + "\n"
    }

    fn lets_in(gate: &Gate, name: &str) -> bool {
        gate.access().known.iter().any(|known| known.may_use(name))
    }

    #[test]
    fn own_cameras_are_known_without_a_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = "[[camera]]\nname = \"door\"\nsource = \"videotestsrc\"\n";
        let gate = Gate::open(&deployment(folder.path(), own)).expect("it opens");
        assert!(lets_in(&gate, "gate"));
        assert!(lets_in(&gate, "door"));
        assert!(!lets_in(&gate, "window"));
        let token: CameraToken = gate.token().expect("a token").parse().expect("a good one");
        let known = token.known_camera(vec!["door".into()]).public();
        assert!(gate.access().known.iter().any(|one| one.public() == known));

        let gate = Gate::open(&deployment(folder.path(), "")).expect("it opens");
        assert_eq!(gate.token(), None);
    }

    #[test]
    fn the_list_is_followed_and_kept_when_it_breaks() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut gate = Gate::open(&deployment(folder.path(), "")).expect("it opens");
        let list = folder.path().join("cameras.txt");
        assert_eq!(gate.reread(), Ok(false));
        let key = PrivateKey::from_random([7; 32]);
        std::fs::write(&list, line(&key, "window") + &line(&key, "barn")).expect("a file");
        assert_eq!(gate.reread(), Ok(true));
        assert!(lets_in(&gate, "window") && !lets_in(&gate, "gate"));

        for change in [
            |list: &Path| std::fs::write(list, "nonsense"),
            |list: &Path| std::fs::remove_file(list),
        ] {
            change(&list).expect("it changes");
            let error = gate.reread().expect_err("it is broken");
            assert!(error.contains("cameras.txt"), "{error}");
            assert_eq!(gate.reread(), Ok(false), "said once");
            assert!(lets_in(&gate, "window"));
        }
        std::fs::write(&list, line(&key, "gate")).expect("a file");
        assert_eq!(gate.reread(), Ok(true));
        assert!(lets_in(&gate, "gate") && !lets_in(&gate, "window"));
    }
}
