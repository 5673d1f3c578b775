//! Scalars with units: `10s`, `32MiB`, `50MP`; and a point in time.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Raw { Number(u64), Text(String) }
                let text = match Raw::deserialize(d)? { Raw::Number(n) => n.to_string(), Raw::Text(t) => t };
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> { stringify!($name).into() }
            fn inline_schema() -> bool { true }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["string", "integer"], "format": $format, "examples": [$example] })
            }
        }
    };
}

unit!(
    /// A length of time: a number with `ms`, `s`, `m`, `h` or `d`, or several (`1m30s`). A bare number is refused: the unit is not to be guessed.
    Span(Duration), "duration", "10s"
);
unit!(
    /// A number of bytes: `32MiB`, `64kB`, or a bare number.
    ByteSize(u64), "bytes", "32MiB"
);
unit!(
    /// A number of pixels: `50MP`, or a bare number.
    Pixels(u64), "pixels", "50MP"
);

/// A point in time as RFC 3339 writes it, with its offset from UTC: `2026-12-01T06:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub DateTime<Utc>);

impl Moment {
    /// The time that is left at `now`; nothing once it is over.
    pub fn left(&self, now: DateTime<Utc>) -> Duration {
        (self.0 - now).to_std().unwrap_or_default()
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("`{text}` is not a point in time; write it like 2026-12-01T06:00:00Z");
        DateTime::parse_from_rfc3339(text.trim()).map(|at| Self(at.to_utc())).map_err(wrong)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "examples": ["2026-12-01T06:00:00Z"] })
    }
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let number: f64 = text[..split].replace('_', "").parse().ok()?;
    Some((number, text[split..].trim()))
}

fn scaled(text: &str, unit: impl Fn(&str) -> Option<f64>) -> Option<u64> {
    let (number, suffix) = number_and_unit(text)?;
    let value = number * unit(suffix)?;
    ((0.0..9e18).contains(&value)).then_some(value as u64)
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, |unit| {
            Some(match unit.to_ascii_lowercase().as_str() {
                "" | "b" => 1.0,
                "k" | "kb" => 1e3,
                "m" | "mb" => 1e6,
                "g" | "gb" => 1e9,
                "t" | "tb" => 1e12,
                "ki" | "kib" => 1024.0,
                "mi" | "mib" => 1024f64.powi(2),
                "gi" | "gib" => 1024f64.powi(3),
                "ti" | "tib" => 1024f64.powi(4),
                _ => return None,
            })
        })
        .map(Self)
        .ok_or_else(|| format!("`{text}` is not a size in bytes; write it like 32MiB or 64kB"))
    }
}

impl FromStr for Pixels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, |unit| {
            Some(match unit.to_ascii_lowercase().as_str() {
                "" | "px" => 1.0,
                "kp" => 1e3,
                "mp" => 1e6,
                "gp" => 1e9,
                _ => return None,
            })
        })
        .map(Self)
        .ok_or_else(|| format!("`{text}` is not a number of pixels; write it like 50MP"))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a length of time; write it like 10s, 500ms or 1m30s");
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit = rest[digits..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |n| digits + n);
            let seconds = match &rest[digits..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return Err(wrong()),
            };
            total = Duration::try_from_secs_f64(number * seconds).ok().and_then(|d| total.checked_add(d)).ok_or_else(wrong)?;
            rest = rest[unit..].trim_start();
        }
        // More than a century is a slip, and would overflow the clock further on.
        if text.trim().is_empty() || total > Duration::from_secs(100 * 366 * 86400) {
            return Err(wrong());
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0 => f.write_str("0s"),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            _ if ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        match [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")].into_iter().find(|(unit, _)| n >= *unit && n.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", n / unit),
            None => write!(f, "{n}"),
        }
    }
}

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1_000_000 && n % 1_000_000 == 0 => write!(f, "{}MP", n / 1_000_000),
            n => write!(f, "{n}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_and_printed() {
        assert_eq!("1m30s".parse::<Span>().unwrap().0, Duration::from_secs(90));
        assert_eq!("50ms".parse::<Span>().unwrap().0, Duration::from_millis(50));
        assert!("10".parse::<Span>().is_err());
        assert!("".parse::<Span>().is_err());
        assert_eq!("32MiB".parse::<ByteSize>().unwrap().0, 32 << 20);
        assert_eq!("50MP".parse::<Pixels>().unwrap().0, 50_000_000);
        assert!("5 apples".parse::<ByteSize>().is_err());
    }

    #[test]
    fn a_moment_has_an_offset_and_prints_as_it_reads() {
        let moment: Moment = "2026-12-01T07:00:00+01:00".parse().unwrap();
        assert_eq!(moment.to_string(), "2026-12-01T06:00:00Z");
        assert_eq!(moment.to_string().parse::<Moment>().unwrap(), moment);
        for wrong in ["2026-12-01", "2026-12-01T06:00:00", "48h", "2026-13-01T06:00:00Z", ""] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
        let hour = |n: i64| moment.0 + chrono::TimeDelta::hours(n);
        assert_eq!((moment.left(hour(-2)), moment.left(hour(1))), (Duration::from_secs(7200), Duration::ZERO));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<Span>();
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<Pixels>();
            let _ = text.parse::<Moment>();
        }

        #[test]
        fn what_is_printed_reads_back(ms in 0u64..10_000_000, bytes in 0u64..1 << 45) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
            prop_assert_eq!(ByteSize(bytes).to_string().parse::<ByteSize>().unwrap(), ByteSize(bytes));
        }
    }
}
