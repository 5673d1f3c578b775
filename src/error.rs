//! The one error type that leaves a stage, and the exit code that it stands for.
//!
//! What is wrong with a single image is never an `Error`: it is a [`crate::flow::Rejection`]. An `Error` is about the world (a broker, a
//! bucket, a full disk) or about what the user asked for, and it stops the worker.

use std::any::Any;
use std::fmt::Display;

/// Why a command could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wrong usage or configuration; nothing was started. Exit code 2.
    #[error("{0}")]
    Config(String),
    /// A failure while running. Exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The ledger does not add up. Exit code 3.
    #[error("the ledger does not balance: {0}")]
    Unbalanced(String),
    /// Images were rejected and `--fail-on-rejected` was given. Exit code 4.
    #[error("{0} images were rejected (--fail-on-rejected)")]
    Rejected(u64),
}

/// A result whose error stops the worker.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure while running, from anything that can be shown.
    pub fn failed(what: impl Display) -> Self {
        Self::Failed(what.to_string())
    }

    /// A mistake in usage or configuration.
    pub fn config(what: impl Display) -> Self {
        Self::Config(what.to_string())
    }

    /// The process exit code of the contract.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Config(_) => 2,
            Self::Unbalanced(_) => 3,
            Self::Rejected(_) => 4,
        }
    }
}

/// Says what was being done when an error of another library came up.
pub trait Context<T> {
    /// Turns the error into [`Error::Failed`] reading `what: cause: cause of the cause`.
    fn context(self, what: impl Display) -> Result<T>;
}

impl<T, E: std::error::Error> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|e| Error::Failed(format!("{what}: {}", chain(&e))))
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// An error and its causes on one line, leaving out a cause that the text before it already says.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = e.source();
    }
    text
}
