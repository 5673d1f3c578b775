//! onnxruntime and OpenVINO, which a Python script runs on the same graph, taking turns with ours.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::{Context, Error, Result};

/// The script is part of the program, so that it is found wherever the program lies.
const SCRIPT: &str = include_str!("../../../scripts/bench/peers.py");
/// Which Python runs it.
const PYTHON: &str = "LAKELENS_PYTHON";

/// One way in which a peer runs the graph.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Way {
    /// `onnxruntime` or `openvino`.
    pub runtime: String,
    /// Its version.
    pub version: String,
    /// `f32`, `bf16` or `int8`.
    pub precision: String,
    /// How the threads are used.
    pub setting: String,
}

/// A process with the peers on one graph and some threads.
pub(super) struct Peers {
    pub threads: usize,
    /// Each with the best seconds an image that were seen of it.
    pub ways: Vec<(Way, f64)>,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peers {
    /// Starts the peers on the graph, whose pictures are `side` by `side` pixels.
    ///
    /// # Errors
    /// [`Error::Config`] where there is no Python, or it lacks the runtimes; [`Error::Failed`] where they do not run the graph.
    pub fn start(graph: &Path, side: usize, threads: usize, precisions: &[&str], turn: f64) -> Result<Self> {
        let python = std::env::var_os(PYTHON).unwrap_or_else(|| "python3".into());
        let mut command = Command::new(&python);
        command.args(["-c", SCRIPT]).arg(graph).args(["--side", &side.to_string(), "--threads", &threads.to_string()]);
        command.args(["--precision", &precisions.join(","), "--turn", &turn.to_string()]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Error::config(format_args!("--peers: cannot start {}: {e}; name a Python in {PYTHON}", python.display())))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::failed("--peers: the script has no pipes"));
        };
        let mut peers = Self { threads, ways: vec![], child, input, output: BufReader::new(output) };
        let ways: Vec<Way> = peers.answer().map_err(|_| {
            Error::config(format_args!(
                "--peers: {} could not run {}, see above; it needs: {} -m pip install onnxruntime openvino numpy",
                python.display(),
                graph.display(),
                python.display()
            ))
        })?;
        peers.ways = ways.into_iter().map(|way| (way, f64::INFINITY)).collect();
        Ok(peers)
    }

    fn answer<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("--peers: reading from the script")?;
        serde_json::from_str(&line).map_err(|_| Error::failed("--peers: the script ended, see above"))
    }

    /// Lets each of them run for a while.
    ///
    /// # Errors
    /// [`Error::Failed`] if the script ended.
    pub fn turn(&mut self) -> Result<()> {
        self.input.write_all(b"turn\n").context("--peers: the script ended, see above")?;
        let seconds: Vec<f64> = self.answer()?;
        self.ways.iter_mut().zip(seconds).for_each(|((_, best), now)| *best = best.min(now));
        Ok(())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It may be in the middle of something.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
