//! Other processes of this program, and how they talk with the one that started them: a line
//! of JSON for each message.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Another process of this program; ended at the latest when it is dropped.
pub(crate) struct Process {
    child: Child,
    role: &'static str,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program as `role` with `settings`, and `port` where there is one.
    pub(crate) fn start<T: Serialize>(
        role: &'static str,
        settings: &T,
        port: Option<u16>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role).arg(serde_json::to_string(settings)?);
        command.args(port.map(|port| port.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start another process")?;
        let output = child.stdout.take().context("it has no output")?;
        Ok(Self {
            role,
            input: child.stdin.take(),
            lines: BufReader::new(output).lines(),
            child,
        })
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The next thing that it says.
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let ended = || format!("its process to {} ended early; see above", self.role);
        let line = self.lines.next().with_context(ended)??;
        Ok(serde_json::from_str(&line)?)
    }

    /// Tells it something.
    pub(crate) fn tell<T: Serialize>(&mut self, message: &T) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("it listens no more")?;
        write_line(input, message)
    }

    /// Ends its standard input.
    pub(crate) fn end_input(&mut self) {
        self.input.take();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says something to the process that started this one.
pub(crate) fn say<T: Serialize>(message: &T) -> anyhow::Result<()> {
    write_line(&mut std::io::stdout().lock(), message)
}

fn write_line<T: Serialize>(out: &mut impl Write, message: &T) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}
