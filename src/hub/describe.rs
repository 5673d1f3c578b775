//! What a repository's `config.json` and `preprocessor_config.json` say of its model. What cannot be expressed here is refused by its name: a picture
//! that is prepared in another way than in training gives wrong labels and no error.

use serde_json::{Map, Value};

use super::known::IMAGENET;
use crate::config::{Interpolation, Preprocess, ResizeMode};
use crate::telemetry::escape;

/// How deep each stage is, by kind of block (He et al., "Deep residual learning for image recognition", 2015, table 1).
const DEPTHS: &[(&str, [u64; 4], &str)] = &[
    ("basic", [2, 2, 2, 2], "resnet18"),
    ("basic", [3, 4, 6, 3], "resnet34"),
    ("bottleneck", [3, 4, 6, 3], "resnet50"),
    ("bottleneck", [3, 4, 23, 3], "resnet101"),
    ("bottleneck", [3, 8, 36, 3], "resnet152"),
];

/// What the files say.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The network, if it is one that is built in; else why not.
    pub arch: Result<&'static str, String>,
    /// Names of the classes, and what they were read from.
    pub labels: Option<(Vec<String>, &'static str)>,
    /// How a picture is prepared, if they say it; else why that cannot be done here.
    pub preprocess: Option<Result<Preprocess, String>>,
}

/// Reads the text of the two files, of which each may be missing.
///
/// # Errors
/// If one of them is no JSON object, or contradicts itself.
pub fn describe(config: Option<&[u8]>, preprocessor: Option<&[u8]>) -> Result<Description, String> {
    let parse = |name: &str, text: Option<&[u8]>| match text.map(serde_json::from_slice) {
        None => Ok(Map::new()),
        Some(Ok(Value::Object(map))) => Ok(map),
        Some(Ok(_)) => Err(format!("{name} is no JSON object")),
        Some(Err(e)) => Err(format!("{name} is no JSON: {e}")),
    };
    let (file, pixels) = (parse("config.json", config)?, parse("preprocessor_config.json", preprocessor)?);
    let timm = file.get("pretrained_cfg").and_then(Value::as_object);
    let preprocess = match (timm, pixels.is_empty()) {
        (Some(timm), true) => Some(of_timm(timm)),
        (_, false) => Some(of_transformers(&pixels)),
        (None, true) => None,
    };
    Ok(Description { arch: arch(&file, timm), labels: labels(&file, timm)?, preprocess })
}

fn arch(file: &Map<String, Value>, timm: Option<&Map<String, Value>>) -> Result<&'static str, String> {
    if let Some(name) = file.get("architecture").and_then(Value::as_str) {
        if let Some(arguments) = file.get("model_args").and_then(Value::as_object).filter(|a| !a.is_empty()) {
            let which = arguments.keys().map(|k| escape(k)).collect::<Vec<_>>().join(", ");
            return Err(format!("its config.json changes the network ({which} in model_args)"));
        }
        if timm.and_then(|t| t.get("label_offset")).and_then(Value::as_i64).is_some_and(|n| n != 0) {
            return Err("its classes do not begin with the first logit (label_offset)".into());
        }
        let built_in = DEPTHS.iter().find(|(_, _, arch)| *arch == name);
        return built_in.map(|(_, _, arch)| *arch).ok_or_else(|| no_such(name));
    }
    let of = file.get("architectures").and_then(Value::as_array).and_then(|a| a.first()).and_then(Value::as_str);
    match of {
        Some("ResNetForImageClassification") => {}
        Some(other) => return Err(no_such(other)),
        None => return Err("its config.json names no architecture".into()),
    }
    for (field, usual) in [
        ("downsample_in_bottleneck", Value::Bool(false)),
        ("downsample_in_first_stage", Value::Bool(false)),
        ("hidden_act", "relu".into()),
        ("num_channels", 3.into()),
        ("embedding_size", 64.into()),
    ] {
        if let Some(value) = file.get(field).filter(|value| **value != usual) {
            return Err(format!("its {field} is {}, where {usual} is built in", escape(&value.to_string())));
        }
    }
    let depths: Vec<u64> = file.get("depths").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64).collect();
    let layer = file.get("layer_type").and_then(Value::as_str).unwrap_or("bottleneck");
    let built_in = DEPTHS.iter().find(|(kind, blocks, _)| *kind == layer && depths == blocks);
    built_in.map(|(_, _, arch)| *arch).ok_or_else(|| no_such(&format!("a ResNet of {layer} blocks {depths:?}")))
}

fn no_such(name: &str) -> String {
    let built_in = DEPTHS.iter().map(|(_, _, arch)| *arch).collect::<Vec<_>>().join(", ");
    let name: String = escape(name).chars().take(80).collect();
    format!("its network is {name}, which is not built in ({built_in} are)")
}

/// `id2label` of transformers, `label_names` of timm; ImageNet-1k's where timm's tag ends so.
fn labels(file: &Map<String, Value>, timm: Option<&Map<String, Value>>) -> Result<Option<(Vec<String>, &'static str)>, String> {
    let clean = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(map) = file.get("id2label").and_then(Value::as_object) {
        let mut names = vec![None; map.len()];
        for (index, name) in map {
            let slot = index.parse::<usize>().ok().and_then(|i| names.get_mut(i));
            match (slot, name.as_str()) {
                (Some(slot), Some(name)) => *slot = Some(clean(name)),
                _ => return Err(format!("id2label in its config.json does not number its {} classes from 0 on", map.len())),
            }
        }
        let names: Option<Vec<String>> = names.into_iter().collect();
        return names.map(|names| Some((names, "id2label"))).ok_or_else(|| "id2label in its config.json names a class twice".into());
    }
    let find = |field| file.get(field).or_else(|| timm.and_then(|t| t.get(field)));
    if let Some(names) = find("label_names").and_then(Value::as_array) {
        let texts = find("label_descriptions").and_then(Value::as_object);
        let name = |name: &Value| {
            let id = name.as_str()?;
            Some(clean(texts.and_then(|t| t.get(id)).and_then(Value::as_str).unwrap_or(id)))
        };
        let names: Option<Vec<String>> = names.iter().map(name).collect();
        return names.map(|names| Some((names, "label_names"))).ok_or_else(|| "label_names in its config.json are not all text".into());
    }
    let classes = file.get("num_classes").or_else(|| timm.and_then(|t| t.get("num_classes"))).and_then(Value::as_u64);
    let tag = timm.and_then(|t| t.get("tag")).and_then(Value::as_str).unwrap_or_default();
    if classes == Some(1000) && (tag == "in1k" || tag.ends_with("_in1k")) {
        return Ok(Some((IMAGENET.lines().map(str::to_owned).collect(), "ImageNet-1k, as its tag says")));
    }
    Ok(None)
}

/// What `timm.data.create_transform` makes of it for evaluation.
fn of_timm(timm: &Map<String, Value>) -> Result<Preprocess, String> {
    let wrong =
        |field: &str, value: &Value| Err(format!("{field} in pretrained_cfg is {}, which cannot be done here", escape(&value.to_string())));
    let input = timm.get("input_size").unwrap_or(&Value::Null);
    let crop = match input.as_array().map(Vec::as_slice) {
        Some([channels, height, width]) if channels.as_u64() == Some(3) && height == width => height.as_u64(),
        _ => None,
    };
    let Some(crop) = crop.filter(|c| (1..=4096).contains(c)) else { return wrong("input_size", input) };
    let share = timm.get("crop_pct").unwrap_or(&Value::Null);
    let Some(share) = share.as_f64().filter(|s| *s > 0.0 && *s <= 1.0) else { return wrong("crop_pct", share) };
    let resize_mode = match timm.get("crop_mode").map_or(Some("center"), Value::as_str) {
        Some("center") => ResizeMode::Short,
        Some("squash") => ResizeMode::Exact,
        _ => return wrong("crop_mode", timm.get("crop_mode").unwrap_or(&Value::Null)),
    };
    let interpolation = match timm.get("interpolation").and_then(Value::as_str) {
        Some("bilinear") => Interpolation::Bilinear,
        Some("bicubic") => Interpolation::Bicubic,
        _ => return wrong("interpolation", timm.get("interpolation").unwrap_or(&Value::Null)),
    };
    let channels = |field: &str| three(timm.get(field)).ok_or_else(|| format!("{field} in pretrained_cfg is not three numbers"));
    sensible(Preprocess {
        resize: (crop as f64 / share).floor() as u32,
        resize_mode,
        crop: crop as u32,
        interpolation,
        mean: channels("mean")?,
        std: channels("std")?,
        ..Preprocess::default()
    })
}

/// What transformers' image processors make of it.
fn of_transformers(file: &Map<String, Value>) -> Result<Preprocess, String> {
    let wrong = |field: &str, value: &Value| {
        Err(format!("{field} in preprocessor_config.json is {}, which cannot be done here", escape(&value.to_string())))
    };
    let get = |field: &str| file.get(field).filter(|v| !v.is_null());
    let flag = |field: &str, otherwise: bool| {
        get(field).map_or(Some(otherwise), Value::as_bool).ok_or_else(|| format!("{field} is neither true nor false"))
    };
    let kind = get("image_processor_type").or_else(|| get("feature_extractor_type")).and_then(Value::as_str).unwrap_or_default();
    let family = ["ImageProcessorFast", "ImageProcessor", "FeatureExtractor"].iter().find_map(|end| kind.strip_suffix(end)).unwrap_or(kind);
    if !flag("do_resize", true)? {
        return wrong("do_resize", &Value::Bool(false));
    }
    let size = get("size").unwrap_or(&Value::Null);
    let side = |v: Option<&Value>| v.and_then(Value::as_u64).filter(|n| (1..=4096).contains(n)).map(|n| n as u32);
    let square = |v: &Value| side(v.get("height")).filter(|h| side(v.get("width")) == Some(*h));
    let (resize, resize_mode, crop) = match family {
        // A share of the short side below 384, the whole picture bent to a square from there on.
        "ConvNext" => {
            let Some(to) = side(Some(size)).or_else(|| side(size.get("shortest_edge"))) else { return wrong("size", size) };
            let share = get("crop_pct").map_or(Some(224.0 / 256.0), Value::as_f64).filter(|s| *s > 0.0 && *s <= 1.0);
            let Some(share) = share else { return wrong("crop_pct", get("crop_pct").unwrap_or(&Value::Null)) };
            if to < 384 { ((f64::from(to) / share) as u32, ResizeMode::Short, to) } else { (to, ResizeMode::Exact, to) }
        }
        "ViT" | "DeiT" | "Bit" | "CLIP" => {
            let (resize, mode) = match (side(Some(size)), side(size.get("shortest_edge")), square(size)) {
                (Some(to), _, _) if family == "Bit" || family == "CLIP" => (to, ResizeMode::Short),
                (_, Some(to), _) => (to, ResizeMode::Short),
                (Some(to), _, _) | (_, _, Some(to)) => (to, ResizeMode::Exact),
                _ => return wrong("size", size),
            };
            let cut = flag("do_center_crop", family != "ViT")?;
            let crop = get("crop_size").unwrap_or(&Value::Null);
            match (cut, mode) {
                (true, _) => match side(Some(crop)).or_else(|| square(crop)) {
                    Some(crop) => (resize, mode, crop),
                    None => return wrong("crop_size", crop),
                },
                (false, ResizeMode::Exact) => (resize, mode, resize),
                (false, ResizeMode::Short) => return wrong("do_center_crop", &Value::Bool(false)),
            }
        }
        _ => return wrong("image_processor_type", &Value::String(kind.to_owned())),
    };
    let interpolation = match get("resample").and_then(Value::as_u64) {
        Some(2) => Interpolation::Bilinear,
        Some(3) => Interpolation::Bicubic,
        _ => return wrong("resample", get("resample").unwrap_or(&Value::Null)),
    };
    // Rescaling divides by 255 unless it says otherwise; without it the numbers go in as they are.
    let scale = match (flag("do_rescale", true)?, get("rescale_factor")) {
        (false, _) => 1.0,
        (true, None) => 255.0,
        (true, Some(factor)) => match factor.as_f64().filter(|f| *f > 0.0) {
            Some(factor) => (1.0 / factor) as f32,
            None => return wrong("rescale_factor", factor),
        },
    };
    if get("rescale_offset").and_then(Value::as_bool) == Some(true) {
        return wrong("rescale_offset", &Value::Bool(true));
    }
    let (mean, std) = if flag("do_normalize", true)? {
        let channels = |field: &str| three(get(field)).ok_or_else(|| format!("{field} in preprocessor_config.json is not three numbers"));
        (channels("image_mean")?, channels("image_std")?)
    } else {
        ([0.0; 3], [1.0; 3])
    };
    sensible(Preprocess { resize, resize_mode, crop, interpolation, scale, mean, std, ..Preprocess::default() })
}

fn three(value: Option<&Value>) -> Option<[f32; 3]> {
    let numbers: Option<Vec<f32>> = value?.as_array()?.iter().map(|n| n.as_f64().map(|n| n as f32).filter(|n| n.is_finite())).collect();
    numbers?.try_into().ok()
}

fn sensible(preprocess: Preprocess) -> Result<Preprocess, String> {
    if preprocess.std.iter().any(|s| *s <= 0.0) {
        return Err("a standard deviation is 0 or less".into());
    }
    if preprocess.resize < preprocess.crop {
        return Err(format!(
            "a square of {} is cut from a picture of {}, which would have to be padded",
            preprocess.crop, preprocess.resize
        ));
    }
    if !preprocess.scale.is_finite() || preprocess.scale <= 0.0 {
        return Err("rescale_factor is no factor that pixels can be divided by".into());
    }
    if preprocess.resize > 4096 {
        return Err(format!("pictures are enlarged to {} pixels, more than 4096", preprocess.resize));
    }
    Ok(preprocess)
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
