//! What is wrong with a deployment, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake, shown as `file:line:column: key: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file that has it.
    pub file: PathBuf,
    /// Line and column (in characters), both from 1; `None`: the file as a whole.
    pub position: Option<(usize, usize)>,
    /// The key as a person would look for it, `camera 'door'.source`; `None`: no key.
    pub key: Option<String>,
    /// What was expected, and what to do.
    pub message: String,
}

/// Everything that is wrong with a deployment, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl Errors {
    /// One problem of a file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self(vec![Problem {
            file: file.to_owned(),
            position: None,
            key: None,
            message: message.into(),
        }])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {key}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The most problems that are noted; more are not read by anybody.
const MAX_PROBLEMS: usize = 100;

/// Problems as they are found, in any order.
pub struct Problems<'t> {
    file: &'t Path,
    text: &'t str,
    found: Vec<(usize, Option<String>, String)>,
}

impl<'t> Problems<'t> {
    /// No problems yet in `text`, the contents of `file`.
    pub fn new(file: &'t Path, text: &'t str) -> Self {
        Self {
            file,
            text,
            found: Vec::new(),
        }
    }

    /// Adds a problem at the byte `offset`, if there is still room.
    pub fn add(&mut self, offset: usize, key: Option<String>, message: impl Into<String>) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push((offset, key, message.into()));
        }
    }

    /// Whether nothing was found so far.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order of the file.
    pub fn into_errors(mut self) -> Errors {
        self.found.sort_by_key(|(offset, ..)| *offset);
        let problems = self
            .found
            .into_iter()
            .map(|(offset, key, message)| Problem {
                file: self.file.to_owned(),
                position: Some(position(self.text, offset)),
                key,
                message,
            });
        Errors(problems.collect())
    }

    /// The line of the byte `offset`, from 1.
    pub fn line(&self, offset: usize) -> usize {
        position(self.text, offset).0
    }
}

/// Line and column, both from 1, of the byte `offset` of `text`; past its end, the end's.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..])
        .chars()
        .count()
        + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{MAX_PROBLEMS, Problems, position};

    #[test]
    fn notes_no_more_than_the_limit() {
        let mut problems = Problems::new(Path::new("f.toml"), "");
        for _ in 0..=MAX_PROBLEMS {
            problems.add(0, None, "wrong");
        }
        assert_eq!(problems.into_errors().0.len(), MAX_PROBLEMS);
    }

    #[test]
    fn counts_characters_from_one() {
        for (text, offset, expected) in [
            ("", 0, (1, 1)),
            ("", 9, (1, 1)),
            ("ab\ncd", 0, (1, 1)),
            ("ab\ncd", 2, (1, 3)),
            ("ab\ncd", 3, (2, 1)),
            ("ab\ncd", 99, (2, 3)),
            ("\n\n", 2, (3, 1)),
            ("größe = 1", 10, (1, 9)),
        ] {
            assert_eq!(position(text, offset), expected, "{text:?} at {offset}");
        }
    }
}
