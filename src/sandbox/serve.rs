//! The helper's end.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::Settings;
use super::message::{Reply, Request, receive, receive_raw, send};
use crate::failpoint;
use crate::flow::Rejection;
use crate::preprocess::{self, Header, Preprocessor};

/// Buffer for files that is kept from one to the next.
const KEEP: usize = 1 << 20;

/// Serves the worker at the other end of standard input until it goes away. The exit code.
pub fn serve() -> u8 {
    match std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).and_then(|stream| serve_at(stream, true)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("lakelens: this command is for workers, which start it themselves: {error}");
            2
        }
    }
}

/// Serves at one end of a stream, with the limits of a `process` if that is one's own.
pub(super) fn serve_at(mut stream: UnixStream, process: bool) -> io::Result<()> {
    let Request::Start(settings) = receive(&mut stream)? else { return Err(ErrorKind::InvalidData.into()) };
    if process {
        confine(&settings);
    }
    match answer(&mut stream, &settings) {
        // The worker is gone, whichever of the two calls found out: there is nothing to tell anybody.
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
        other => other,
    }
}

/// Answers until the worker goes away, which is an error here.
fn answer(stream: &mut UnixStream, settings: &Settings) -> io::Result<()> {
    let limits = &settings.limits;
    let mut preprocessor = Preprocessor::new(limits.preprocess.clone());
    let mut file = Vec::new();
    let mut header: Option<Header> = None;
    send(stream, &Reply::Ready, &[])?;
    loop {
        match receive(stream)? {
            Request::Probe(length) => {
                file.shrink_to(KEEP);
                receive_raw(stream, length, &mut file)?;
                failpoint::poison(&file);
                header = None;
                match preprocess::probe(&file, limits) {
                    Ok(found) => {
                        header = Some(found);
                        let Header { format, width, height, decode_bytes } = found;
                        send(stream, &Reply::Header { format: format.into(), width, height, decode_bytes }, &[])?;
                    }
                    Err(rejection) => refuse(stream, rejection)?,
                }
            }
            Request::Decode => {
                let Some(header) = header else { return Err(ErrorKind::InvalidData.into()) };
                match preprocess::decode(&file, &header, limits).and_then(|image| preprocess::crop(&mut preprocessor, limits, &image)) {
                    Ok(pixels) => {
                        let (width, height) = (pixels.width as u32, pixels.height as u32);
                        send(stream, &Reply::Pixels { width, height }, &pixels.rgb)?;
                    }
                    Err(rejection) => refuse(stream, rejection)?,
                }
            }
            Request::Start(_) => return Err(ErrorKind::InvalidData.into()),
        }
    }
}

fn refuse(stream: &mut UnixStream, rejection: Rejection) -> io::Result<()> {
    let reply = Reply::Rejected { reason: rejection.reason.name().into(), detail: rejection.detail.into_owned() };
    send(stream, &reply, &[])
}

/// Limits what the process may do. What the system refuses is left: the worker's own limits hold all the same.
#[cfg(target_os = "linux")]
fn confine(settings: &Settings) {
    use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
    // Ends with the worker's thread, though it hang.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // An allocation beyond it fails, which ends the process.
    let _ = setrlimit(Resource::Data, Rlimit { current: Some(settings.memory), maximum: Some(settings.memory) });
    // No dump of somebody's picture on the disk.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // Where memory is short, this process goes before the worker.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

#[cfg(not(target_os = "linux"))]
fn confine(_settings: &Settings) {}
