//! Typed reading of one TOML table, noting everything that is wrong with it.

use toml::de::{DeTable, DeValue};

use super::error::Problems;

/// A value and the byte of the file it starts at.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// Its offset in the file.
    pub offset: usize,
}

/// A table whose keys are taken one by one. Every key that was not asked for by
/// the time of [`Table::finish`] is a mistake.
pub struct Table<'t> {
    entries: &'t DeTable<'t>,
    /// How messages call it: `relay`, `camera 'door'`.
    name: String,
    asked: Vec<&'static str>,
}

impl<'t> Table<'t> {
    /// The table called `name` in messages.
    pub fn new(entries: &'t DeTable<'t>, name: impl Into<String>) -> Self {
        Self {
            entries,
            name: name.into(),
            asked: Vec::new(),
        }
    }

    /// Whether `key` is there, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// How messages call one of its keys.
    pub fn key(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }

    /// The value of `key` of any type, if it is there.
    pub fn value(&mut self, key: &'static str) -> Option<Found<&'t DeValue<'t>>> {
        self.asked.push(key);
        self.entries.get(key).map(|value| Found {
            value: value.get_ref(),
            offset: value.span().start,
        })
    }

    /// The text at `key`, made into a `T` by `parse`, whose error says what was expected.
    ///
    /// `None` when the key is not there or its value is wrong, which is noted.
    /// `parse` sees numbers and truth values as the file writes them: only what they
    /// lack is the quotes, which the message says.
    pub fn text<T>(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
        parse: impl FnOnce(&str) -> Result<T, Expected>,
    ) -> Option<Found<T>> {
        let Found { value, offset } = self.value(key)?;
        let result = match value {
            DeValue::String(text) => {
                parse(text).map_err(|expected| expected.but_found(&format!("'{text}'")))
            }
            other => {
                let bare = match other {
                    DeValue::Integer(number) => number.to_string(),
                    DeValue::Float(number) => number.to_string(),
                    _ => String::new(),
                };
                let expected = match parse(&bare) {
                    Ok(_) => Expected::new("a text in quotes").suggest(format!("\"{bare}\"")),
                    Err(expected) => expected.in_quotes(),
                };
                Err(expected.but_found(&describe(other)))
            }
        };
        match result {
            Ok(value) => Some(Found { value, offset }),
            Err(message) => {
                problems.add(offset, Some(self.key(key)), message);
                None
            }
        }
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self, problems: &mut Problems<'_>) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let advice = match nearest(name, &self.asked) {
                Some(near) => format!("(did you mean '{near}'?)"),
                None => format!("(there are {})", self.asked.join(", ")),
            };
            problems.add(
                key.span().start,
                Some(self.key(name)),
                format!("no such key {advice}"),
            );
        }
    }
}

/// What a value should have been.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    what: String,
    suggestion: Option<String>,
}

impl Expected {
    /// Expected `what`, as in "expected an address".
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            suggestion: None,
        }
    }

    /// The value that was probably meant.
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    fn in_quotes(mut self) -> Self {
        self.what += ", in quotes";
        self.suggestion = self.suggestion.map(|text| format!("\"{text}\""));
        self
    }

    /// The whole message, `found` being what is there instead.
    pub fn but_found(self, found: &str) -> String {
        let mut message = format!("expected {}, found {found}", self.what);
        if let Some(suggestion) = self.suggestion {
            let quote = if suggestion.starts_with('"') { "" } else { "'" };
            message += &format!(" (did you mean {quote}{suggestion}{quote}?)");
        }
        message
    }
}

/// A value in words, `the number 8000`.
pub fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text '{text}'"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => format!("the truth value {value}"),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// The candidate that `text` is probably a misspelling of.
pub fn nearest<'c>(text: &str, candidates: &[&'c str]) -> Option<&'c str> {
    const ALIKE: f64 = 0.5;
    let text = text.to_lowercase();
    candidates
        .iter()
        .map(|candidate| {
            let alike = strsim::normalized_damerau_levenshtein(&text, candidate);
            (alike, *candidate)
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
