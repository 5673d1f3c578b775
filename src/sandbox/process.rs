//! The worker's end: a running helper and the socket to it.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Settings;
use super::message::{Reply, Request, receive, receive_raw, send};
use crate::flow::{Reason, Rejection, Stage};
use crate::preprocess::{Header, Pixels, format_named};

/// For a helper to start.
const START: Duration = Duration::from_secs(10);

/// A running helper.
#[derive(Debug)]
pub(super) struct Process {
    child: Option<Child>,
    stream: UnixStream,
}

/// How a helper failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// It did not answer in time.
    Late,
    /// It is gone, or says what makes no sense.
    Died(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Late,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Died("it is gone".into()),
            _ => Self::Died(error.to_string()),
        }
    }
}

type Answer<T> = Result<Result<T, Rejection>, Fault>;

impl Process {
    /// Starts a helper and waits until it answers.
    pub(super) fn start(program: &Path, settings: &Settings) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        // Nothing of the environment, where credentials are; only what a loader may need to start the program at all.
        command.arg("decoder").env_clear();
        if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", path);
        }
        // A group of its own: Ctrl-C in a terminal is for the worker, which still finishes what it has.
        command.process_group(0).current_dir("/").stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        let process = Self { child: Some(command.spawn()?), stream };
        // The child's end is in `command`: without this a dead child would not end the stream.
        drop(command);
        process.greet(settings)
    }

    /// A helper at the other end of `stream` that is no process.
    #[cfg(test)]
    pub(super) fn at(stream: UnixStream, settings: &Settings) -> io::Result<Self> {
        Self { child: None, stream }.greet(settings)
    }

    fn greet(mut self, settings: &Settings) -> io::Result<Self> {
        let mut stream = self.until(Instant::now() + START);
        send(&mut stream, &Request::Start(settings.clone()), &[])?;
        match receive(&mut stream)? {
            Reply::Ready => Ok(self),
            other => Err(io::Error::other(format!("it answers {other:?}"))),
        }
    }

    pub(super) fn probe(&mut self, file: &[u8], deadline: Instant) -> Answer<Header> {
        let mut stream = self.until(deadline);
        send(&mut stream, &Request::Probe(file.len() as u64), file)?;
        match receive(&mut stream)? {
            Reply::Header { format, width, height, decode_bytes } => match format_named(&format) {
                Some(format) => Ok(Ok(Header { format, width, height, decode_bytes })),
                None => Err(Fault::Died(format!("it knows a format {format:?}"))),
            },
            other => rejection(other),
        }
    }

    pub(super) fn decode(&mut self, crop: u32, deadline: Instant) -> Answer<Pixels> {
        let mut stream = self.until(deadline);
        send(&mut stream, &Request::Decode, &[])?;
        match receive(&mut stream)? {
            Reply::Pixels { width, height } if (1..=crop).contains(&width) && (1..=crop).contains(&height) => {
                let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
                receive_raw(&mut stream, u64::from(width) * u64::from(height) * 3, &mut rgb)?;
                Ok(Ok(Pixels { rgb, width: width as usize, height: height as usize }))
            }
            other => rejection(other),
        }
    }

    /// Ends it, and says how it ended.
    pub(super) fn end(mut self) -> String {
        self.kill().map_or_else(|error| error.to_string(), |status| status.map_or("no process".into(), |status| status.to_string()))
    }

    fn kill(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let _ = child.kill();
        child.wait().map(Some)
    }

    fn until(&mut self, deadline: Instant) -> Timed<'_> {
        Timed { stream: &self.stream, deadline }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn rejection<T>(reply: Reply) -> Answer<T> {
    let Reply::Rejected { reason, detail } = reply else { return Err(Fault::Died(format!("it answers {reply:?}"))) };
    match Reason::ALL.iter().find(|known| known.name() == reason) {
        Some(reason) => Ok(Err(Rejection::new(Stage::Decode, *reason, detail))),
        None => Err(Fault::Died(format!("it gives a reason {reason:?}"))),
    }
}

/// The stream, up to a point in time.
struct Timed<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        (&mut &*self.stream).read(into)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        (&mut &*self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
