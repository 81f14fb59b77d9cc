//! What is wrong with a deployment, and where.

use std::fmt;
use std::path::PathBuf;

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
