//! The `[[user]]` tables: who may watch, and what.

use std::collections::HashMap;

use toml::de::DeValue;

use super::read::Reader;
use super::table::{Expected, Found, Table, describe, nearest};
use super::{Audience, User};
use crate::users::{Right, password};

/// Users that one deployment may have.
const MAX_USERS: usize = 1024;
/// The longest name of a user, and the longest pattern for cameras, in bytes.
const MAX_TEXT: usize = 128;

/// Who may watch where there are no users.
pub fn audience(text: &str) -> Result<Audience, Expected> {
    match text {
        "lan" => Ok(Audience::Lan),
        "anyone" => Ok(Audience::Anyone),
        _ => {
            let expected = Expected::new("'lan' or 'anyone'");
            Err(match nearest(text, &["lan", "anyone"]) {
                Some(near) => expected.suggest(near),
                None => expected,
            })
        }
    }
}

fn name(text: &str) -> Result<String, Expected> {
    let fits = |c: char| !c.is_control() && c != ':';
    if text.is_empty() || text.len() > MAX_TEXT || text.trim() != text || !text.chars().all(fits) {
        return Err(Expected::new(
            "a name of at most 128 bytes, without a colon and spaces around it",
        ));
    }
    Ok(text.to_owned())
}

fn hash(text: &str) -> Result<String, &'static str> {
    const ADVICE: &str = "expected the line that this prints: launcher keys password";
    let is_hash = password::is_hash(text);
    is_hash.then(|| text.to_owned()).ok_or(ADVICE)
}

fn right(text: &str) -> Result<Right, Expected> {
    match text {
        "view" => Ok(Right::View),
        "publish" => Ok(Right::Publish),
        "admin" => Ok(Right::Admin),
        _ => {
            let expected = Expected::new("'view', 'publish' or 'admin'");
            Err(match nearest(text, &["view", "publish", "admin"]) {
                Some(near) => expected.suggest(near),
                None => expected,
            })
        }
    }
}

fn glob(text: &str) -> Result<String, Expected> {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '*' | '?');
    if text.is_empty() || text.len() > MAX_TEXT || !text.chars().all(allowed) {
        return Err(Expected::new(
            "a camera's name, or a pattern with '*' for any text and '?' for one character",
        ));
    }
    Ok(text.to_owned())
}

impl Reader<'_, '_> {
    pub(super) fn users(&mut self, found: Found<&DeValue<'_>>, has_relay: bool) -> Vec<User> {
        let place = || Some("user".to_owned());
        let DeValue::Array(list) = found.value else {
            let message = match found.value {
                DeValue::Table(_) => {
                    "expected two brackets, [[user]], as there can be several".into()
                }
                other => Expected::new("[[user]] tables").but_found(&describe(other)),
            };
            self.problems.add(found.offset, place(), message);
            return Vec::new();
        };
        if !has_relay {
            let message = "expected a [relay] as well: users watch the cameras of a relay";
            self.problems.add(found.offset, place(), message);
        }
        if list.len() > MAX_USERS {
            let message = format!("expected at most {MAX_USERS} users, found {}", list.len());
            self.problems.add(found.offset, place(), message);
            return Vec::new();
        }
        let mut names = HashMap::new();
        list.iter()
            .enumerate()
            .filter_map(|(index, value)| {
                let found = Found {
                    value: value.get_ref(),
                    offset: value.span().start,
                };
                self.user(found, index + 1, &mut names)
            })
            .collect()
    }

    fn user(
        &mut self,
        found: Found<&DeValue<'_>>,
        number: usize,
        names: &mut HashMap<String, usize>,
    ) -> Option<User> {
        let offset = found.offset;
        let given = found
            .value
            .get("name")
            .and_then(|name| name.get_ref().as_str());
        let called = given.map_or(format!("user {number}"), |name| format!("user '{name}'"));
        let mut table = self.table(found, called, "[[user]]")?;
        let name = table.text("name", self.problems, name);
        let password = self.password(&mut table);
        let rights = self.list(&mut table, "rights", right);
        let cameras = self.list(&mut table, "cameras", glob);
        for (key, example) in [
            ("name", "name = \"ann\""),
            (
                "password",
                "password = \"$argon2id$…\", the line that this prints: launcher keys password",
            ),
            ("rights", "rights = [\"view\"]"),
        ] {
            if !table.has(key) {
                let message = format!("expected one, such as {example}");
                self.problems.add(offset, Some(table.key(key)), message);
            }
        }
        if let Some(name) = &name {
            let line = self.problems.line(name.offset);
            if let Some(other) = names.insert(name.value.clone(), line) {
                let message = format!(
                    "expected a name of its own, found the one of the user on line {other}"
                );
                self.problems
                    .add(name.offset, Some(table.key("name")), message);
            }
        }
        table.finish(self.problems);
        Some(User {
            name: name?.value,
            password: password?,
            rights: rights?,
            cameras: cameras.unwrap_or_else(|| vec!["*".into()]),
        })
    }

    /// The hash of a password. What is there instead may be the password itself, which
    /// no message shows.
    fn password(&mut self, table: &mut Table<'_>) -> Option<String> {
        let found = table.value("password")?;
        let hash = hash(found.value.as_str().unwrap_or_default());
        hash.map_err(|message| {
            self.problems
                .add(found.offset, Some(table.key("password")), message)
        })
        .ok()
    }

    /// A list of texts, each made into a `T`; it may not be empty.
    pub(super) fn list<T>(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
        parse: fn(&str) -> Result<T, Expected>,
    ) -> Option<Vec<T>> {
        let found = table.value(key)?;
        let place = Some(table.key(key));
        let list = found.value.as_array().filter(|list| !list.is_empty());
        let Some(list) = list else {
            let found_there = match found.value {
                DeValue::Array(_) => "an empty one".to_owned(),
                other => describe(other),
            };
            let message = Expected::new("a list of texts, […]").but_found(&found_there);
            self.problems.add(found.offset, place, message);
            return None;
        };
        let mut values = Vec::new();
        for value in list.iter() {
            let parsed = match value.get_ref() {
                DeValue::String(text) => {
                    parse(text).map_err(|expected| expected.but_found(&format!("'{text}'")))
                }
                other => Err(Expected::new("a text in quotes").but_found(&describe(other))),
            };
            match parsed {
                Ok(value) => values.push(value),
                Err(message) => self
                    .problems
                    .add(value.span().start, place.clone(), message),
            }
        }
        Some(values)
    }
}
