//! The log: text or JSON on stderr, with control characters of strangers escaped.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr. `RUST_LOG` sets the levels (default: warnings, and our own information), `NO_COLOR` turns colour off.
pub fn init(json: bool, quiet: bool) {
    let default = if quiet { "warn" } else { "warn,lakelens=info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second call (a test binary runs several commands) keeps the first log.
    let _ = if json { log.json().flatten_event(true).try_init() } else { log.with_ansi(colour).try_init() };
}

/// Text from outside as it may be shown: control characters (also those that turn the reading direction) become `\u{..}`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_terminal_sequence_in_a_key_is_shown_and_not_obeyed() {
        assert_eq!(super::escape("a\u{1b}[2Jb é"), "a\\u{1b}[2Jb é");
    }
}
