use super::*;
use proptest::prelude::*;
use serde_json::json;

fn of(config: &Value, pixels: Option<&Value>) -> Description {
    let text = |value: &Value| value.to_string().into_bytes();
    describe(Some(&text(config)), pixels.map(text).as_deref()).unwrap()
}

/// As timm 1.0 writes it for `resnet50.a1_in1k`.
fn timm() -> Value {
    json!({"architecture": "resnet50", "num_classes": 1000, "num_features": 2048, "pretrained_cfg": {
        "tag": "a1_in1k", "custom_load": false, "input_size": [3, 224, 224], "test_input_size": [3, 288, 288], "fixed_input_size": false,
        "interpolation": "bicubic", "crop_pct": 0.95, "test_crop_pct": 1.0, "crop_mode": "center", "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225], "num_classes": 1000, "pool_size": [7, 7], "first_conv": "conv1", "classifier": "fc"}})
}

/// As transformers writes it for a ResNet-50.
fn resnet() -> (Value, Value) {
    let config = json!({"architectures": ["ResNetForImageClassification"], "depths": [3, 4, 6, 3], "layer_type": "bottleneck", "hidden_act": "relu",
        "downsample_in_first_stage": false, "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "num_channels": 3,
        "id2label": {"1": "goldfish,  Carassius", "0": "tench"}});
    let pixels = json!({"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "do_normalize": true, "do_resize": true,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": 224});
    (config, pixels)
}

#[test]
fn timms_words_are_understood() {
    let said = of(&timm(), None);
    assert_eq!(said.arch.as_deref(), Ok("resnet50"));
    let preprocess = said.preprocess.unwrap().unwrap();
    assert_eq!((preprocess.resize, preprocess.crop, preprocess.interpolation), (235, 224, Interpolation::Bicubic));
    let (labels, from) = said.labels.unwrap();
    assert_eq!((labels.len(), labels[281].as_str(), from), (1000, "tabby", "ImageNet-1k, as its tag says"));
    let mut own = timm();
    own["label_names"] = json!(["n1", "n2"]);
    own["label_descriptions"] = json!({"n2": "a cat"});
    assert_eq!(of(&own, None).labels.unwrap().0, ["n1", "a cat"]);
}

#[test]
fn transformers_words_are_understood() {
    let (config, pixels) = resnet();
    let said = of(&config, Some(&pixels));
    assert_eq!(said.arch.as_deref(), Ok("resnet50"));
    assert_eq!(said.labels.unwrap().0, ["tench", "goldfish, Carassius"]);
    let preprocess = said.preprocess.unwrap().unwrap();
    assert_eq!((preprocess.resize, preprocess.resize_mode, preprocess.crop, preprocess.scale), (256, ResizeMode::Short, 224, 255.0));
    let mut other = pixels.clone();
    other["size"] = json!({"shortest_edge": 384});
    let preprocess = of(&config, Some(&other)).preprocess.unwrap().unwrap();
    assert_eq!((preprocess.resize, preprocess.resize_mode, preprocess.crop), (384, ResizeMode::Exact, 384));
    let vit = json!({"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2, "rescale_factor": 1.0 / 255.0,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]});
    let preprocess = of(&config, Some(&vit)).preprocess.unwrap().unwrap();
    assert_eq!((preprocess.resize, preprocess.resize_mode, preprocess.crop, preprocess.mean), (224, ResizeMode::Exact, 224, [0.5; 3]));
    assert!((preprocess.scale - 255.0).abs() < 1e-3);
}

#[test]
fn what_cannot_be_done_here_is_refused_by_its_name() {
    let (config, pixels) = resnet();
    for (field, value) in [
        ("resample", json!(1)),
        ("resample", Value::Null),
        ("size", json!({"height": 2})),
        ("crop_pct", json!(0)),
        ("image_std", json!([1, 1])),
        ("do_resize", json!(false)),
        ("rescale_factor", json!(-1)),
        ("rescale_offset", json!(true)),
        ("feature_extractor_type", json!("Mask2FormerImageProcessor")),
    ] {
        let mut changed = pixels.clone();
        changed[field] = value;
        let error = of(&config, Some(&changed)).preprocess.unwrap().unwrap_err();
        assert!(error.contains(field) || field == "feature_extractor_type" && error.contains("Mask2Former"), "{field}: {error}");
    }
    for (field, value) in [
        ("crop_mode", json!("border")),
        ("interpolation", json!("lanczos")),
        ("input_size", json!([3, 224, 192])),
        ("crop_pct", json!(2)),
        ("mean", json!([])),
    ] {
        let mut changed = timm();
        changed["pretrained_cfg"][field] = value;
        let error = of(&changed, None).preprocess.unwrap().unwrap_err();
        assert!(error.contains(field), "{field}: {error}");
    }
    for (field, value) in [("downsample_in_bottleneck", json!(true)), ("depths", json!([1, 2])), ("hidden_act", json!("gelu"))] {
        let mut changed = config.clone();
        changed[field] = value;
        assert!(of(&changed, Some(&pixels)).arch.is_err(), "{field}");
    }
    let mut changed = timm();
    changed["model_args"] = json!({"output_stride": 8});
    assert!(of(&changed, None).arch.unwrap_err().contains("output_stride"));
    assert!(of(&json!({"architecture": "resnet50d"}), None).arch.unwrap_err().contains("resnet50d"));
    assert!(describe(Some(br#"{"id2label": {"0": "a", "2": "b"}}"#), None).unwrap_err().contains("id2label"));
    assert!(describe(Some(br#"{"id2label": {"0": "a", "00": "b"}}"#), None).is_err());
    assert!(describe(Some(b"[]"), None).is_err() && describe(None, Some(b"{")).is_err());
    assert_eq!(describe(None, None).unwrap().preprocess, None);
}

/// Any value that JSON can have.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_]{0,12}".prop_map(Value::from),
    ];
    let fields = ["size", "shortest_edge", "height", "width", "crop_pct", "input_size", "mean", "0", "1"];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((prop::sample::select(fields.to_vec()), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_description_panics_and_none_is_taken_that_the_model_file_refuses(
        which in 0usize..3, at in any::<prop::sample::Index>(), with in value(),
    ) {
        let ((mut config, mut pixels), mut timm) = (resnet(), timm());
        let changed = match which {
            0 => &mut config,
            1 => &mut pixels,
            _ => &mut timm["pretrained_cfg"],
        };
        let fields = changed.as_object_mut().unwrap();
        let name = fields.keys().nth(at.index(fields.len())).unwrap().clone();
        fields.insert(name, with);
        for said in [of_any(&config, Some(&pixels)), of_any(&timm, None)].into_iter().flatten() {
            if let Some(Ok(p)) = said.preprocess {
                prop_assert!((1..=4096).contains(&p.resize) && (1..=p.resize).contains(&p.crop) && p.scale > 0.0 && p.scale.is_finite());
                prop_assert!(p.std.iter().all(|s| *s > 0.0 && s.is_finite()) && p.mean.iter().all(|m| m.is_finite()));
            }
        }
    }
}

fn of_any(config: &Value, pixels: Option<&Value>) -> Option<Description> {
    let text = |value: &Value| value.to_string().into_bytes();
    describe(Some(&text(config)), pixels.map(text).as_deref()).ok()
}
