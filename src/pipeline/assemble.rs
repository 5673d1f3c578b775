//! From a checked pipeline file to started sources and sinks.
