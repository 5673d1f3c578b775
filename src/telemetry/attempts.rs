//! Attempts to fetch, by scheme and by how they ended. Both are closed lists: nothing from outside can add a series.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::flow::Location;

/// How a place is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    S3,
    Http,
    File,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::S3, Self::Http, Self::File];

    /// The name in metrics; https is http.
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Http => "http",
            Self::File => "file",
        }
    }
}

impl From<&Location> for Scheme {
    fn from(location: &Location) -> Self {
        match location {
            Location::S3 { .. } => Self::S3,
            Location::Http(_) => Self::Http,
            Location::File(_) => Self::File,
        }
    }
}

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The store gave the object, or told something of it that is no failure: too large, empty, newer than its event.
    Ok,
    NotFound,
    Denied,
    Throttled,
    /// It failed over there (5xx).
    ServerError,
    /// No answer or no progress in time.
    Timeout,
    /// No connection, or one that broke.
    Connection,
    /// Credentials that are refused, a bucket that is missing, a place that may not be read.
    Refused,
    Other,
}

impl AttemptEnd {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::NotFound,
        Self::Denied,
        Self::Throttled,
        Self::ServerError,
        Self::Timeout,
        Self::Connection,
        Self::Refused,
        Self::Other,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }
}

/// Counts of attempts.
#[derive(Debug, Default)]
pub struct Attempts {
    ends: [[AtomicU64; AttemptEnd::ALL.len()]; Scheme::ALL.len()],
    retries: [AtomicU64; Scheme::ALL.len()],
}

impl Attempts {
    /// Counts one attempt.
    pub fn ended(&self, scheme: Scheme, end: AttemptEnd) {
        self.ends[scheme as usize][end as usize].fetch_add(1, Relaxed);
    }

    /// Counts an attempt beyond the first.
    pub fn retried(&self, scheme: Scheme) {
        self.retries[scheme as usize].fetch_add(1, Relaxed);
    }

    /// Attempts that ended so.
    pub fn ends(&self, scheme: Scheme, end: AttemptEnd) -> u64 {
        self.ends[scheme as usize][end as usize].load(Relaxed)
    }

    /// Attempts beyond the first.
    pub fn retries(&self, scheme: Scheme) -> u64 {
        self.retries[scheme as usize].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_scheme_and_end_has_a_counter_of_its_own() {
        let attempts = Attempts::default();
        let pairs = || Scheme::ALL.into_iter().flat_map(|scheme| AttemptEnd::ALL.map(|end| (scheme, end)));
        for (n, (scheme, end)) in pairs().enumerate() {
            (0..n).for_each(|_| attempts.ended(scheme, end));
        }
        pairs().enumerate().for_each(|(n, (scheme, end))| assert_eq!(attempts.ends(scheme, end), n as u64));
    }
}
