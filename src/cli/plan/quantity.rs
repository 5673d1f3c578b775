//! Numbers with a unit, as arguments: `200e6`, `500/s`, `1.50/h`; and a deadline.

use std::str::FromStr;
use std::time::Duration;

use crate::config::{Moment, Span};

/// A number that is finite and not negative, with `k`, `M` or `G` if need be.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let (digits, scale) = match text.char_indices().next_back()? {
        (at, 'k') => (&text[..at], 1e3),
        (at, 'M') => (&text[..at], 1e6),
        (at, 'G') => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    digits.trim().replace('_', "").parse().ok().map(|n: f64| n * scale).filter(|n| (0.0..1e18).contains(n))
}

/// How many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count(pub f64);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        number(text).map(Self).ok_or_else(|| "not a number of images; write it like 200e6 or 200M".to_owned())
    }
}

/// So many a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerSecond(pub f64);

impl FromStr for PerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a rate; write it like 500/s, 20/m, 1e3/h or 1e6/d".to_owned();
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        number(count).map(|n| Self(n / seconds)).ok_or_else(wrong)
    }
}

/// A price for an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerHour(pub f64);

impl FromStr for PerHour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a price for an hour; write it like 1.50/h".to_owned();
        let price = text.trim().strip_suffix("/h").ok_or_else(wrong)?;
        number(price).map(Self).ok_or_else(wrong)
    }
}

/// A deadline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Until {
    /// So long from now.
    In(Duration),
    /// At this time.
    At(Moment),
}

impl Until {
    /// The time that is left.
    pub fn left(&self) -> Duration {
        match self {
            Self::In(left) => *left,
            Self::At(moment) => moment.left(chrono::Utc::now()),
        }
    }
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = text.parse::<Span>() {
            return Ok(Self::In(span.0));
        }
        text.parse().map(Self::At).map_err(|_| "not a deadline; write it like 48h or 2026-12-01T06:00:00Z".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        assert_eq!(["200e6", "200M", "1_000", "0"].map(|t| t.parse::<Count>().unwrap().0), [2e8, 2e8, 1e3, 0.0]);
        assert_eq!(["500/s", "30/m", "7.2k/h", "8.64M/d"].map(|t| t.parse::<PerSecond>().unwrap().0), [500.0, 0.5, 2.0, 100.0]);
        assert_eq!("1.50/h".parse::<PerHour>().unwrap().0, 1.5);
        assert_eq!("48h".parse::<Until>().unwrap().left(), Duration::from_secs(172_800));
        assert_eq!("2020-01-01T00:00:00Z".parse::<Until>().unwrap().left(), Duration::ZERO);
        for wrong in ["", "-1", "nan", "inf", "1e99", "5 apples"] {
            assert!(wrong.parse::<Count>().is_err(), "{wrong}");
        }
        assert!("500".parse::<PerSecond>().is_err() && "1.50".parse::<PerHour>().is_err() && "tomorrow".parse::<Until>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,12}") {
            let _ = (text.parse::<Count>(), text.parse::<PerSecond>(), text.parse::<PerHour>(), text.parse::<Until>());
        }
    }
}
