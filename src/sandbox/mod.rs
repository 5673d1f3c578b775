//! Decoding in a process apart. Files come from strangers, and a decoder is where one of them may crash a process, exhaust its memory or hang it:
//! here that costs a helper and never the worker. Each compute thread has a helper of its own (this same program, started as `lakelens decoder`),
//! which holds no credentials, gets a file and gives back pixels.
//!
//! A file that the helper dies on, or does not come back from, is given to a fresh one alone; only what fails there too is rejected, as `crashed` or
//! `decode_timeout`. So nobody who kills a helper from outside makes a sound picture fail.

mod message;
mod process;
mod serve;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::flow::{Reason, Rejection, Stage};
use crate::preprocess::{Header, Limits, Pixels};
use process::{Fault, Process};
pub use serve::serve;

/// Beyond `decode.timeout`, at which the helper itself gives up if it can, in either of the two steps: the header, the pixels.
const GRACE: Duration = Duration::from_secs(1);
/// How often a file is given to a helper.
const ATTEMPTS: usize = 2;
/// How often a helper is started before that is given up, and the time in between.
const STARTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// What a helper is told at its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Settings {
    limits: Limits,
    /// Bytes that it may allocate.
    memory: u64,
}

/// Why there are no pixels.
#[derive(Debug)]
pub enum Failure {
    /// The file's fault.
    Rejected(Rejection),
    /// No helper can be started: nothing that a file does.
    NoHelper(Error),
}

/// How helpers are started.
#[derive(Debug, Clone)]
pub struct Helper {
    /// The program.
    pub program: PathBuf,
    /// Bytes that it may allocate.
    pub memory: usize,
}

/// The program that helpers run where this process is `lakelens`: itself.
pub fn own_program() -> PathBuf {
    // Names the running program even after its file was replaced by a newer one.
    if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe().unwrap_or_else(|_| "lakelens".into()) }
}

/// Decodes files in a helper process, one at a time. Starts it when the first file comes, and anew after each death.
#[derive(Debug)]
pub struct Decoder {
    program: PathBuf,
    settings: Settings,
    process: Option<Process>,
    /// The helper holds the file that was probed last.
    loaded: bool,
}

impl Decoder {
    /// A decoder that starts its helper so.
    pub fn new(helper: Helper, limits: &Limits) -> Self {
        let settings = Settings { limits: limits.clone(), memory: helper.memory as u64 };
        Self { program: helper.program, settings, process: None, loaded: false }
    }

    /// [`crate::preprocess::probe`] in the helper, which keeps the file.
    ///
    /// # Errors
    /// What [`crate::preprocess::probe`] says; `crashed`, `decode_timeout`.
    pub fn probe(&mut self, file: &[u8]) -> Result<Header, Failure> {
        self.loaded = false;
        let header = self.attempt(|process, limit| process.probe(file, Instant::now() + limit))?;
        self.loaded = true;
        Ok(header)
    }

    /// [`crate::preprocess::decode`] and [`crate::preprocess::Preprocessor::pixels`] of a file that [`Self::probe`] has seen, now or earlier.
    ///
    /// # Errors
    /// What [`crate::preprocess::decode`] says; `crashed`, `decode_timeout`.
    pub fn pixels(&mut self, file: &[u8]) -> Result<Pixels, Failure> {
        let mut loaded = std::mem::take(&mut self.loaded);
        let crop = self.settings.limits.preprocess.crop;
        self.attempt(|process, limit| {
            if !std::mem::take(&mut loaded)
                && let Err(rejection) = process.probe(file, Instant::now() + limit)?
            {
                return Ok(Err(rejection));
            }
            process.decode(crop, Instant::now() + limit)
        })
    }

    /// The next [`Self::pixels`] is of another file than the last [`Self::probe`].
    pub fn forget(&mut self) {
        self.loaded = false;
    }

    fn attempt<T>(
        &mut self,
        mut ask: impl FnMut(&mut Process, Duration) -> Result<std::result::Result<T, Rejection>, Fault>,
    ) -> Result<T, Failure> {
        let mut tried = 0;
        loop {
            let mut process = match self.process.take() {
                Some(process) => process,
                None => self.start().map_err(Failure::NoHelper)?,
            };
            match ask(&mut process, self.settings.limits.timeout + GRACE) {
                Ok(answer) => {
                    self.process = Some(process);
                    return answer.map_err(Failure::Rejected);
                }
                Err(fault) => {
                    tried += 1;
                    let ended = process.end();
                    tracing::debug!("a decoder process was given up: {fault:?}, {ended}");
                    if tried == ATTEMPTS {
                        return Err(Failure::Rejected(self.rejection(&fault, &ended)));
                    }
                }
            }
        }
    }

    fn rejection(&self, fault: &Fault, ended: &str) -> Rejection {
        match fault {
            Fault::Late => Rejection::new(
                Stage::Decode,
                Reason::DecodeTimeout,
                format!("decoding hung beyond {:?} (decode.timeout) and was killed, twice", self.settings.limits.timeout),
            ),
            Fault::Died(what) => Rejection::new(
                Stage::Decode,
                Reason::Crashed,
                format!("the process that decoded it died on it, and on it alone once more ({what}, {ended})"),
            ),
        }
    }

    fn start(&self) -> Result<Process> {
        let mut tried = 0;
        loop {
            let error = match Process::start(&self.program, &self.settings) {
                Ok(process) => return Ok(process),
                Err(error) => error,
            };
            tried += 1;
            if tried == STARTS {
                return Err(Error::failed(format!(
                    "no process for decoding can be started from {}: {error}; see the limits on processes and memory",
                    self.program.display()
                )));
            }
            std::thread::sleep(PAUSE);
        }
    }
}
