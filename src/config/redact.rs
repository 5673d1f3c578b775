//! A pipeline as it takes effect, to be shown.

use saphyr::{LoadableYamlNode, Scalar, Yaml, YamlEmitter};

use super::Pipeline;
use super::diagnose::Report;
use super::read::{Body, Node, read};

const STARS: &str = "***";

/// The effective configuration as YAML: with all defaults and what is promised about delivery; whatever `text` (the file it was read from) takes
/// from the environment, and every value of `properties`, as `***`.
pub fn redacted(pipeline: &Pipeline, text: &str) -> String {
    let mut pipeline = pipeline.clone();
    pipeline.delivery = Some(super::effective_delivery(&pipeline).0);
    // By way of JSON, which is YAML, and which keeps the fields in their order.
    let json = serde_json::to_string(&pipeline).unwrap_or_default();
    let Some(mut yaml) = Yaml::load_from_str(&json).ok().and_then(|mut documents| documents.pop()) else {
        return String::new();
    };
    // What the variables hold is of no interest, only where they stand.
    if let Some(node) = read(text, &|_| Some(String::new()), &mut Report::default()) {
        hide(&node, &mut yaml);
    }
    tidy(&mut yaml, false);
    let mut out = String::new();
    match YamlEmitter::new(&mut out).dump(&yaml) {
        Ok(()) => out.trim_start_matches("---\n").to_owned() + "\n",
        Err(_) => String::new(),
    }
}

fn hide(node: &Node, yaml: &mut Yaml) {
    match &node.body {
        Body::Scalar(s) if s.from_env => *yaml = stars(),
        Body::Scalar(_) => {}
        Body::List(nodes) => {
            let values = yaml.as_sequence_mut().into_iter().flatten();
            nodes.iter().zip(values).for_each(|(node, yaml)| hide(node, yaml));
        }
        Body::Map(pairs) => {
            for (name, _, node) in pairs {
                if let Some((_, yaml)) = yaml.as_mapping_mut().and_then(|m| m.iter_mut().find(|(k, _)| k.as_str() == Some(name))) {
                    hide(node, yaml);
                }
            }
        }
    }
}

/// Stars for all `properties`, and nothing for what is not set.
fn tidy(yaml: &mut Yaml, secret: bool) {
    match yaml {
        Yaml::Mapping(map) => {
            map.retain(|_, value| !value.is_null());
            for (name, value) in map.iter_mut() {
                tidy(value, secret || name.as_str() == Some("properties"));
            }
        }
        Yaml::Sequence(list) => list.iter_mut().for_each(|value| tidy(value, secret)),
        scalar if secret => *scalar = stars(),
        _ => {}
    }
}

fn stars() -> Yaml<'static> {
    Yaml::Value(Scalar::String(STARS.into()))
}
