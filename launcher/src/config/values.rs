//! What the values of a deployment mean: addresses, durations, names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use camrelay_protocol::{Accept, DEFAULT_PORT, MAX_CAMERA_NAME};

use super::table::{Expected, nearest};

/// The longest latency that makes sense for something live.
const MAX_LATENCY: Duration = Duration::from_secs(10);

/// Any text but an empty one.
pub fn text(text: &str) -> Result<String, Expected> {
    if text.trim().is_empty() {
        return Err(Expected::new("some text"));
    }
    Ok(text.trim().to_owned())
}

/// An address to listen on, `0.0.0.0:8000` or `[::]:8000`.
pub fn listen(text: &str, default_port: u16) -> Result<SocketAddr, Expected> {
    text.parse().map_err(|_| {
        let expected = Expected::new(format!(
            "an address and port to listen on, such as '0.0.0.0:{default_port}'"
        ));
        let (host, port) = match (text.parse::<IpAddr>(), text.parse::<u16>()) {
            (Ok(address), _) => return expected.suggest(address_port(address, default_port)),
            (_, Ok(port)) => ("", port),
            _ => match text.rsplit_once(':') {
                Some((host, port)) => match port.parse() {
                    Ok(port) => (host, port),
                    Err(_) => return expected,
                },
                None => (text, default_port),
            },
        };
        match host {
            "" | "*" => expected.suggest(address_port(Ipv4Addr::UNSPECIFIED.into(), port)),
            "localhost" => expected.suggest(address_port(Ipv4Addr::LOCALHOST.into(), port)),
            _ => expected,
        }
    })
}

/// Two UDP ports in a row, the first of them even, `8556-8557`; the first.
pub fn ports(text: &str) -> Result<u16, Expected> {
    let expected = || Expected::new("two ports in a row, the first one even, such as '8556-8557'");
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port >= 2);
    let first = number(text.split('-').next().unwrap_or_default()).map(|port| port & !1);
    match (first, text.split_once('-')) {
        (Some(first), Some((begin, end)))
            if number(begin) == Some(first) && number(end) == Some(first + 1) =>
        {
            Ok(first)
        }
        (Some(first), _) => Err(expected().suggest(format!("{first}-{}", first + 1))),
        _ => Err(expected()),
    }
}

/// A relay to send to, `relay.local:8000` or `[fe80::1]:8000`.
pub fn relay(text: &str) -> Result<String, Expected> {
    let expected =
        || Expected::new("a relay's name or address, and its port, such as 'relay.local:8000'");
    if let Some(rest) = text.split_once("://").map(|(_, rest)| rest) {
        let host = rest.split('/').next().unwrap_or_default();
        return Err(match relay(host) {
            Ok(good) => expected().suggest(good),
            Err(error) => error,
        });
    }
    let is_host = |host: &str| {
        !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let with_port = |host: &str| expected().suggest(format!("{host}:{DEFAULT_PORT}"));
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(expected().suggest(address_port(address, DEFAULT_PORT)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err(expected()),
            _ => Ok(text.to_owned()),
        };
    }
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) => match port.parse::<u16>() {
            Ok(1..) => Ok(text.to_owned()),
            _ => Err(with_port(host)),
        },
        None if is_host(text) && text.parse::<u16>().is_err() => Err(with_port(text)),
        _ => Err(expected()),
    }
}

/// A latency between 1 ms and 10 s, `120ms`.
pub fn latency(text: &str) -> Result<Duration, Expected> {
    let expected = || Expected::new("a duration from '1ms' to '10s', such as '120ms'");
    match humantime::parse_duration(text) {
        Ok(latency) if (Duration::from_millis(1)..=MAX_LATENCY).contains(&latency) => Ok(latency),
        Err(_) if text.parse::<u16>().is_ok_and(|millis| millis > 0) => {
            Err(expected().suggest(format!("{text}ms")))
        }
        _ => Err(expected()),
    }
}

/// Who may come without a known key.
pub fn accept(text: &str) -> Result<Accept, Expected> {
    match text {
        "lan" => Ok(Accept::Lan),
        "known" => Ok(Accept::Known),
        "anyone" => Ok(Accept::Anyone),
        _ => {
            let expected = Expected::new("'lan', 'known' or 'anyone'");
            Err(match nearest(text, &["lan", "known", "anyone"]) {
                Some(near) => expected.suggest(near),
                None => expected,
            })
        }
    }
}

/// A camera's name: 1 to 64 letters, digits, '-', '_' or '.', a letter or digit first.
pub fn camera_name(text: &str) -> Result<String, Expected> {
    let ordinary = |c: char| c.is_ascii_alphanumeric();
    let allowed = |c: char| ordinary(c) || matches!(c, '-' | '_' | '.');
    if text.len() <= MAX_CAMERA_NAME && text.starts_with(ordinary) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    let near: String = text
        .trim_matches(|c| !ordinary(c))
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(MAX_CAMERA_NAME)
        .collect();
    let expected = Expected::new(
        "1 to 64 letters (a to z), digits, '-', '_' or '.', starting with a letter or digit",
    );
    Err(match near.as_str() {
        "" => expected,
        near => expected.suggest(near),
    })
}

fn address_port(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}
