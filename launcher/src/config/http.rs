//! The `[http]` table: where browsers connect to.

use toml::de::DeValue;

use super::read::{Reader, any};
use super::table::{Expected, Found};
use super::{Http, Rtsp, values};

/// The HTTP port where the file says nothing.
const HTTP_PORT: u16 = 8080;
/// The longest name of a host, in bytes (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// A name that the relay is asked for by, in lower case.
fn host(text: &str) -> Result<String, Expected> {
    let expected = || Expected::new("a host name, such as 'cams.example.org'");
    let name = text.to_ascii_lowercase();
    let is_label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && label.chars().all(fits)
    };
    if name.len() <= MAX_HOST && name.split('.').all(is_label) {
        return Ok(name);
    }
    let near = name.split_once("://").map_or(&*name, |(_, rest)| rest);
    let near = near.split(['/', ':']).next().unwrap_or_default();
    match near != name && !near.is_empty() && near.split('.').all(is_label) {
        true => Err(expected().suggest(near)),
        false => Err(expected()),
    }
}

impl Reader<'_, '_> {
    pub(super) fn http(
        &mut self,
        found: Found<&DeValue<'_>>,
        has_relay: bool,
        rtsp: Option<&Rtsp>,
    ) -> Option<Http> {
        let mut offset = found.offset;
        let mut table = self.table(found, "http".into(), "[http]")?;
        if !has_relay {
            let message = "expected a [relay] as well: HTTP shows the cameras of a relay";
            self.problems.add(offset, Some("http".into()), message);
        }
        let found = table.text("listen", self.problems, |text| {
            values::listen(text, HTTP_PORT)
        });
        let wrong = table.has("listen") && found.is_none();
        let listen = found.map_or_else(
            || any(HTTP_PORT),
            |listen| {
                offset = listen.offset;
                listen.value
            },
        );
        if let Some(rtsp) = rtsp
            && !wrong
            && listen.port() != 0
            && listen.port() == rtsp.listen.port()
        {
            let message = format!(
                "expected a port of its own, found {}, which [rtsp] has",
                listen.port()
            );
            self.problems
                .add(offset, Some(table.key("listen")), message);
        }
        let hosts = self.list(&mut table, "hosts", host);
        let tls = self.tls(&mut table);
        table.finish(self.problems);
        Some(Http {
            listen,
            hosts: hosts.unwrap_or_default(),
            tls,
        })
    }
}
