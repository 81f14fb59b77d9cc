//! `launcher check`: what is wrong with a deployment, without running it.

use std::path::Path;

use camrelay_protocol::Accept;

use crate::camera;
use crate::config::{Audience, Camera, Deployment, Relay, Source, User};

/// Checks the deployment in `path`, and says what it does when all is right.
pub fn run(path: &Path) -> anyhow::Result<()> {
    crate::load_gstreamer()?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let deployment = Deployment::load_with(path, |camera| camera::faults(camera, folder))?;
    print!("{}", summary(&deployment));
    Ok(())
}

fn summary(deployment: &Deployment) -> String {
    let mut lines = vec![format!("{} is right.", deployment.path.display())];
    if let Some(relay) = &deployment.relay {
        lines.push(format!(
            "relay: cameras send to UDP {}; {} may",
            relay.listen,
            who(relay)
        ));
        lines.push(match &deployment.rtsp {
            Some(rtsp) => format!("rtsp: players connect to TCP {}", rtsp.listen),
            None => "no [rtsp]: players cannot connect".into(),
        });
        lines.push(match &deployment.http {
            Some(http) => format!("http: browsers connect to TCP {}", http.listen),
            None => "no [http]: browsers cannot connect".into(),
        });
        lines.push(format!("viewers: {}", viewers(relay, &deployment.users)));
    }
    lines.extend(deployment.cameras.iter().map(camera_line));
    lines.join("\n") + "\n"
}

fn who(relay: &Relay) -> &'static str {
    match (relay.accept, &relay.cameras) {
        (Accept::Lan, None) => "those of the same network",
        (Accept::Lan, Some(_)) => "those of the same network and those with a key",
        (Accept::Known, _) => "those with a key",
        (Accept::Anyone, _) => "all",
    }
}

fn viewers(relay: &Relay, users: &[User]) -> String {
    let near = "those of the same network";
    let who = match (relay.access, users) {
        (None | Some(Audience::Lan), []) => near.to_owned(),
        (Some(Audience::Anyone), []) => "anyone".to_owned(),
        (Some(Audience::Lan), _) => format!("{near} who log in"),
        (_, _) => "those who log in, from anywhere".to_owned(),
    };
    let names: Vec<_> = users.iter().map(|user| user.name.as_str()).collect();
    match names.as_slice() {
        [] => who,
        names => format!("{who}: {}", names.join(", ")),
    }
}

fn camera_line(camera: &Camera) -> String {
    let source = Source::parse(&camera.source, Path::new(""))
        .map_or_else(|_| camera.source.clone(), |source| source.to_string());
    let encode = match &camera.encode {
        Some(encode) => format!("through {encode}"),
        None => "as it is or as JPEG".into(),
    };
    let relay = camera.relay.as_deref().unwrap_or("the relay of this file");
    let key = if camera.key.is_some() {
        "with its key"
    } else {
        "without a key"
    };
    format!(
        "camera {}: {source}, {encode}, to {relay} {key}",
        camera.name
    )
}
