//! From TOML to a deployment, with every mistake noted.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use camrelay_protocol::{Accept, DEFAULT_PORT};
use toml::de::{DeTable, DeValue};

use super::error::{Errors, Problems};
use super::table::{Expected, Found, Table, describe};
use super::{Camera, Deployment, Fault, Relay, Rtsp, Source, Tls, secrets, users, values};

/// The latency where the file says nothing.
const LATENCY: Duration = Duration::from_millis(120);
/// The RTSP port where the file says nothing.
const RTSP_PORT: u16 = 8554;

/// The deployment that `text`, the contents of `path`, describes; `look` takes a closer
/// look at each camera.
pub fn deployment(
    path: &Path,
    text: &str,
    look: &dyn Fn(&Camera) -> Vec<Fault>,
) -> Result<Deployment, Errors> {
    let mut problems = Problems::new(path, text);
    let (root, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        for error in &syntax {
            let offset = error.span().map_or(0, |span| span.start);
            problems.add(offset, None, syntax_message(error.message()));
        }
        // What was recovered around a mistake would only raise false alarms.
        let note = "the rest of the file is checked once this is right";
        problems.add(text.len(), None, note);
        return Err(problems.into_errors());
    }
    let deployment = Reader {
        folder: path.parent().unwrap_or(Path::new("")),
        text,
        look,
        problems: &mut problems,
    }
    .deployment(path, root.get_ref());
    if problems.is_empty() {
        Ok(deployment)
    } else {
        Err(problems.into_errors())
    }
}

pub(super) struct Reader<'p, 't> {
    /// What the paths in the file are relative to.
    folder: &'p Path,
    text: &'p str,
    look: &'p dyn Fn(&Camera) -> Vec<Fault>,
    pub(super) problems: &'p mut Problems<'t>,
}

impl Reader<'_, '_> {
    /// The deployment, with stand-ins where a problem was noted.
    fn deployment(&mut self, path: &Path, root: &DeTable<'_>) -> Deployment {
        let mut root = Table::new(root, "");
        let relay_value = root.value("relay");
        let rtsp_value = root.value("rtsp");
        let http_value = root.value("http");
        let user_value = root.value("user");
        let camera_value = root.value("camera");
        root.finish(self.problems);

        let has_relay = relay_value.is_some();
        let relay = relay_value.and_then(|found| self.relay(found));
        let rtsp = rtsp_value.and_then(|found| self.rtsp(found, has_relay, relay.as_ref()));
        let http = http_value.and_then(|found| self.http(found, has_relay, rtsp.as_ref()));
        let users = user_value.map_or_else(Vec::new, |found| self.users(found, has_relay));
        let has_cameras = camera_value.is_some();
        let cameras = camera_value.map_or_else(Vec::new, |found| self.cameras(found, has_relay));
        if !has_relay && !has_cameras && self.problems.is_empty() {
            let message = "there is nothing to run: expected a [relay], or at least one [[camera]]";
            self.problems.add(0, None, message);
        }
        Deployment {
            path: path.to_owned(),
            relay: relay.map(|relay| relay.value),
            rtsp,
            http,
            users,
            cameras,
        }
    }

    fn relay(&mut self, found: Found<&DeValue<'_>>) -> Option<Found<Relay>> {
        let offset = found.offset;
        let mut table = self.table(found, "relay".into(), "[relay]")?;
        let listen = table.text("listen", self.problems, |text| {
            values::listen(text, DEFAULT_PORT)
        });
        let accept = table.text("accept", self.problems, values::accept);
        let access = table.text("access", self.problems, users::audience);
        let latency = table.text("latency", self.problems, values::latency);
        let key = table.text("key", self.problems, values::text);
        let cameras = table.text("cameras", self.problems, values::text);
        let needs_key = |what: &str| {
            format!(
                "{what} needs the relay's key: make one with 'launcher keys relay relay.key' and say key = \"relay.key\" here"
            )
        };
        if let Some(Found {
            value: Accept::Known,
            offset,
        }) = accept
        {
            let place = Some(table.key("accept"));
            if !table.has("key") {
                self.problems
                    .add(offset, place.clone(), needs_key("'known'"));
            }
            if !table.has("cameras") {
                let message = "'known' needs the list of known cameras, which 'launcher keys add' keeps: say cameras = \"cameras.txt\" here";
                self.problems.add(offset, place, message);
            }
        } else if let Some(cameras) = &cameras
            && !table.has("key")
        {
            let place = Some(table.key("cameras"));
            self.problems
                .add(cameras.offset, place, needs_key("a list of known cameras"));
        }
        let key = self.secret(key, table.key("key"), secrets::relay_key);
        let cameras = self.secret(cameras, table.key("cameras"), secrets::known_cameras);
        table.finish(self.problems);
        let value = Relay {
            listen: listen
                .as_ref()
                .map_or_else(|| any(DEFAULT_PORT), |listen| listen.value),
            accept: accept.map_or_else(Accept::default, |accept| accept.value),
            access: access.map(|access| access.value),
            latency: latency.map_or(LATENCY, |latency| latency.value),
            key,
            cameras,
        };
        Some(Found {
            value,
            offset: listen.map_or(offset, |listen| listen.offset),
        })
    }

    fn rtsp(
        &mut self,
        found: Found<&DeValue<'_>>,
        has_relay: bool,
        relay: Option<&Found<Relay>>,
    ) -> Option<Rtsp> {
        let mut offset = found.offset;
        let mut table = self.table(found, "rtsp".into(), "[rtsp]")?;
        if !has_relay {
            let message = "expected a [relay] as well: RTSP shows the cameras of a relay";
            self.problems.add(offset, Some("rtsp".into()), message);
        }
        let found = table.text("listen", self.problems, |text| {
            values::listen(text, RTSP_PORT)
        });
        let wrong = table.has("listen") && found.is_none();
        let listen = found.map_or_else(
            || any(RTSP_PORT),
            |listen| {
                offset = listen.offset;
                listen.value
            },
        );
        if let Some(relay) = relay
            && !wrong
            && listen.port() != 0
            && listen.port() == relay.value.listen.port()
        {
            let line = self.problems.line(relay.offset);
            let message = format!(
                "expected a port of its own, found {}, which [relay] has (line {line})",
                listen.port()
            );
            self.problems
                .add(offset, Some(table.key("listen")), message);
        }
        let ports = table.text("ports", self.problems, values::ports);
        let tls = self.tls(&mut table);
        table.finish(self.problems);
        Some(Rtsp {
            listen,
            ports: ports.map(|ports| ports.value),
            tls,
        })
    }

    fn cameras(&mut self, found: Found<&DeValue<'_>>, has_relay: bool) -> Vec<Camera> {
        let DeValue::Array(list) = found.value else {
            let message = match found.value {
                DeValue::Table(_) => {
                    "expected two brackets, [[camera]], as there can be several".into()
                }
                other => Expected::new("[[camera]] tables").but_found(&describe(other)),
            };
            self.problems
                .add(found.offset, Some("camera".into()), message);
            return Vec::new();
        };
        let mut names = HashMap::new();
        list.iter()
            .enumerate()
            .filter_map(|(index, value)| {
                let found = Found {
                    value: value.get_ref(),
                    offset: value.span().start,
                };
                self.camera(found, index + 1, has_relay, &mut names)
            })
            .collect()
    }

    fn camera(
        &mut self,
        found: Found<&DeValue<'_>>,
        number: usize,
        has_relay: bool,
        names: &mut HashMap<String, usize>,
    ) -> Option<Camera> {
        let offset = found.offset;
        let called = match found
            .value
            .get("name")
            .and_then(|name| name.get_ref().as_str())
        {
            Some(name) => format!("camera '{name}'"),
            None => format!("camera {number}"),
        };
        let mut table = self.table(found, called, "[[camera]]")?;
        let name = table.text("name", self.problems, values::camera_name);
        let source = table.text("source", self.problems, |text| {
            Source::parse(text, self.folder).map(|_| text.trim().to_owned())
        });
        let encode = table.text("encode", self.problems, values::text);
        let relay = table.text("relay", self.problems, values::relay);
        let key = table.text("key", self.problems, values::text);
        let latency = table.text("latency", self.problems, values::latency);
        for (key, example) in [
            ("name", "name = \"door\""),
            ("source", "source = \"/dev/video0\""),
        ] {
            if !table.has(key) {
                let message = format!("expected one, such as {example}");
                self.problems.add(offset, Some(table.key(key)), message);
            }
        }
        if !table.has("relay") && !has_relay {
            let message = "expected one, such as relay = \"relay.local:8000\", as this file has no [relay] of its own";
            self.problems.add(offset, Some(table.key("relay")), message);
        }
        if let Some(name) = &name {
            let line = self.problems.line(name.offset);
            if let Some(other) = names.insert(name.value.clone(), line) {
                let message = format!(
                    "expected a name of its own, found the one of the camera on line {other}"
                );
                self.problems
                    .add(name.offset, Some(table.key("name")), message);
            }
        }
        let key = self.secret(key, table.key("key"), secrets::camera_token);
        let places = [("source", &source), ("encode", &encode)]
            .map(|(key, found)| (table.key(key), key, found.as_ref().map(|text| text.offset)));
        table.finish(self.problems);
        let camera = Camera {
            name: name?.value,
            source: source?.value,
            encode: encode.map(|encode| encode.value),
            relay: relay.map(|relay| relay.value),
            key,
            latency: latency.map_or(LATENCY, |latency| latency.value),
        };
        for fault in (self.look)(&camera) {
            let value = match fault.key {
                "encode" => camera.encode.as_deref().unwrap_or_default(),
                _ => &camera.source,
            };
            for (place, key, found) in &places {
                if let (true, Some(offset)) = (*key == fault.key, found) {
                    let start = inside(self.text, *offset, value);
                    let offset = start.map_or(*offset, |start| start + fault.offset);
                    self.problems
                        .add(offset, Some(place.clone()), fault.message.as_str());
                }
            }
        }
        Some(camera)
    }

    /// The value as a table; anything else is noted.
    pub(super) fn table<'v>(
        &mut self,
        found: Found<&'v DeValue<'v>>,
        name: String,
        header: &str,
    ) -> Option<Table<'v>> {
        match found.value {
            DeValue::Table(entries) => Some(Table::new(entries, name)),
            other => {
                let message =
                    Expected::new(format!("a table, {header}")).but_found(&describe(other));
                self.problems.add(found.offset, Some(name), message);
                None
            }
        }
    }

    /// The certificate of a server and its key, read once to see that they are right.
    pub(super) fn tls(&mut self, table: &mut Table<'_>) -> Option<Tls> {
        let certificate = table.text("certificate", self.problems, values::text);
        let key = table.text("private-key", self.problems, values::text);
        let (certificate, key) = match (certificate, key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(one), None) | (None, Some(one)) => {
                let message = "expected certificate and private-key together; make both with: launcher keys certificate";
                self.problems
                    .add(one.offset, Some(table.key("certificate")), message);
                return None;
            }
            (None, None) => return None,
        };
        let tls = Tls {
            certificate: self.folder.join(certificate.value),
            private_key: self.folder.join(key.value),
        };
        if let Err(message) = secrets::tls(&tls.certificate, &tls.private_key) {
            self.problems
                .add(certificate.offset, Some(table.key("certificate")), message);
        }
        Some(tls)
    }

    /// The path of a file with a key or keys, read once to see that it is right.
    fn secret<T>(
        &mut self,
        found: Option<Found<String>>,
        place: String,
        read: fn(&Path) -> Result<T, String>,
    ) -> Option<PathBuf> {
        let Found { value, offset } = found?;
        let path = self.folder.join(value);
        if let Err(message) = read(&path) {
            self.problems.add(offset, Some(place), message);
        }
        Some(path)
    }
}

/// Where in the file the text `value` starts whose quotes are at `offset`; `None` where
/// it is not written there as it is (escapes, several lines).
fn inside(file: &str, offset: usize, value: &str) -> Option<usize> {
    let quoted = file.get(offset..)?;
    let text = quoted.trim_start_matches(['"', '\'']).trim_start();
    text.starts_with(value)
        .then(|| offset + quoted.len() - text.len())
}

pub(super) fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// The TOML parser's words, except for the commonest mistake: a text without quotes.
fn syntax_message(message: &str) -> String {
    if message.starts_with("invalid float") || message.starts_with("invalid integer") {
        "expected a number, or a text in quotes (\"…\")".to_owned()
    } else if message.starts_with("string values must be quoted") {
        "expected a text in quotes (\"…\")".to_owned()
    } else {
        message.to_owned()
    }
}
