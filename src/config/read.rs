//! From a file's text to a checked configuration.

use std::fmt::Write;
use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::diagnose::Diagnostics;
use super::tree::{self, Node, Value};
use super::{ModelFile, Pipeline, check, schema, walk};

/// Largest configuration file.
const MAX_FILE: u64 = 1 << 20;

/// Reads and checks a pipeline file, variables taken from the environment.
pub fn load(path: &Path) -> Result<Pipeline, Diagnostics> {
    let name = path.display().to_string();
    let text = text(path, &name)?;
    let (pipeline, tree) = parse(&text, &name, &|variable| std::env::var(variable).ok())?;
    let mut problems = Diagnostics::new(&name);
    check::files(&pipeline, &tree, &mut problems);
    if problems.is_empty() { Ok(pipeline) } else { Err(problems) }
}

/// Reads and checks a pipeline file's text without looking at any other file.
pub fn parse(text: &str, file: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<(Pipeline, Node), Diagnostics> {
    let (pipeline, tree) = typed::<Pipeline>(text, file, env)?;
    let mut problems = Diagnostics::new(file);
    check::semantics(&pipeline, &tree, &mut problems);
    if problems.is_empty() { Ok((pipeline, tree)) } else { Err(problems) }
}

/// Reads a `model.yaml`. Variables are not replaced: a model folder may come from a stranger.
pub fn load_model(path: &Path) -> Result<ModelFile, Diagnostics> {
    let name = path.display().to_string();
    let text = text(path, &name)?;
    let (model, tree) = typed::<ModelFile>(&text, &name, &|_| None)?;
    let mut problems = Diagnostics::new(&name);
    check::model(&model, &tree, &mut problems);
    if problems.is_empty() { Ok(model) } else { Err(problems) }
}

/// The file as it takes effect, with values from the environment and everything below `properties` as `***`.
pub fn redacted(path: &Path) -> Result<String, Diagnostics> {
    let name = path.display().to_string();
    let tree = tree::parse(&text(path, &name)?, &name, &|variable| std::env::var(variable).ok())?;
    let mut out = String::new();
    print(&tree, 0, false, &mut out);
    Ok(out)
}

fn text(path: &Path, name: &str) -> Result<String, Diagnostics> {
    let size = std::fs::metadata(path).map_err(|e| Diagnostics::unreadable(name, &e))?.len();
    if size > MAX_FILE {
        let error = std::io::Error::other(format!("it has {size} bytes, a configuration has at most {MAX_FILE}"));
        return Err(Diagnostics::unreadable(name, &error));
    }
    std::fs::read_to_string(path).map_err(|e| Diagnostics::unreadable(name, &e))
}

fn typed<T: JsonSchema + DeserializeOwned>(text: &str, file: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<(T, Node), Diagnostics> {
    let tree = tree::parse(text, file, env)?;
    let mut problems = Diagnostics::new(file);
    let json = walk::walk(&tree, &schema::generated::<T>(), &mut problems);
    if problems.is_empty() {
        match serde_json::from_value(json) {
            Ok(value) => return Ok((value, tree)),
            Err(error) => problems.add(tree.place, "", error.to_string()),
        }
    }
    Err(problems)
}

/// Prints a tree as YAML, scalars as JSON strings where they need quotes.
fn print(node: &Node, depth: usize, hidden: bool, out: &mut String) {
    let indent = "  ".repeat(depth);
    match &node.value {
        Value::Scalar { secret, .. } if *secret || hidden => out.push_str(" \"***\"\n"),
        Value::Scalar { text, plain: true, .. } => {
            let _ = writeln!(out, " {text}");
        }
        Value::Scalar { text, .. } => {
            let _ = writeln!(out, " {}", serde_json::Value::from(text.as_str()));
        }
        Value::Sequence(list) if list.is_empty() => out.push_str(" []\n"),
        Value::Mapping(entries) if entries.is_empty() => out.push_str(" {}\n"),
        Value::Sequence(list) => {
            out.push('\n');
            for item in list {
                let _ = write!(out, "{indent}-");
                print(item, depth + 1, hidden, out);
            }
        }
        Value::Mapping(entries) => {
            if depth > 0 {
                out.push('\n');
            }
            for (name, _, item) in entries {
                let _ = write!(out, "{indent}{name}:");
                print(item, depth + 1, hidden || name == "properties", out);
            }
        }
    }
}
